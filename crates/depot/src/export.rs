//! A site's software as one file: what a host without a network needs to bring the site up.
//!
//! ```text
//! gridgate-export.json      every other file with its size and SHA-256, first in the archive
//! site.lock                 the lock
//! profile.json              the site's profile, opaque to the depot; may be missing
//! index/SUITE.InRelease     Debian's signed release files
//! index/SHA256.xz           the package indexes they vouch for
//! packages/SHA256.deb       every package of the lock
//! ```
//!
//! It is a tar archive. It holds Debian's own files alone, no tree and no image: those are made again of
//! the packages, so nothing has to be believed that Debian has not signed or the lock does not name.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::archive::fetch::FetchError;
use crate::archive::index::is_sha256;
use crate::archive::keyring::Keyring;
use crate::archive::stored;
use crate::error::DepotError;
use crate::files;
use crate::hash;
use crate::lock::Lock;
use crate::progress::{DepotEvent, Progress, Stage, Unit};
use crate::stage::Timer;
use crate::store::Store;

/// Name of the first file.
pub(crate) const MANIFEST: &str = "gridgate-export.json";
pub(crate) const LOCK: &str = "site.lock";
pub(crate) const PROFILE: &str = "profile.json";

/// The form of archive that this build writes and reads.
pub(crate) const VERSION: u32 = 1;

/// Progress is told after so many bytes.
const TOLD_EVERY: u64 = 8 << 20;

/// Room for the archive's own headers, bytes a file.
const HEADERS: u64 = 1536;

/// What is in the archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) version: u32,
    /// Site name.
    pub(crate) site: String,
    pub(crate) files: Vec<Entry>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Path in the archive.
    pub(crate) path: String,
    /// Size in bytes.
    pub(crate) size: u64,
    /// SHA-256, hex.
    pub(crate) sha256: String,
}

/// What kind of file a path in the archive is. Anything else is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lock,
    Profile,
    Release(String),
    Index(String),
    Package(String),
}

impl Kind {
    /// Reads a path; only the forms above exist, so that none can lead elsewhere.
    pub(crate) fn of(path: &str) -> Option<Kind> {
        let hash = |text: &str| {
            (is_sha256(text) && !text.bytes().any(|b| b.is_ascii_uppercase()))
                .then(|| text.to_owned())
        };
        match path.split_once('/') {
            None if path == LOCK => Some(Kind::Lock),
            None if path == PROFILE => Some(Kind::Profile),
            Some(("index", name)) => match name.strip_suffix(".InRelease") {
                Some(suite) => stored::is_suite(suite).then(|| Kind::Release(suite.to_owned())),
                None => Some(Kind::Index(hash(name.strip_suffix(".xz")?)?)),
            },
            Some(("packages", name)) => Some(Kind::Package(hash(name.strip_suffix(".deb")?)?)),
            _ => None,
        }
    }
}

/// What an export holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// How many packages.
    pub packages: usize,
    /// Debian suites whose signed indexes are in it.
    pub suites: Vec<String>,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// Where a file of the archive comes from.
enum Source {
    Stored(PathBuf),
    Text(Vec<u8>),
}

/// A file of the archive and its content.
type Part = (Entry, Source);

/// What is exported.
pub(crate) struct Export<'a> {
    pub(crate) store: &'a Store,
    pub(crate) keyring: &'a Keyring,
    pub(crate) site: &'a str,
    pub(crate) lock: &'a Lock,
    pub(crate) profile: Option<&'a [u8]>,
}

impl Export<'_> {
    /// Writes the archive to `target`: beside it first, renamed when it is on disk. What a killed run left beside it is
    /// removed.
    pub(crate) fn write(
        &self,
        target: &Path,
        progress: &dyn Progress,
    ) -> Result<Exported, DepotError> {
        let (entries, suites) = self.collect()?;
        let total: u64 = entries.iter().map(|(entry, _)| entry.size + HEADERS).sum();
        let folder =
            target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        files::need_space(folder, "write the export", total)?;
        let timer = Timer::start(
            progress,
            "depot",
            Stage::Export,
            format!("{} MiB", total.div_ceil(1 << 20)),
        );
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let new = folder.join(format!(".{name}.new"));
        let written = write(self.site, &entries, &new, total, progress)
            .and_then(|()| fs::rename(&new, target).map_err(DepotError::io("write", target)));
        if written.is_err() {
            // A half of it is of no use to anybody; that it cannot be removed says nothing new.
            let _ = fs::remove_file(&new);
        }
        written?;
        timer.finish(progress);
        let bytes = fs::metadata(target).map_err(DepotError::io("look at", target))?.len();
        let package = |entry: &&Part| entry.0.path.starts_with("packages/");
        Ok(Exported { packages: entries.iter().filter(package).count(), suites, bytes })
    }

    fn collect(&self) -> Result<(Vec<Part>, Vec<String>), DepotError> {
        let Export { store, keyring, lock, profile, .. } = *self;
        let mut entries = vec![text(LOCK, lock.to_text().into_bytes())];
        entries.extend(profile.map(|bytes| text(PROFILE, bytes.to_vec())));
        let dir = store.folder("index");
        let suites = stored::suites(&dir);
        for suite in &suites {
            let path = stored::release_path(&dir, suite);
            let bytes = fs::read(&path).map_err(DepotError::io("read", &path))?;
            let release = stored::verify(&bytes, suite, keyring)?;
            let listed = stored::packages(&release, suite)?;
            entries.push(text(&format!("index/{suite}.InRelease"), bytes));
            let (path, sha256) = (stored::packages_path(&dir, listed), listed.sha256.clone());
            let name = format!("index/{sha256}.xz");
            entries.push((Entry { path: name, size: listed.size, sha256 }, Source::Stored(path)));
        }
        let mut missing = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for package in lock.packages() {
            if !seen.insert(&package.sha256) {
                continue;
            }
            if !store.has(package) {
                missing.push(format!("{} {}", package.name, package.version));
            }
            let (size, sha256) = (package.size, package.sha256.clone());
            let entry = Entry { path: format!("packages/{sha256}.deb"), size, sha256 };
            entries.push((entry, Source::Stored(store.path(&package.sha256))));
        }
        match missing.first() {
            None => Ok((entries, suites)),
            Some(first) => {
                Err(DepotError::Incomplete { count: missing.len(), first: first.clone() })
            }
        }
    }
}

fn text(path: &str, bytes: Vec<u8>) -> Part {
    let (size, sha256) = (bytes.len() as u64, hash::of_bytes(&bytes));
    (Entry { path: path.to_owned(), size, sha256 }, Source::Text(bytes))
}

fn write(
    site: &str,
    entries: &[Part],
    new: &Path,
    total: u64,
    progress: &dyn Progress,
) -> Result<(), DepotError> {
    let fail = || DepotError::io::<io::Error>("write", new);
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail()(error)),
        _ => {}
    }
    let file = File::create_new(new).map_err(fail())?;
    let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 20, file));
    let files = entries.iter().map(|(entry, _)| entry.clone()).collect();
    let manifest = Manifest { version: VERSION, site: site.to_owned(), files };
    let manifest = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    add(&mut archive, MANIFEST, manifest.len() as u64, manifest.as_slice()).map_err(fail())?;
    let (mut done, mut told) = (0, 0);
    for (entry, source) in entries {
        match source {
            Source::Text(bytes) => {
                add(&mut archive, &entry.path, entry.size, bytes.as_slice()).map_err(fail())?;
            }
            Source::Stored(path) => stored_file(&mut archive, entry, path, new)?,
        }
        done += entry.size + HEADERS;
        if done - told >= TOLD_EVERY {
            told = done;
            let (subject, stage, unit) = ("depot".to_owned(), Stage::Export, Unit::Bytes);
            progress.event(DepotEvent::StageProgress { subject, stage, done, total, unit });
        }
    }
    let buffer = archive.into_inner().map_err(fail())?;
    buffer.into_inner().map_err(|error| fail()(error.into_error()))?.sync_all().map_err(fail())
}

/// A file of the depot: damage is found while it is written, not where it is unpacked.
fn stored_file<W: Write>(
    archive: &mut tar::Builder<W>,
    entry: &Entry,
    path: &Path,
    new: &Path,
) -> Result<(), DepotError> {
    let file = File::open(path).map_err(DepotError::io("open", path))?;
    let size = file.metadata().map_err(DepotError::io("look at", path))?.len();
    if size != entry.size {
        let (file, expected) = (entry.path.clone(), entry.size);
        return Err(FetchError::WrongSize { file, expected, found: size }.into());
    }
    let mut reader = Hashing::new(file.take(size));
    add(archive, &entry.path, size, &mut reader).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => DepotError::io("write", new)(error),
        _ => DepotError::io("export", path)(error),
    })?;
    let found = reader.finish();
    if found == entry.sha256 {
        return Ok(());
    }
    let (file, expected) = (entry.path.clone(), entry.sha256.clone());
    Err(FetchError::WrongHash { file, expected, found }.into())
}

fn add<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    archive.append_data(&mut header, path, content)
}

/// Hashes what is read through it.
pub(crate) struct Hashing<R> {
    inner: R,
    hash: sha2::Sha256,
}

impl<R: Read> Hashing<R> {
    pub(crate) fn new(inner: R) -> Hashing<R> {
        Hashing { inner, hash: sha2::Digest::new() }
    }

    pub(crate) fn finish(self) -> String {
        hex::encode(sha2::Digest::finalize(self.hash))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        sha2::Digest::update(&mut self.hash, &buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn knows_its_own_paths_only() {
        let sha256 = "0f".repeat(32);
        assert_eq!(Kind::of("site.lock"), Some(Kind::Lock));
        assert_eq!(
            Kind::of("index/trixie-security.InRelease"),
            Some(Kind::Release("trixie-security".to_owned()))
        );
        assert_eq!(
            Kind::of(&format!("packages/{sha256}.deb")),
            Some(Kind::Package(sha256.clone()))
        );
        for bad in [
            "../site.lock",
            "/site.lock",
            "index/../x.InRelease",
            "index/.InRelease",
            "index/..InRelease",
            "packages/x.deb",
            "site.lock/",
            "",
            "index/x/y.InRelease",
            &format!("packages/{}.deb", sha256.to_uppercase()),
        ] {
            assert_eq!(Kind::of(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leads_elsewhere(path in "(index/|packages/|/|\\.|[a-z0-9]|InRelease|deb|xz){0,12}") {
            if Kind::of(&path).is_some() {
                let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
                prop_assert!(path.split('/').all(plain), "{}", path);
            }
        }
    }
}
