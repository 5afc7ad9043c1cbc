//! The User Mode Linux kernel with the libraries it needs and its modules, taken out
//! of packages that are never installed.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use crate::archive::fetch::{Expected, Fetcher};
use crate::archive::index::Index;
use crate::archive::keyring::Keyring;
use crate::archive::suite::{Suites, Updates};
use crate::deb;
use crate::depot::Uml;
use crate::error::DepotError;
use crate::hash;
use crate::larder::CONNECTIONS;
use crate::lock::{Lock, PinnedPackage, sorted};
use crate::mirrors::Mirrors;
use crate::progress::{Progress, Stage};
use crate::stage::Timer;
use crate::store::{ScratchIn, Store, Work, remove_tree};
use crate::{elf, files};

/// The kernels of the guests' own release do not run on CPUs with a large state.
const SUITE: &str = "forky";

/// The kernel, and the libraries that it loads (libgcc when its threads end).
const PACKAGES: [&str; 3] = ["user-mode-linux", "libc6", "libgcc-s1"];

/// Changes whenever what is taken out of the packages does.
const RECIPE: &str = "1";

const KERNEL: &str = "usr/bin/linux.uml";
const MODULES: &str = "usr/lib/uml/modules";
const NOTE: &str = "uml.json";

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
    let work = store.work("uml", ScratchIn::Depot)?;
    let fetcher = Fetcher::new(mirrors, CONNECTIONS)?;
    let pins = match lock.filter(|lock| !lock.uml.is_empty()) {
        Some(lock) => lock.uml.clone(),
        None => newest_pins(store, &fetcher, progress)?,
    };
    let hashes = pins.iter().map(|pin| (pin.name.as_str(), pin.sha256.as_str()));
    let key = hash::key([("recipe", RECIPE)].into_iter().chain(hashes));
    let folder = store.folder("vmm").join(format!("uml-{key}"));
    if let Some(found) = find(&folder) {
        return Ok(found);
    }
    download(store, &fetcher, &pins, progress)?;
    let timer = Timer::start(progress, "uml", Stage::Unpack, String::new());
    let note = unpack(store, &work, &pins)?;
    remove_tree(&folder)?;
    fs::rename(work.dir().join("uml"), &folder).map_err(DepotError::io("keep", &folder))?;
    files::sync_all(&folder)?;
    let text = serde_json::to_vec_pretty(&note).unwrap_or_default();
    files::write_whole(&folder.join(NOTE), &text)?;
    timer.finish(progress);
    find(&folder).ok_or(DepotError::Stopped)
}

fn find(folder: &Path) -> Option<Uml> {
    let note: Note = serde_json::from_slice(&fs::read(folder.join(NOTE)).ok()?).ok()?;
    Some(Uml {
        root: folder.join("root"),
        kernel: PathBuf::from(KERNEL),
        modules: folder.join("modules").join(&note.release),
        release: note.release,
        packages: note.packages,
    })
}

fn newest_pins(
    store: &Store,
    fetcher: &Fetcher,
    progress: &dyn Progress,
) -> Result<Vec<PinnedPackage>, DepotError> {
    let timer = Timer::start(progress, "uml", Stage::Index, SUITE.to_owned());
    let (keyring, dir) = (&Keyring::debian(), &store.folder("index"));
    let suites = Suites { fetcher, keyring, dir, progress, subject: "uml" };
    let index = suites.index(SUITE, Updates::Ignore)?;
    let pins = PACKAGES.iter().map(|name| pin(&index, name)).collect::<Result<_, _>>()?;
    timer.finish(progress);
    Ok(sorted(pins))
}

fn pin(index: &Index, name: &str) -> Result<PinnedPackage, DepotError> {
    let found = index.named(name).first().and_then(|number| index.pin(*number));
    found.ok_or_else(|| DepotError::Index {
        suite: SUITE.to_owned(),
        problem: format!("has no package {name}"),
    })
}

fn download(
    store: &Store,
    fetcher: &Fetcher,
    pins: &[PinnedPackage],
    progress: &dyn Progress,
) -> Result<(), DepotError> {
    let total: u64 = pins.iter().map(|pin| pin.size).sum();
    files::need_space(&store.folder("packages"), "download the kernel", total * 6)?;
    let timer = Timer::start(progress, "uml", Stage::Download, format!("{} MiB", total >> 20));
    for pin in pins {
        let expected = Expected { file: &pin.filename, sha256: &pin.sha256, size: pin.size };
        let stop = AtomicBool::new(false);
        fetcher.fetch(expected, &store.path(&pin.sha256), &stop, &|_| ())?;
    }
    timer.finish(progress);
    Ok(())
}

/// Makes `uml/root` and `uml/modules` in the temporary folder.
fn unpack(store: &Store, work: &Work, pins: &[PinnedPackage]) -> Result<Note, DepotError> {
    let all = work.dir().join("all");
    prepare(&all)?;
    for pin in pins {
        let flat = work.dir().join(format!("{}.deb", pin.sha256));
        deb::flatten(pin, &store.path(&pin.sha256), &flat)?;
        deb::unpack(pin, &flat, &all, &is_kept)?;
    }
    let uml = work.dir().join("uml");
    files::make_dir(&uml)?;
    let modules = all.join(MODULES);
    strip_modules(&modules)?;
    let (from, to) = (&modules, uml.join("modules"));
    fs::rename(from, &to).map_err(DepotError::io("move", from))?;
    let release = only_folder(&to)?;
    remove_tree(&all.join("usr/lib/uml"))?;
    fs::rename(&all, uml.join("root")).map_err(DepotError::io("move", &all))?;
    Ok(Note { release, packages: pins.to_vec() })
}

/// The links that the kernel's dynamic linker is found by.
fn prepare(root: &Path) -> Result<(), DepotError> {
    for name in ["lib", "lib64"] {
        files::make_dir(&root.join("usr").join(name))?;
        let link = root.join(name);
        symlink(format!("usr/{name}"), &link).map_err(DepotError::io("make", &link))?;
    }
    Ok(())
}

fn is_kept(path: &Path) -> bool {
    let path = path.strip_prefix(".").unwrap_or(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path == Path::new(KERNEL)
        || path.starts_with(MODULES)
        || (path.starts_with("usr/lib") || path.starts_with("usr/lib64"))
            && LIBRARIES.iter().any(|beginning| name.starts_with(beginning))
}

fn only_folder(dir: &Path) -> Result<String, DepotError> {
    let mut entries = fs::read_dir(dir).map_err(DepotError::io("read", dir))?;
    let first = entries.next().transpose().map_err(DepotError::io("read", dir))?;
    let missing = || DepotError::io("find modules in", dir)(io::Error::other("it is empty"));
    Ok(first.ok_or_else(missing)?.file_name().to_string_lossy().into_owned())
}

/// Takes the debugging data out of every module: three quarters of their size.
fn strip_modules(folder: &Path) -> Result<(), DepotError> {
    for entry in fs::read_dir(folder).map_err(DepotError::io("read", folder))? {
        let entry = entry.map_err(DepotError::io("read", folder))?;
        let path = entry.path();
        if path.is_dir() {
            strip_modules(&path)?;
        } else if path.extension().is_some_and(|ending| ending == "ko") {
            let bytes = fs::read(&path).map_err(DepotError::io("read", &path))?;
            // What is not understood stays as it is.
            if let Some(smaller) = elf::without_debug(&bytes) {
                fs::write(&path, smaller).map_err(DepotError::io("write", &path))?;
            }
        }
    }
    Ok(())
}
