//! What the depot holds and nobody needs any more.
//!
//! Needed are: the packages of every lock that is handed in, and those that are named; kernels, VMM trees
//! and roots made of locked packages alone; the host's QEMU as the host has it now; images that are named; what lies on a
//! path that is named; package indexes that a stored release file vouches for. What this build does not understand is kept.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::archive::release::Release;
use crate::archive::stored;
use crate::error::DepotError;
use crate::host_qemu::Source;
use crate::lock::{Lock, PinnedPackage};
use crate::store::{Store, Whole, remove_tree};

/// What is still needed of a depot.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// Locks of all sites, earlier ones that a rollback may need included.
    pub locks: Vec<Lock>,
    /// SHA-256 of packages that a node has or goes back to, whether or not a lock still names them.
    pub packages: BTreeSet<String>,
    /// Keys of role images.
    pub images: BTreeSet<String>,
    /// Files and folders that running machines use.
    pub in_use: Vec<PathBuf>,
}

impl References {
    fn hashes(&self) -> BTreeSet<&str> {
        let packages = self.locks.iter().flat_map(Lock::packages);
        packages.map(|package| package.sha256.as_str()).collect()
    }

    /// Whether a running machine uses something of a folder.
    pub(crate) fn uses(&self, folder: &Path) -> bool {
        self.in_use.iter().any(|path| path.starts_with(folder))
    }
}

/// A thing in the depot, and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// The depot's folder it lies in: `packages`, `index`, `roots`, `images`, `vmm`.
    pub folder: &'static str,
    /// Its name, a package's with its name in the archive when that is known.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// What is said of it; may be empty.
    pub remark: String,
}

/// What a sweep removed or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// What goes, by folder.
    pub items: Vec<Item>,
    /// How many things stay.
    pub kept: usize,
    /// Bytes of what stays.
    pub kept_bytes: u64,
}

/// A note beside a tree or image that was made of packages.
#[derive(Deserialize)]
struct Made {
    packages: Vec<PinnedPackage>,
    /// Of what was taken from the host.
    #[serde(default)]
    host: Vec<Source>,
}

impl Made {
    /// Why nobody needs it; none: somebody may.
    fn needless(&self, hashes: &BTreeSet<&str>) -> Option<&'static str> {
        if !self.host.iter().all(Source::is_current) {
            return Some("the host's own is another one by now");
        }
        let named = |package: &PinnedPackage| hashes.contains(package.sha256.as_str());
        (!self.packages.iter().all(named)).then_some("made of packages that no lock names")
    }
}

/// Removes what is not needed, or only says it. The caller holds the whole depot.
pub(crate) fn sweep(
    store: &Store,
    _whole: &Whole,
    references: &References,
    remove: bool,
) -> Result<Swept, DepotError> {
    let mut swept = Swept::default();
    let hashes = references.hashes();
    for path in packages(store)? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_package = path.extension().is_some_and(|ending| ending == "deb");
        let arriving = !is_package && is_locked(&path);
        let needed = hashes.contains(name.as_str()) || references.packages.contains(&name);
        let keep = arriving || is_package && needed;
        let remark =
            if is_package { "no lock names it and no node has it" } else { "never finished" };
        swept.one("packages", &path, keep, remark, remove)?;
    }
    let indexes = vouched_for(&store.folder("index"));
    for path in entries(&store.folder("index"))? {
        let keep = path.extension().is_none_or(|ending| ending != "xz") || indexes.contains(&path);
        swept.one("index", &path, keep, "no release file names it", remove)?;
    }
    for path in entries(&store.folder("images"))? {
        let key = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let keep = references.images.contains(&key) || references.uses(&path);
        swept.one("images", &path, keep, "no node has or wants it", remove)?;
    }
    for folder in ["roots", "vmm"] {
        for path in entries(&store.folder(folder))? {
            let needless = made_of(&path).and_then(|made| made.needless(&hashes));
            let needless = needless.filter(|_| !references.uses(&path));
            swept.one(folder, &path, needless.is_none(), needless.unwrap_or_default(), remove)?;
        }
    }
    swept.items.sort();
    Ok(swept)
}

impl Swept {
    fn one(
        &mut self,
        folder: &'static str,
        path: &Path,
        keep: bool,
        remark: &str,
        remove: bool,
    ) -> Result<(), DepotError> {
        let bytes = size(path);
        if keep {
            self.kept += 1;
            self.kept_bytes += bytes;
            return Ok(());
        }
        if remove {
            discard(path)?;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.items.push(Item { folder, name, bytes, remark: remark.to_owned() });
        Ok(())
    }

    /// Bytes of what goes.
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }
}

/// Removes a file or folder. A folder's notes go first: what is half removed does not count.
pub(crate) fn discard(path: &Path) -> Result<(), DepotError> {
    if !path.is_dir() {
        return fs::remove_file(path).map_err(DepotError::io("remove", path));
    }
    for note in notes(path) {
        fs::remove_file(&note).map_err(DepotError::io("remove", &note))?;
    }
    remove_tree(path)
}

/// Whether somebody is writing a file: who fetches one holds it locked.
fn is_locked(path: &Path) -> bool {
    let Ok(file) = fs::File::open(path) else { return false };
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err()
}

/// All files in the package store.
pub(crate) fn packages(store: &Store) -> Result<Vec<PathBuf>, DepotError> {
    let mut found = Vec::new();
    for folder in entries(&store.folder("packages"))? {
        found.extend(entries(&folder)?);
    }
    Ok(found)
}

/// What lies in a folder, sorted.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, DepotError> {
    let fail = || DepotError::io::<std::io::Error>("read", folder);
    let read = fs::read_dir(folder).map_err(fail())?;
    let mut found = Vec::new();
    for entry in read {
        found.push(entry.map_err(fail())?.path());
    }
    found.sort();
    Ok(found)
}

/// Package indexes that stored release files name. Damaged ones count too: `verify` is for those.
fn vouched_for(dir: &Path) -> BTreeSet<PathBuf> {
    let of = |suite: String| {
        let text = fs::read_to_string(stored::release_path(dir, &suite)).ok()?;
        let body = text.split_once("\n\n").map_or(text.as_str(), |(_, body)| body);
        let release = Release::parse(body);
        let listed = stored::packages(&release, &suite).ok()?;
        Some(stored::packages_path(dir, listed))
    };
    stored::suites(dir).into_iter().filter_map(of).collect()
}

/// What a tree says it was made of; none when it does not say.
fn made_of(folder: &Path) -> Option<Made> {
    notes(folder).iter().find_map(|note| serde_json::from_slice(&fs::read(note).ok()?).ok())
}

fn notes(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect()
}

/// Bytes on disk of a file or folder. What vanishes meanwhile counts nothing.
pub(crate) fn size(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let below = if meta.is_dir() { entries(path).unwrap_or_default() } else { Vec::new() };
    meta.blocks() * 512 + below.iter().map(|path| size(path)).sum::<u64>()
}

#[cfg(test)]
#[path = "gc_tests.rs"]
mod tests;
