//! The host's own QEMU, where it has one: its program, the libraries that it loads and its firmware, taken into a tree like
//! the one that is made of packages, so that its machines are jailed in the same way and survive an update of the host.
//!
//! A tree counts as long as every file of the host that it was taken from is as it was (size, inode, times); then the
//! next one is made beside it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::depot::Qemu;
use crate::elf;
use crate::error::DepotError;
use crate::extract::prepare_libraries;
use crate::gc::entries;
use crate::lock::PinnedPackage;
use crate::progress::{Progress, Stage};
use crate::qemu::{FIRMWARE, LIBRARIES, PROGRAM, loaded, take};
use crate::stage::Timer;
use crate::store::{ScratchIn, Store, remove_tree};
use crate::{files, hash, seal};

/// The oldest version that all of a node's machine was run with, machine types `microvm` and `q35`.
const OLDEST: (u32, u32) = (7, 2);

/// Beginning of the folders' names.
const PREFIX: &str = "qemu-host-";

const NOTE: &str = "qemu.json";

/// Where distributions keep libraries: Debian's two, Fedora's.
const FOLDERS: [&str; 3] = [LIBRARIES[0], LIBRARIES[1], "usr/lib64"];

/// Where distributions keep firmware: Debian's two, Fedora's.
const FIRMWARE_FOLDERS: [&str; 3] =
    ["usr/share/qemu", "usr/share/seabios", "usr/share/qemu-firmware"];

/// What neither `microvm` nor `q35` needs with our kernels.
const NOT_NEEDED: [&str; 2] = ["bios-microvm.bin", "multiboot_dma.bin"];

#[derive(Serialize, Deserialize)]
struct Note {
    version: String,
    /// None: it was not made of packages.
    packages: Vec<PinnedPackage>,
    host: Vec<Source>,
}

/// A file of the host, as it was when it was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    path: PathBuf,
    stamp: Stamp,
}

/// Length, inode, and the times of the last change of content and of the file itself in nanoseconds.
type Stamp = (u64, u64, i128, i128);

impl Source {
    fn of(path: PathBuf) -> Result<Source, DepotError> {
        let stamp = stamp(&path).map_err(DepotError::io("look at", &path))?;
        Ok(Source { path, stamp })
    }

    /// Whether the host still has it.
    pub(crate) fn is_current(&self) -> bool {
        stamp(&self.path).is_ok_and(|stamp| stamp == self.stamp)
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let meta = fs::metadata(path)?;
    let nanoseconds = |s: i64, n: i64| i128::from(s) * 1_000_000_000 + i128::from(n);
    let modified = nanoseconds(meta.mtime(), meta.mtime_nsec());
    Ok((meta.len(), meta.ino(), modified, nanoseconds(meta.ctime(), meta.ctime_nsec())))
}

fn unusable(why: impl Into<String>) -> DepotError {
    DepotError::HostQemu { why: why.into() }
}

/// Finds or makes the tree of the QEMU below `host`, which is `/` but for tests; none when there is none.
pub(crate) fn qemu(
    store: &Store,
    host: &Path,
    progress: &dyn Progress,
) -> Result<Option<Qemu>, DepotError> {
    if !host.join(PROGRAM).exists() {
        return Ok(None);
    }
    if let Some(found) = kept(store, host) {
        return Ok(Some(found));
    }
    let work = store.work("qemu-host", ScratchIn::Depot)?;
    // Another process may have made it meanwhile.
    if let Some(found) = kept(store, host) {
        return Ok(Some(found));
    }
    let timer = Timer::start(progress, "qemu", Stage::Copy, "the host's own".to_owned());
    let wanted = wanted(host)?;
    let new = work.dir().join("new");
    let root = new.join("root");
    let (key, host) = copy(host, &wanted, &root)?;
    let version = version(&root)?;
    let note = Note { version, packages: Vec::new(), host };
    let folder = store.folder("vmm").join(format!("{PREFIX}{key}"));
    remove_tree(&folder)?;
    fs::rename(&new, &folder).map_err(DepotError::io("keep", &folder))?;
    files::sync_all(&folder)?;
    seal::close_all(&folder)?;
    let text = serde_json::to_vec_pretty(&note).unwrap_or_default();
    files::write_whole(&folder.join(NOTE), &text)?;
    timer.finish(progress);
    Ok(Some(of(&folder, note.version)))
}

fn of(folder: &Path, version: String) -> Qemu {
    let (root, program) = (folder.join("root"), PathBuf::from(PROGRAM));
    Qemu { root, program, version, packages: Vec::new() }
}

/// The tree of what the host has now, if it was made.
pub(crate) fn kept(store: &Store, host: &Path) -> Option<Qemu> {
    let program = host.join(PROGRAM);
    let trees = entries(&store.folder("vmm")).ok()?.into_iter().filter(|folder| {
        folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
    });
    trees.into_iter().find_map(|folder| {
        let note: Note = serde_json::from_slice(&fs::read(folder.join(NOTE)).ok()?).ok()?;
        let of_this_host = note.host.iter().any(|source| source.path == program);
        (of_this_host && note.host.iter().all(Source::is_current))
            .then(|| of(&folder, note.version))
    })
}

/// Program, libraries and firmware, relative to `host`.
fn wanted(host: &Path) -> Result<Vec<String>, DepotError> {
    let libraries = loaded(host, &FOLDERS).map_err(|e| unusable(e.to_string()))?;
    let mut wanted: Vec<String> = libraries.into_iter().collect();
    let mut missing = Vec::new();
    for file in FIRMWARE {
        let name = file.rsplit('/').next().unwrap_or(file);
        let places = FIRMWARE_FOLDERS.iter().map(|folder| format!("{folder}/{name}"));
        match places.into_iter().find(|place| host.join(place).is_file()) {
            Some(place) => wanted.push(place),
            None if NOT_NEEDED.contains(&name) => {}
            None => missing.push(name),
        }
    }
    if missing.is_empty() {
        return Ok(wanted);
    }
    Err(unusable(format!("its firmware {} is not there", missing.join(", "))))
}

/// Copies the files to `root`; gives the tree's key and what it was taken from. What changes while it is copied is
/// found at the next look: its stamp is the one from before.
fn copy(host: &Path, wanted: &[String], root: &Path) -> Result<(String, Vec<Source>), DepotError> {
    files::make_dir(root)?;
    prepare_libraries(root)?;
    let (mut hashes, mut sources) = (BTreeMap::new(), Vec::new());
    for file in wanted {
        sources.push(Source::of(host.join(file))?);
        let to = take(host, file, root)?;
        let (_, hash) = hash::of_file(&to).map_err(DepotError::io("read", &to))?;
        hashes.insert(file.as_str(), hash);
    }
    let key = hash::key(hashes.iter().map(|(file, hash)| (*file, hash.as_str())));
    Ok((key, sources))
}

/// What the program in the tree says of itself: that it starts shows that the tree has all that it loads.
fn version(root: &Path) -> Result<String, DepotError> {
    let program = root.join(PROGRAM);
    let bytes = fs::read(&program).map_err(DepotError::io("read", &program))?;
    let linker = elf::needed(&bytes).and_then(|needed| needed.linker);
    let linker = linker.ok_or_else(|| unusable("it is not linked dynamically"))?;
    let folders = FOLDERS.map(|folder| root.join(folder).display().to_string());
    let mut command = Command::new(root.join(linker.trim_start_matches('/')));
    command.args(["--library-path", &folders.join(":")]).arg(&program).arg("--version");
    let output = command.env_clear().current_dir("/").output();
    let output = output.map_err(|e| unusable(format!("it cannot be started: {e}")))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(unusable(format!("it does not start: {}", why.trim())));
    }
    let version = parse(&said).ok_or_else(|| unusable(format!("it says {:?}", said.trim())))?;
    let numbers = numbers(&version);
    if numbers < OLDEST {
        let (major, minor) = OLDEST;
        return Err(unusable(format!("it is {version}; nodes need {major}.{minor} or newer")));
    }
    Ok(version)
}

/// `7.2.13` of `QEMU emulator version 7.2.13 (Debian 1:7.2+dfsg-7+deb12u7)`.
fn parse(said: &str) -> Option<String> {
    let rest = said.lines().next()?.strip_prefix("QEMU emulator version ")?;
    let version: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    (!version.is_empty()).then_some(version)
}

fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_and_compared_by_its_numbers() {
        let said = "QEMU emulator version 7.2.13 (Debian 1:7.2+dfsg-7+deb12u7)\nCopyright (c)\n";
        assert_eq!(parse(said).as_deref(), Some("7.2.13"));
        assert_eq!(parse("QEMU emulator version 11.0.50").as_deref(), Some("11.0.50"));
        assert_eq!(parse("qemu-img version 7.2"), None);
        assert!(
            numbers("10.0.2") > OLDEST && numbers("7.2") == OLDEST && numbers("7.1.9") < OLDEST
        );
    }

    #[test]
    fn a_host_without_it_has_none_and_one_that_lacks_something_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("depot")).unwrap();
        let host = folder.path().join("host");
        fs::create_dir_all(host.join("usr/bin")).unwrap();
        let look = || qemu(&store, &host, &crate::Silent);
        assert_eq!(look().unwrap(), None);
        fs::write(host.join(PROGRAM), "#!/bin/sh\n").unwrap();
        let why = look().unwrap_err().to_string();
        assert!(why.starts_with("the host's QEMU cannot be used") && why.contains("ELF"), "{why}");
        assert!(entries(&store.folder("vmm")).unwrap().is_empty());
    }
}
