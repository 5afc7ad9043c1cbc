//! Debian package files: an `ar` archive of two tar archives, control data and files; deb(5). And the filter
//! under which they are installed ([`quiet_sync`]).
//!
//! Depot and installer both unpack them, so that a node that installs itself gets what a role image has.
//! Nothing here decides what a package is: its hash is checked by whoever opens it.

pub mod quiet_sync;
pub mod unpacker;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path};

const AR_MAGIC: &[u8; 8] = b"!<arch>\n";
const AR_HEADER: usize = 60;

/// An open package.
#[derive(Debug)]
pub struct Deb {
    file: File,
    members: Vec<Member>,
}

/// A member of an `ar` archive: where its content is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    name: String,
    start: u64,
    size: u64,
}

fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Deb {
    /// Reads the table of a package.
    ///
    /// # Errors
    /// When it is no package, or cannot be read.
    pub fn new(mut file: File) -> io::Result<Deb> {
        let members = members(&mut file)?;
        Ok(Deb { file, members })
    }

    /// Unpacks its files below `root`, but for those that `wanted` refuses.
    ///
    /// # Errors
    /// When the package is damaged, a path leaves the root, or something cannot be written.
    pub fn unpack(&self, root: &Path, wanted: &dyn Fn(&Path) -> bool) -> io::Result<()> {
        let mut archive = tar::Archive::new(self.data()?);
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(true);
        archive.set_overwrite(true);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            if !wanted(&path) || is_merged_link(&path, root) {
                continue;
            }
            if !entry.unpack_in(root)? {
                return Err(malformed(format!("{} leaves the root", path.display())));
            }
        }
        Ok(())
    }

    /// Its control paragraph, ending with a line end.
    ///
    /// # Errors
    /// When the package is damaged.
    pub fn control(&self) -> io::Result<String> {
        let mut bytes = Vec::new();
        self.control_archive()?.read_to_end(&mut bytes)?;
        control_of(&bytes)
    }

    /// The archive of its files, unpacked from its compression.
    fn data(&self) -> io::Result<impl Read + '_> {
        let (_, reader) = open(&self.file, self.member("data.tar")?)?;
        Ok(io::BufReader::with_capacity(1 << 20, reader))
    }

    /// The archive of what it says of itself, unpacked from its compression.
    fn control_archive(&self) -> io::Result<impl Read + '_> {
        Ok(open(&self.file, self.member("control.tar")?)?.1)
    }

    fn member(&self, name: &str) -> io::Result<&Member> {
        let found = self.members.iter().find(|member| member.name.starts_with(name));
        found.ok_or_else(|| malformed(format!("it has no {name}")))
    }
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

fn members(file: &mut File) -> io::Result<Vec<Member>> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut magic = [0; AR_MAGIC.len()];
    file.read_exact(&mut magic)?;
    if &magic != AR_MAGIC {
        return Err(malformed("it is no ar archive"));
    }
    let mut found = Vec::new();
    let mut at = AR_MAGIC.len() as u64;
    while at < length {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0; AR_HEADER];
        file.read_exact(&mut header)?;
        let (name, size) =
            parse_header(&header).ok_or_else(|| malformed("a member's header is bad"))?;
        let start = at + AR_HEADER as u64;
        if size > length - start {
            return Err(malformed("it is cut off"));
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
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(AR_MAGIC).unwrap();
            file.write_all(&bytes).unwrap();
            let _ = Deb::new(file);
        }
    }
}
