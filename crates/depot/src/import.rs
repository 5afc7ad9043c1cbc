//! Takes an export in: everything is checked before anything gets its final name.
//!
//! ```text
//! manifest ─names→ files ─size, hash→ staged in temp/ ─signatures, lock→ renamed
//! ```
//!
//! Refused are: names that are not of an export's own forms, files that the manifest does not list or
//! that come twice, links and other special entries, wrong sizes and hashes, release files without
//! Debian's signature, indexes that none of those vouches for, a lock of packages that are not there.
//! A newer release file that is stored already is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::archive::index::Index;
use crate::archive::keyring::Keyring;
use crate::archive::release::Release;
use crate::archive::stored;
use crate::error::DepotError;
use crate::export::{Entry, Hashing, Kind, LOCK, MANIFEST, Manifest, PROFILE, VERSION};
use crate::files;
use crate::lock::Lock;
use crate::progress::{DepotEvent, Progress, Stage, Unit};
use crate::stage::Timer;
use crate::store::{ScratchIn, Store, Work};

/// The largest manifest, lock or profile that is read, bytes.
const TEXT_LIMIT: u64 = 64 << 20;

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Site name.
    pub site: String,
    /// The site's lock.
    pub lock: Lock,
    /// The site's profile as it was handed to the export.
    pub profile: Option<Vec<u8>>,
    /// Packages that the depot did not hold before.
    pub new_packages: usize,
    /// Packages of the lock that a signed index in the archive names with the same hash.
    pub vouched: usize,
    /// Those that only the lock vouches for, as `name version`: Debian's index has newer ones.
    pub by_lock_only: Vec<String>,
}

/// The files of an archive, checked one by one.
struct Staged {
    site: String,
    files: BTreeMap<String, PathBuf>,
}

/// Reads the archive `source`.
pub(crate) fn import(
    store: &Store,
    source: &Path,
    keyring: &Keyring,
    progress: &dyn Progress,
) -> Result<Imported, DepotError> {
    let work = store.work("import", ScratchIn::Depot)?;
    let staged = Reading { source, work: &work, progress }.stage()?;
    let refused = |problem: String| DepotError::Export { path: source.to_owned(), problem };
    let lock = staged.text(LOCK)?.ok_or_else(|| refused("it has no lock".to_owned()))?;
    let lock = Lock::parse(&String::from_utf8_lossy(&lock))?;
    let profile = staged.text(PROFILE)?;
    let (releases, index) = indexes(&staged, keyring, &refused)?;
    let mut imported = Imported {
        site: staged.site.clone(),
        lock,
        profile,
        new_packages: 0,
        vouched: 0,
        by_lock_only: Vec::new(),
    };
    vouch(store, &staged, &index, &mut imported, &refused)?;
    imported.new_packages = keep(store, &work, &staged, &releases)?;
    Ok(imported)
}

impl Staged {
    fn text(&self, name: &str) -> Result<Option<Vec<u8>>, DepotError> {
        let Some(path) = self.files.get(name) else { return Ok(None) };
        fs::read(path).map(Some).map_err(DepotError::io("read", path))
    }
}

struct Reading<'a> {
    source: &'a Path,
    work: &'a Work,
    progress: &'a dyn Progress,
}

impl Reading<'_> {
    fn refused(&self, problem: impl Into<String>) -> DepotError {
        DepotError::Export { path: self.source.to_owned(), problem: problem.into() }
    }

    /// Writes every file of the archive to the temporary folder, checked against the manifest.
    fn stage(&self) -> Result<Staged, DepotError> {
        let fail = || DepotError::io::<io::Error>("read", self.source);
        let file = File::open(self.source).map_err(fail())?;
        let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, file));
        let mut entries = archive.entries().map_err(fail())?;
        let first = entries.next().ok_or_else(|| self.refused("it is empty"))?;
        let first =
            first.map_err(|error| self.refused(format!("it is no tar archive: {error}")))?;
        let manifest = self.manifest(first)?;
        let total: u64 = manifest.files.iter().map(|entry| entry.size).sum();
        files::need_space(self.work.dir(), "take the export in", total)?;
        let detail = format!("{} MiB", total.div_ceil(1 << 20));
        let timer = Timer::start(self.progress, "depot", Stage::Import, detail);
        let mut open: BTreeMap<String, Entry> =
            manifest.files.into_iter().map(|entry| (entry.path.clone(), entry)).collect();
        let mut staged = Staged { site: manifest.site, files: BTreeMap::new() };
        let mut done = 0;
        for entry in entries {
            let entry = entry.map_err(|error| self.refused(format!("it is cut off: {error}")))?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some(listed) = open.remove(&path) else {
                return Err(self.refused(format!("{path:?} is not listed, or comes twice")));
            };
            let target = self.work.dir().join(staged.files.len().to_string());
            self.file(entry, &listed, &target)?;
            done += listed.size;
            staged.files.insert(path, target);
            let (subject, stage, unit) = ("depot".to_owned(), Stage::Import, Unit::Bytes);
            self.progress.event(DepotEvent::StageProgress { subject, stage, done, total, unit });
        }
        if let Some(path) = open.keys().next() {
            return Err(self.refused(format!("{path} is listed and missing")));
        }
        timer.finish(self.progress);
        Ok(staged)
    }

    fn manifest(&self, entry: tar::Entry<'_, impl Read>) -> Result<Manifest, DepotError> {
        if entry.path_bytes() != MANIFEST.as_bytes() || entry.size() > TEXT_LIMIT {
            return Err(self.refused(format!("its first file is not {MANIFEST}")));
        }
        let mut bytes = Vec::new();
        let read = entry.take(TEXT_LIMIT).read_to_end(&mut bytes);
        read.map_err(DepotError::io("read", self.source))?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| self.refused(format!("{MANIFEST} cannot be read: {error}")))?;
        if manifest.version != VERSION {
            let (found, known) = (manifest.version, VERSION);
            return Err(self.refused(format!("it has form {found}, this gridgate reads {known}")));
        }
        let simple = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if manifest.site.is_empty() || !manifest.site.bytes().all(simple) {
            return Err(self.refused(format!("{:?} is no site's name", manifest.site)));
        }
        let mut paths = BTreeSet::new();
        for entry in &manifest.files {
            match Kind::of(&entry.path) {
                None => return Err(self.refused(format!("{:?} does not belong in it", entry.path))),
                Some(Kind::Package(hash) | Kind::Index(hash)) if hash != entry.sha256 => {
                    return Err(self.refused(format!("{} is listed with another hash", entry.path)));
                }
                Some(Kind::Lock | Kind::Profile | Kind::Release(_)) if entry.size > TEXT_LIMIT => {
                    return Err(self.refused(format!("{} is too large", entry.path)));
                }
                Some(_) if !paths.insert(&entry.path) => {
                    return Err(self.refused(format!("{} is listed twice", entry.path)));
                }
                Some(_) => {}
            }
        }
        Ok(manifest)
    }

    fn file(
        &self,
        entry: tar::Entry<'_, impl Read>,
        listed: &Entry,
        target: &Path,
    ) -> Result<(), DepotError> {
        let name = &listed.path;
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(self.refused(format!("{name} is no ordinary file")));
        }
        if entry.size() != listed.size {
            let (found, size) = (entry.size(), listed.size);
            return Err(self.refused(format!("{name} has {found} bytes where {size} are listed")));
        }
        let mut reader = Hashing::new(entry);
        let mut file = File::create(target).map_err(DepotError::io("make", target))?;
        let copied = io::copy(&mut reader, &mut file).map_err(DepotError::io("unpack", target))?;
        let found = reader.finish();
        if copied != listed.size || found != listed.sha256 {
            return Err(self.refused(format!("{name} was altered: its SHA-256 is {found}")));
        }
        Ok(())
    }
}

type Refused<'a> = &'a dyn Fn(String) -> DepotError;

/// The signed release files by suite, and all packages that they vouch for.
fn indexes(
    staged: &Staged,
    keyring: &Keyring,
    refused: Refused<'_>,
) -> Result<(BTreeMap<String, Release>, Index), DepotError> {
    let mut releases = BTreeMap::new();
    let mut vouched = BTreeSet::new();
    let mut text = String::new();
    for name in staged.files.keys() {
        let Some(Kind::Release(suite)) = Kind::of(name) else { continue };
        let bytes = staged.text(name)?.unwrap_or_default();
        let release = stored::verify(&bytes, &suite, keyring)?;
        let listed = stored::packages(&release, &suite)?.clone();
        let packages = staged.files.get(&format!("index/{}.xz", listed.sha256));
        let packages =
            packages.ok_or_else(|| refused(format!("the index of {suite} is missing")))?;
        text += &stored::unpack(packages, &listed)?;
        text.push('\n');
        vouched.insert(listed.sha256);
        releases.insert(suite, release);
    }
    for name in staged.files.keys() {
        if let Some(Kind::Index(hash)) = Kind::of(name)
            && !vouched.contains(&hash)
        {
            return Err(refused(format!("no release file vouches for {name}")));
        }
    }
    Ok((releases, Index::parse(text)))
}

/// Compares the lock with the packages that came and with Debian's indexes.
fn vouch(
    store: &Store,
    staged: &Staged,
    index: &Index,
    imported: &mut Imported,
    refused: Refused<'_>,
) -> Result<(), DepotError> {
    let mut wanted = BTreeSet::new();
    for package in imported.lock.packages() {
        let path = format!("packages/{}.deb", package.sha256);
        if !staged.files.contains_key(&path) && !store.has(package) {
            return Err(refused(format!("package {} is missing", package.name)));
        }
        wanted.insert(path);
        let known = index.at_version(&package.name, &package.version);
        if known.and_then(|number| index.pin(number)).is_some_and(|pin| pin == *package) {
            imported.vouched += 1;
        } else {
            imported.by_lock_only.push(format!("{} {}", package.name, package.version));
        }
    }
    let package = |name: &&String| matches!(Kind::of(name), Some(Kind::Package(_)));
    match staged.files.keys().filter(package).find(|name| !wanted.contains(*name)) {
        Some(name) => Err(refused(format!("{name} is not in its lock"))),
        None => Ok(()),
    }
}

/// Gives everything its final name, packages last; returns how many of those are new.
fn keep(
    store: &Store,
    work: &Work,
    staged: &Staged,
    releases: &BTreeMap<String, Release>,
) -> Result<usize, DepotError> {
    files::sync_all(work.dir())?;
    let dir = store.folder("index");
    let mut new = 0;
    for (name, path) in &staged.files {
        let target = match Kind::of(name) {
            Some(Kind::Package(hash)) => {
                new += usize::from(store.package_file(&hash).is_none());
                store.path(&hash)
            }
            Some(Kind::Index(hash)) => dir.join(format!("{hash}.xz")),
            Some(Kind::Release(suite)) if is_newer(&dir, &suite, &releases[&suite]) => {
                stored::release_path(&dir, &suite)
            }
            _ => continue,
        };
        fs::rename(path, &target).map_err(DepotError::io("keep", &target))?;
    }
    files::sync_all(&dir)?;
    Ok(new)
}

/// Whether a release file is newer than the stored one: nobody goes back by an import.
fn is_newer(dir: &Path, suite: &str, release: &Release) -> bool {
    let stored = fs::read_to_string(stored::release_path(dir, suite)).unwrap_or_default();
    let body = stored.split_once("\n\n").map_or("", |(_, body)| body);
    Release::parse(body).date < release.date
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
