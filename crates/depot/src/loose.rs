//! Packages taken apart: chosen by name from a suite's index, checked like all others,
//! unpacked side by side into one tree, never installed and never run here. For programs
//! and kernels that bring their own libraries and need nothing of a system around them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use crate::archive::fetch::{Expected, Fetcher};
use crate::archive::index::Index;
use crate::archive::keyring::Keyring;
use crate::archive::suite::{Suites, Updates};
use crate::error::DepotError;
use crate::larder::CONNECTIONS;
use crate::lock::{PinnedPackage, sorted};
use crate::mirrors::Mirrors;
use crate::progress::{Progress, Stage};
use crate::stage::Timer;
use crate::store::{ScratchIn, Store, Work, remove_tree};
use crate::{deb, files, hash};

const NOTE: &str = "loose.json";

/// Links of a Debian root into `/usr`.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// What is wanted.
#[derive(Clone, Copy)]
pub struct LooseRequest<'a> {
    /// For people and for the folder's name: letters, digits, hyphens.
    pub name: &'a str,
    /// Debian suite, when the packages are chosen anew.
    pub suite: &'a str,
    /// Packages by name; what they depend on comes along (first alternatives).
    pub packages: &'a [&'a str],
    /// Which packages of all these are taken, by name.
    pub takes: fn(&str) -> bool,
    /// Which of their files are kept, by path relative to the root.
    pub keeps: fn(&Path) -> bool,
    /// Changes whenever `keeps` does.
    pub recipe: &'a str,
    /// Pins of an earlier time; with them no index is asked for.
    pub pins: &'a [PinnedPackage],
}

/// A tree of unpacked packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loose {
    /// The tree.
    pub root: PathBuf,
    /// The packages it was taken from, sorted.
    pub packages: Vec<PinnedPackage>,
}

#[derive(Serialize, Deserialize)]
struct Note {
    packages: Vec<PinnedPackage>,
}

/// Finds or makes it.
pub(crate) fn loose(
    store: &Store,
    mirrors: &Mirrors,
    request: &LooseRequest<'_>,
    progress: &dyn Progress,
) -> Result<Loose, DepotError> {
    let work = store.work("loose", ScratchIn::Depot)?;
    let fetcher = Fetcher::new(mirrors, CONNECTIONS)?;
    let pins = match request.pins {
        [] => newest_pins(store, &fetcher, request, progress)?,
        pins => pins.to_vec(),
    };
    let hashes = pins.iter().map(|pin| (pin.name.as_str(), pin.sha256.as_str()));
    let key = hash::key([("recipe", request.recipe)].into_iter().chain(hashes));
    let folder = store.folder("vmm").join(format!("{}-{key}", request.name));
    if let Some(found) = find(&folder) {
        return Ok(found);
    }
    download(store, &fetcher, request, &pins, progress)?;
    let timer = Timer::start(progress, request.name, Stage::Unpack, String::new());
    unpack(store, &work, request, &pins)?;
    remove_tree(&folder)?;
    fs::rename(work.dir().join("made"), &folder).map_err(DepotError::io("keep", &folder))?;
    files::sync_all(&folder)?;
    crate::seal::close(&folder, &["root"])?;
    let text = serde_json::to_vec_pretty(&Note { packages: pins }).unwrap_or_default();
    files::write_whole(&folder.join(NOTE), &text)?;
    timer.finish(progress);
    find(&folder).ok_or(DepotError::Stopped)
}

fn find(folder: &Path) -> Option<Loose> {
    let note: Note = serde_json::from_slice(&fs::read(folder.join(NOTE)).ok()?).ok()?;
    Some(Loose { root: folder.join("root"), packages: note.packages })
}

fn newest_pins(
    store: &Store,
    fetcher: &Fetcher,
    request: &LooseRequest<'_>,
    progress: &dyn Progress,
) -> Result<Vec<PinnedPackage>, DepotError> {
    let suite = request.suite;
    let timer = Timer::start(progress, request.name, Stage::Index, suite.to_owned());
    let (keyring, dir) = (&Keyring::debian(), &store.folder("index"));
    let suites = Suites { fetcher, keyring, dir, progress, subject: request.name };
    let pins = choose(&suites.index(suite, Updates::Take)?, request)
        .map_err(|problem| DepotError::Index { suite: suite.to_owned(), problem })?;
    timer.finish(progress);
    Ok(sorted(pins))
}

/// The packages by name, what they depend on, less what is not taken.
fn choose(index: &Index, request: &LooseRequest<'_>) -> Result<Vec<PinnedPackage>, String> {
    let missing = |name: &str| format!("has no package {name}");
    let start = request
        .packages
        .iter()
        .map(|name| index.named(name).first().copied().ok_or_else(|| missing(name)));
    let start: Vec<usize> = start.collect::<Result<_, _>>()?;
    let chosen =
        index.simple_closure(start.into_iter()).map_err(|names| missing(&names.join(", ")))?;
    let pins = chosen.iter().filter_map(|number| index.pin(*number));
    let pins: Vec<_> = pins.filter(|pin| (request.takes)(&pin.name)).collect();
    if pins.is_empty() {
        return Err(format!("has nothing that is wanted for {}", request.name));
    }
    Ok(pins)
}

fn download(
    store: &Store,
    fetcher: &Fetcher,
    request: &LooseRequest<'_>,
    pins: &[PinnedPackage],
    progress: &dyn Progress,
) -> Result<(), DepotError> {
    let missing: Vec<&PinnedPackage> = pins.iter().filter(|pin| !store.has(pin)).collect();
    let total: u64 = missing.iter().map(|pin| pin.size).sum();
    files::need_space(&store.folder("packages"), "download packages", total * 6)?;
    let detail = format!("{} MiB", total >> 20);
    let timer = Timer::start(progress, request.name, Stage::Download, detail);
    for pin in missing {
        let expected = Expected { file: &pin.filename, sha256: &pin.sha256, size: pin.size };
        let stop = AtomicBool::new(false);
        fetcher.fetch(expected, &store.path(&pin.sha256), &stop, &|_| ())?;
    }
    timer.finish(progress);
    Ok(())
}

/// Makes `made/root` in the temporary folder.
fn unpack(
    store: &Store,
    work: &Work,
    request: &LooseRequest<'_>,
    pins: &[PinnedPackage],
) -> Result<(), DepotError> {
    let root = work.dir().join("made/root");
    for name in MERGED {
        files::make_dir(&root.join("usr").join(name))?;
        let link = root.join(name);
        symlink(format!("usr/{name}"), &link).map_err(DepotError::io("make", &link))?;
    }
    for pin in pins {
        let stored = store.path(&pin.sha256);
        deb::check(pin, &stored)?;
        let keeps = |path: &Path| (request.keeps)(path.strip_prefix(".").unwrap_or(path));
        deb::unpack(pin, &stored, &root, &keeps)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_package_needs_comes_along_and_the_rest_does_not() {
        let sha = "a".repeat(64);
        let stanza = |name: &str, depends: &str| {
            format!(
                "Package: {name}\nVersion: 1\nArchitecture: amd64\nDepends: {depends}\n\
                 SHA256: {sha}\nSize: 1\nFilename: pool/{name}.deb\n\n"
            )
        };
        let text = [
            stanza("linux-image-amd64", "linux-image-6.12-amd64"),
            stanza("linux-image-6.12-amd64", "kmod | other"),
            stanza("kmod", ""),
            stanza("apart", ""),
        ];
        let index = Index::parse(text.concat());
        let mut request = LooseRequest {
            name: "kernel",
            suite: "trixie",
            packages: &["linux-image-amd64"],
            takes: |name| name.starts_with("linux-image-6"),
            keeps: |_| true,
            recipe: "1",
            pins: &[],
        };
        let names = |request: &LooseRequest<'_>| {
            choose(&index, request)
                .map(|pins| pins.into_iter().map(|pin| pin.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&request).unwrap(), ["linux-image-6.12-amd64"]);
        request.takes = |_| true;
        assert_eq!(names(&request).unwrap().len(), 3);
        request.packages = &["nothing"];
        assert_eq!(names(&request).unwrap_err(), "has no package nothing");
    }
}
