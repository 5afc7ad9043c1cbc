//! QEMU for computers like this one, with the libraries and the firmware that its
//! machines need and nothing else of its packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::archive::index::Index;
use crate::archive::suite::Updates;
use crate::build::SUITE;
use crate::depot::Qemu;
use crate::elf;
use crate::error::DepotError;
use crate::extract::{Extract, Kind, prepare_libraries};
use crate::files;
use crate::lock::{Lock, PinnedPackage};
use crate::mirrors::Mirrors;
use crate::progress::Progress;
use crate::store::{Store, Work};

const KIND: Kind = Kind { name: "qemu", suite: SUITE, updates: Updates::Take, recipe: "2" };

const PACKAGE: &str = "qemu-system-x86";
/// The program, relative to a root.
pub(crate) const PROGRAM: &str = "usr/bin/qemu-system-x86_64";

/// Packages beside libraries that something is taken from.
const OTHERS: [&str; 4] = [PACKAGE, "qemu-system-data", "seabios", "zlib1g"];

/// SeaBIOS and qboot, and what they load a kernel with: `-kernel` of a bzImage, of an ELF
/// file with a PVH entry, of a multiboot image (Xen).
pub(crate) const FIRMWARE: [&str; 7] = [
    "usr/share/seabios/bios-256k.bin",
    "usr/share/seabios/bios-microvm.bin",
    "usr/share/qemu/qboot.rom",
    "usr/share/qemu/linuxboot_dma.bin",
    "usr/share/qemu/pvh.bin",
    "usr/share/qemu/multiboot_dma.bin",
    "usr/share/qemu/kvmvapic.bin",
];

/// Folders in which the dynamic linker looks.
pub(crate) const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib"];

/// Emulation as a module, below a folder of libraries.
const EMULATION: &str = "qemu/accel-tcg-x86_64.so";

#[derive(Serialize, Deserialize)]
struct Note {
    version: String,
    packages: Vec<PinnedPackage>,
}

/// Finds or fetches it.
pub(crate) fn qemu(
    store: &Store,
    mirrors: &Mirrors,
    lock: Option<&Lock>,
    progress: &dyn Progress,
) -> Result<Qemu, DepotError> {
    let extract = Extract { kind: KIND, store, mirrors, progress };
    let locked = lock.map(|lock| lock.qemu.as_slice());
    let (folder, note) =
        extract.find_or_make(locked, &|index| choose(&extract, index), &|work, folder, pins| {
            make(&extract, work, folder, pins)
        })?;
    Ok(Qemu {
        root: folder.join("root"),
        program: PathBuf::from(PROGRAM),
        version: note.version,
        packages: note.packages,
    })
}

/// The packages that the archive has now.
pub(crate) fn newest(
    store: &Store,
    mirrors: &Mirrors,
    progress: &dyn Progress,
) -> Result<Vec<PinnedPackage>, DepotError> {
    let extract = Extract { kind: KIND, store, mirrors, progress };
    extract.chosen_anew(&|index| choose(&extract, index))
}

/// QEMU and all libraries that its package needs, directly or not.
fn choose(extract: &Extract<'_>, index: &Index) -> Result<Vec<PinnedPackage>, DepotError> {
    let start = OTHERS.iter().filter_map(|name| index.named(name).first().copied());
    let closure = index
        .simple_closure(start)
        .map_err(|missing| extract.index_lacks(&format!("package {}", missing.join(", "))))?;
    let name = |number: &usize| index.stanza(*number).get("Package").unwrap_or_default().to_owned();
    closure
        .iter()
        .map(name)
        .filter(|name| name.starts_with("lib") || OTHERS.contains(&name.as_str()))
        .map(|name| extract.pin(index, &name))
        .collect()
}

/// Makes `root` in `folder`.
fn make(
    extract: &Extract<'_>,
    work: &Work,
    folder: &Path,
    pins: &[PinnedPackage],
) -> Result<Note, DepotError> {
    let all = work.dir().join("all");
    prepare_libraries(&all)?;
    extract.unpack(pins, &all, &|path| {
        path == Path::new(PROGRAM)
            || FIRMWARE.iter().any(|file| path == Path::new(file))
            || path.starts_with("usr/lib64")
            || LIBRARIES.iter().any(|folder| path.parent() == Some(Path::new(folder)))
    })?;
    let root = folder.join("root");
    prepare_libraries(&root)?;
    for file in loaded(&all, &LIBRARIES)?.iter().map(String::as_str).chain(FIRMWARE) {
        take(&all, file, &root)?;
    }
    let pin = pins.iter().find(|pin| pin.name == PACKAGE);
    Ok(Note {
        version: pin.map(|pin| upstream(&pin.version)).unwrap_or_default(),
        packages: pins.to_vec(),
    })
}

/// Copies one file of `tree` to its place below `root`, which is given.
pub(crate) fn take(tree: &Path, file: &str, root: &Path) -> Result<PathBuf, DepotError> {
    let (from, to) = (tree.join(file), root.join(file));
    files::make_dir(to.parent().unwrap_or(root))?;
    fs::copy(&from, &to).map_err(DepotError::io("copy", &from))?;
    Ok(to)
}

/// The program and everything that the dynamic linker loads for it, from these folders, relative to `tree`. Some
/// distributions build emulation as a module, which the program loads when it is asked for.
pub(crate) fn loaded(tree: &Path, folders: &[&str]) -> Result<BTreeSet<String>, DepotError> {
    let mut found = BTreeSet::new();
    let modules = folders.iter().map(|folder| format!("{folder}/{EMULATION}"));
    let mut open: Vec<String> = modules.filter(|module| tree.join(module).exists()).collect();
    open.push(PROGRAM.to_owned());
    while let Some(file) = open.pop() {
        if !found.insert(file.clone()) {
            continue;
        }
        let path = tree.join(&file);
        let fault = |why: String| DepotError::io("link", &path)(std::io::Error::other(why));
        let bytes = fs::read(&path).map_err(DepotError::io("read", &path))?;
        let needed = elf::needed(&bytes).ok_or_else(|| fault("it is no 64-bit ELF file".into()))?;
        if let Some(linker) = needed.linker {
            open.push(format!("usr/{}", linker.trim_start_matches('/')));
        }
        for library in needed.libraries {
            let mut places = folders.iter().map(|folder| format!("{folder}/{library}"));
            let place = places.find(|place| tree.join(place).exists());
            open.push(place.ok_or_else(|| fault(format!("its library {library} is not there")))?);
        }
    }
    Ok(found)
}

/// `10.0.2` of `1:10.0.2+ds-2+deb13u1`.
fn upstream(version: &str) -> String {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn qemus_own_version_is_told() {
        assert_eq!(super::upstream("1:10.0.2+ds-2+deb13u1"), "10.0.2");
        assert_eq!(super::upstream("11.1~rc1-1"), "11.1");
    }
}
