//! The kernel of Debian's cloud images, for machines that bring no kernel of their own:
//! as it is and unpacked, with its modules as a folder and as a disk.

pub(crate) mod bzimage;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::archive::control::clauses;
use crate::archive::index::Index;
use crate::archive::suite::Updates;
use crate::build::SUITE;
use crate::depot::Linux;
use crate::error::DepotError;
use crate::extract::{Extract, Kind, prepare_libraries};
use crate::lock::{Lock, PinnedPackage};
use crate::mirrors::Mirrors;
use crate::modules::strip;
use crate::progress::Progress;
use crate::store::{Store, remove_tree};
use crate::uml::only_folder;
use crate::{ext4, hash};

const KIND: Kind = Kind { name: "linux", suite: SUITE, updates: Updates::Take, recipe: "1" };

/// Depends on the kernel that is current.
const META: &str = "linux-image-cloud-amd64";

const MODULES: &str = "tree/usr/lib/modules";
const MODULES_DISK: &str = "modules.ext4";

#[derive(Serialize, Deserialize)]
struct Note {
    release: String,
    packages: Vec<PinnedPackage>,
}

/// Finds or fetches it. `tools` gives a root tree with `mke2fs` and `depmod`, and the
/// program that has the `chamber` subcommand.
pub(crate) fn linux(
    store: &Store,
    mirrors: &Mirrors,
    lock: Option<&Lock>,
    progress: &dyn Progress,
    program: &Path,
    tools: &dyn Fn() -> Result<std::path::PathBuf, DepotError>,
) -> Result<Linux, DepotError> {
    let extract = Extract { kind: KIND, store, mirrors, progress };
    let locked = lock.map(|lock| lock.linux.as_slice());
    let (folder, note) =
        extract.find_or_make(locked, &|index| choose(&extract, index), &|_, folder, pins| {
            make(&extract, folder, pins, program, &tools()?)
        })?;
    Ok(Linux {
        vmlinux: folder.join("vmlinux"),
        modules: folder.join(MODULES).join(&note.release),
        modules_disk: folder.join(MODULES_DISK),
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
    let missing = || extract.index_lacks(&format!("kernel that {META} depends on"));
    let meta = index.named(META).first().ok_or_else(missing)?;
    let depends = index.stanza(*meta).get("Depends").unwrap_or_default();
    let name = clauses(depends).flatten().find(|name| name.starts_with("linux-image-"));
    Ok(vec![extract.pin(index, name.ok_or_else(missing)?)?])
}

/// Makes everything in `folder`.
fn make(
    extract: &Extract<'_>,
    folder: &Path,
    pins: &[PinnedPackage],
    program: &Path,
    tools: &Path,
) -> Result<Note, DepotError> {
    let tree = folder.join("tree");
    prepare_libraries(&tree)?;
    extract.unpack(pins, &tree, &is_kept)?;
    let release = only_folder(&folder.join(MODULES))?;
    let packed = tree.join(format!("boot/vmlinuz-{release}"));
    let bytes = fs::read(&packed).map_err(DepotError::io("read", &packed))?;
    let unpacked = bzimage::vmlinux(&bytes).map_err(DepotError::io("unpack", &packed))?;
    remove_tree(&tree.join("boot"))?;
    let vmlinux = folder.join("vmlinux");
    fs::write(&vmlinux, unpacked).map_err(DepotError::io("write", &vmlinux))?;
    strip(&folder.join(MODULES))?;
    let key = hash::key(pins.iter().map(|pin| (pin.name.as_str(), pin.sha256.as_str())));
    ext4::make_modules_disk(program, tools, folder, &tree, &release, MODULES_DISK, &key)?;
    // Machines read these files as users of their own.
    for file in [vmlinux, folder.join(MODULES_DISK)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))
            .map_err(DepotError::io("set permissions of", &file))?;
    }
    Ok(Note { release, packages: pins.to_vec() })
}

fn is_kept(path: &Path) -> bool {
    path.starts_with("usr/lib/modules") || path.to_string_lossy().starts_with("boot/vmlinuz-")
}
