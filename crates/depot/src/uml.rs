//! The User Mode Linux kernel with the libraries it needs and its modules, taken out
//! of packages that are never installed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::archive::index::Index;
use crate::archive::suite::Updates;
use crate::depot::Uml;
use crate::error::DepotError;
use crate::extract::{Extract, Kind, prepare_libraries};
use crate::lock::{Lock, PinnedPackage};
use crate::mirrors::Mirrors;
use crate::modules::strip;
use crate::progress::Progress;
use crate::store::{Store, remove_tree};

/// The kernels of the guests' own release do not run on CPUs with a large state.
const KIND: Kind = Kind { name: "uml", suite: "forky", updates: Updates::Ignore, recipe: "1" };

/// The kernel, and the libraries that it loads (libgcc when its threads end).
const PACKAGES: [&str; 3] = ["user-mode-linux", "libc6", "libgcc-s1"];

const KERNEL: &str = "usr/bin/linux.uml";
const MODULES: &str = "usr/lib/uml/modules";

/// Libraries that are taken out of their packages, by the beginning of their names.
const LIBRARIES: [&str; 4] = ["ld-linux", "libc.so.", "libm.so.", "libgcc_s.so."];

#[derive(Serialize, Deserialize)]
struct Note {
    release: String,
    packages: Vec<PinnedPackage>,
}

/// Finds or fetches it.
pub(crate) fn uml(
    store: &Store,
    mirrors: &Mirrors,
    lock: Option<&Lock>,
    progress: &dyn Progress,
) -> Result<Uml, DepotError> {
    let extract = Extract { kind: KIND, store, mirrors, progress };
    let locked = lock.map(|lock| lock.uml.as_slice());
    let (folder, note) =
        extract.find_or_make(locked, &|index| choose(&extract, index), &|_, folder, pins| {
            unpack(&extract, folder, pins)
        })?;
    Ok(Uml {
        root: folder.join("root"),
        kernel: PathBuf::from(KERNEL),
        modules: folder.join("modules").join(&note.release),
        release: note.release,
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

fn choose(extract: &Extract<'_>, index: &Index) -> Result<Vec<PinnedPackage>, DepotError> {
    PACKAGES.iter().map(|name| extract.pin(index, name)).collect()
}

/// Makes `root` and `modules` in `folder`.
fn unpack(
    extract: &Extract<'_>,
    folder: &Path,
    pins: &[PinnedPackage],
) -> Result<Note, DepotError> {
    let root = folder.join("root");
    prepare_libraries(&root)?;
    extract.unpack(pins, &root, &is_kept)?;
    let (from, to) = (root.join(MODULES), folder.join("modules"));
    strip(&from)?;
    fs::rename(&from, &to).map_err(DepotError::io("move", &from))?;
    let release = only_folder(&to)?;
    remove_tree(&root.join("usr/lib/uml"))?;
    Ok(Note { release, packages: pins.to_vec() })
}

fn is_kept(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path == Path::new(KERNEL)
        || path.starts_with(MODULES)
        || (path.starts_with("usr/lib") || path.starts_with("usr/lib64"))
            && LIBRARIES.iter().any(|beginning| name.starts_with(beginning))
}

/// The name of the one folder in `dir`.
pub(crate) fn only_folder(dir: &Path) -> Result<String, DepotError> {
    let mut entries = fs::read_dir(dir).map_err(DepotError::io("read", dir))?;
    let first = entries.next().transpose().map_err(DepotError::io("read", dir))?;
    let missing = || DepotError::io("find modules in", dir)(io::Error::other("it is empty"));
    Ok(first.ok_or_else(missing)?.file_name().to_string_lossy().into_owned())
}
