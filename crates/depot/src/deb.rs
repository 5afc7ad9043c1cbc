//! Package files: an `ar` archive of two tar archives, control data and files.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

use crate::archive::fetch::{Expected, check};
use crate::error::DepotError;
use crate::lock::PinnedPackage;

const AR_MAGIC: &[u8; 8] = b"!<arch>\n";
const AR_HEADER: usize = 60;

/// The same package with its parts unpacked from their compression, so that dpkg
/// need not do it (several times, one package after the other).
#[derive(Clone, Debug)]
pub(crate) struct Flat {
    /// The new `.deb`.
    pub(crate) path: PathBuf,
    /// Its size.
    pub(crate) size: u64,
    /// Its own SHA-256.
    pub(crate) sha256: String,
    /// The package's control paragraph, ending with a line end.
    pub(crate) control: String,
}

/// A member of an `ar` archive: where its content is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    name: String,
    start: u64,
    size: u64,
}

fn malformed(pin: &PinnedPackage, problem: impl std::fmt::Display) -> DepotError {
    DepotError::Package { name: pin.name.clone(), problem: problem.to_string() }
}

/// Checks `source` against its pin and writes it uncompressed to `target`.
pub(crate) fn flatten(
    pin: &PinnedPackage,
    source: &Path,
    target: &Path,
) -> Result<Flat, DepotError> {
    let mut file = File::open(source).map_err(DepotError::io("open", source))?;
    let expected = Expected { file: &pin.filename, sha256: &pin.sha256, size: pin.size };
    check(expected, &mut file).map_err(DepotError::io("read", source))??;
    let members = members(&mut file).map_err(|e| malformed(pin, e))?;
    let mut new = io::BufWriter::with_capacity(
        1 << 20,
        File::create_new(target).map_err(DepotError::io("make", target))?,
    );
    new.write_all(AR_MAGIC).map_err(DepotError::io("write", target))?;
    let mut control = String::new();
    for member in &members {
        let (name, reader) = open(&file, member).map_err(|e| malformed(pin, e))?;
        if name == "control.tar" {
            let mut bytes = Vec::new();
            { reader }.read_to_end(&mut bytes).map_err(|e| malformed(pin, e))?;
            control = control_of(&bytes).map_err(|e| malformed(pin, e))?;
            add(&mut new, name, &mut bytes.as_slice()).map_err(DepotError::io("write", target))?;
        } else {
            add(&mut new, name, &mut { reader }).map_err(|e| malformed(pin, e))?;
        }
    }
    new.flush().map_err(DepotError::io("write", target))?;
    if control.is_empty() {
        return Err(malformed(pin, "it has no control paragraph"));
    }
    let (size, sha256) = crate::hash::of_file(target).map_err(DepotError::io("read", target))?;
    Ok(Flat { path: target.to_owned(), size, sha256, control })
}

/// Unpacks a package's files below `root`, but for those that `wanted` refuses.
pub(crate) fn unpack(
    pin: &PinnedPackage,
    deb: &Path,
    root: &Path,
    wanted: &dyn Fn(&Path) -> bool,
) -> Result<(), DepotError> {
    let mut file = File::open(deb).map_err(DepotError::io("open", deb))?;
    let members = members(&mut file).map_err(|e| malformed(pin, e))?;
    let data = members.iter().find(|m| m.name.starts_with("data.tar"));
    let data = data.ok_or_else(|| malformed(pin, "it has no data.tar"))?;
    let (_, reader) = open(&file, data).map_err(|e| malformed(pin, e))?;
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(1 << 20, reader));
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_overwrite(true);
    for entry in archive.entries().map_err(|e| malformed(pin, e))? {
        let mut entry = entry.map_err(|e| malformed(pin, e))?;
        let path = entry.path().map_err(|e| malformed(pin, e))?.into_owned();
        if !wanted(&path) || is_merged_link(&path, root) {
            continue;
        }
        let unpacked = entry.unpack_in(root).map_err(DepotError::io("unpack to", root))?;
        if !unpacked {
            return Err(malformed(pin, format!("{} leaves the root", path.display())));
        }
    }
    Ok(())
}

/// Whether a path is one of the root's own links into `/usr`, made before: packages
/// unpacked at the same time rely on it.
fn is_merged_link(path: &Path, root: &Path) -> bool {
    let mut parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
    match (parts.next(), parts.next()) {
        (Some(first), None) => root.join(first).is_symlink(),
        _ => false,
    }
}

/// A package's control paragraph.
pub(crate) fn control(pin: &PinnedPackage, deb: &Path) -> Result<String, DepotError> {
    let mut file = File::open(deb).map_err(DepotError::io("open", deb))?;
    let members = members(&mut file).map_err(|e| malformed(pin, e))?;
    let control = members.iter().find(|m| m.name.starts_with("control.tar"));
    let control = control.ok_or_else(|| malformed(pin, "it has no control.tar"))?;
    let (_, mut reader) = open(&file, control).map_err(|e| malformed(pin, e))?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|e| malformed(pin, e))?;
    control_of(&bytes).map_err(|e| malformed(pin, e))
}

fn members(file: &mut File) -> io::Result<Vec<Member>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut magic = [0; AR_MAGIC.len()];
    file.read_exact(&mut magic)?;
    if &magic != AR_MAGIC {
        return Err(bad("it is no ar archive"));
    }
    let mut found = Vec::new();
    let mut at = AR_MAGIC.len() as u64;
    while at < length {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0; AR_HEADER];
        file.read_exact(&mut header)?;
        let (name, size) = parse_header(&header).ok_or_else(|| bad("a member's header is bad"))?;
        let start = at + AR_HEADER as u64;
        if size > length - start {
            return Err(bad("it is cut off"));
        }
        found.push(Member { name, start, size });
        at = start + size + size % 2;
    }
    Ok(found)
}

fn parse_header(header: &[u8; AR_HEADER]) -> Option<(String, u64)> {
    let text = |range: std::ops::Range<usize>| std::str::from_utf8(&header[range]).ok();
    if &header[58..] != b"`\n" {
        return None;
    }
    let name = text(0..16)?.trim_end().trim_end_matches('/');
    Some((name.to_owned(), text(48..58)?.trim_end().parse().ok()?))
}

/// A member's name without the ending of its compression, and its plain content.
fn open<'a>(file: &'a File, member: &Member) -> io::Result<(&'static str, Box<dyn Read + 'a>)> {
    let mut file = file;
    file.seek(SeekFrom::Start(member.start))?;
    let raw = file.take(member.size);
    let (stem, ending) = match member.name.as_str() {
        "debian-binary" => return Ok(("debian-binary", Box::new(raw))),
        name if name.starts_with("control.tar") => ("control.tar", &name["control.tar".len()..]),
        name if name.starts_with("data.tar") => ("data.tar", &name["data.tar".len()..]),
        name => return Err(io::Error::other(format!("unknown member {name}"))),
    };
    let buffered = io::BufReader::with_capacity(256 << 10, raw);
    let reader: Box<dyn Read> = match ending {
        "" => Box::new(buffered),
        ".xz" => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(buffered)),
        ".gz" => Box::new(flate2::bufread::GzDecoder::new(buffered)),
        other => return Err(io::Error::other(format!("compression {other} is not known"))),
    };
    Ok((stem, reader))
}

fn add<W: Write + Seek>(new: &mut W, name: &str, content: &mut dyn Read) -> io::Result<()> {
    let header_at = new.stream_position()?;
    new.write_all(&[b' '; AR_HEADER])?;
    let size = io::copy(content, new)?;
    if size % 2 == 1 {
        new.write_all(b"\n")?;
    }
    let end = new.stream_position()?;
    new.seek(SeekFrom::Start(header_at))?;
    let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, "100644");
    new.write_all(header.as_bytes())?;
    new.seek(SeekFrom::Start(end))?;
    Ok(())
}

fn control_of(tar: &[u8]) -> io::Result<String> {
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        if entry.path()?.file_name().is_some_and(|name| name == "control") {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            return Ok(format!("{}\n", text.trim_end_matches('\n')));
        }
    }
    Ok(String::new())
}

#[cfg(test)]
#[path = "deb_tests.rs"]
mod tests;
