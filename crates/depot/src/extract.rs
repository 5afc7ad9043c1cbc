//! What is taken out of packages that are never installed: kernels and VMMs, each
//! in a folder of the depot's `vmm/` named by what it was made of.
//!
//! A folder counts when its note is there, which is written last, after everything
//! else is on disk.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::archive::fetch::{Expected, Fetcher};
use crate::archive::index::Index;
use crate::archive::keyring::Keyring;
use crate::archive::suite::{Suites, Updates};
use crate::deb;
use crate::error::DepotError;
use crate::files;
use crate::hash;
use crate::larder::CONNECTIONS;
use crate::lock::{PinnedPackage, sorted};
use crate::mirrors::Mirrors;
use crate::progress::{Progress, Stage};
use crate::seal;
use crate::stage::Timer;
use crate::store::{ScratchIn, Store, Work, remove_tree};

/// One kind of thing to take out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Its name: of the folder, of the note, and in what is told.
    pub(crate) name: &'static str,
    /// Debian suite that it comes from.
    pub(crate) suite: &'static str,
    /// Whether that suite's updates are taken.
    pub(crate) updates: Updates,
    /// Changes whenever what is taken out of the packages does.
    pub(crate) recipe: &'static str,
}

/// Fills a new folder from pinned packages and gives the note that is kept with it.
type Make<'a, N> = dyn Fn(&Work, &Path, &[PinnedPackage]) -> Result<N, DepotError> + 'a;

/// Work on one kind.
pub(crate) struct Extract<'a> {
    pub(crate) kind: Kind,
    pub(crate) store: &'a Store,
    pub(crate) mirrors: &'a Mirrors,
    pub(crate) progress: &'a dyn Progress,
}

impl Extract<'_> {
    /// Finds the folder made of the `locked` packages, or else of those that `choose` finds in the
    /// archive, or makes it: `make` fills a new folder and gives the note. The packages
    /// are by then in the store.
    pub(crate) fn find_or_make<N: Serialize + DeserializeOwned>(
        &self,
        locked: Option<&[PinnedPackage]>,
        choose: &dyn Fn(&Index) -> Result<Vec<PinnedPackage>, DepotError>,
        make: &Make<'_, N>,
    ) -> Result<(PathBuf, N), DepotError> {
        let name = self.kind.name;
        let work = self.store.work(name, ScratchIn::Depot)?;
        let fetcher = Fetcher::new(self.mirrors, CONNECTIONS)?;
        let pins = match locked.filter(|pins| !pins.is_empty()) {
            Some(pins) => pins.to_vec(),
            None => sorted(self.newest(&fetcher, choose)?),
        };
        let hashes = pins.iter().map(|pin| (pin.name.as_str(), pin.sha256.as_str()));
        let key = hash::key([("recipe", self.kind.recipe)].into_iter().chain(hashes));
        let folder = self.store.folder("vmm").join(format!("{name}-{key}"));
        if let Some(note) = self.note(&folder) {
            return Ok((folder, note));
        }
        self.download(&fetcher, &pins)?;
        let timer = Timer::start(self.progress, name, Stage::Unpack, String::new());
        let new = work.dir().join(name);
        files::make_dir(&new)?;
        let note = make(&work, &new, &pins)?;
        remove_tree(&folder)?;
        fs::rename(&new, &folder).map_err(DepotError::io("keep", &folder))?;
        files::sync_all(&folder)?;
        seal::close_all(&folder)?;
        let text = serde_json::to_vec_pretty(&note).unwrap_or_default();
        files::write_whole(&self.note_path(&folder), &text)?;
        timer.finish(self.progress);
        Ok((folder, note))
    }

    /// The packages that the archive has now.
    pub(crate) fn chosen_anew(
        &self,
        choose: &dyn Fn(&Index) -> Result<Vec<PinnedPackage>, DepotError>,
    ) -> Result<Vec<PinnedPackage>, DepotError> {
        let fetcher = Fetcher::new(self.mirrors, CONNECTIONS)?;
        Ok(sorted(self.newest(&fetcher, choose)?))
    }

    fn note_path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.json", self.kind.name))
    }

    fn note<N: DeserializeOwned>(&self, folder: &Path) -> Option<N> {
        serde_json::from_slice(&fs::read(self.note_path(folder)).ok()?).ok()
    }

    fn newest(
        &self,
        fetcher: &Fetcher,
        choose: &dyn Fn(&Index) -> Result<Vec<PinnedPackage>, DepotError>,
    ) -> Result<Vec<PinnedPackage>, DepotError> {
        let Kind { name, suite, updates, .. } = self.kind;
        let timer = Timer::start(self.progress, name, Stage::Index, suite.to_owned());
        let (keyring, dir) = (&Keyring::debian(), &self.store.folder("index"));
        let suites = Suites { fetcher, keyring, dir, progress: self.progress, subject: name };
        let pins = choose(&suites.index(suite, updates)?)?;
        timer.finish(self.progress);
        Ok(pins)
    }

    fn download(&self, fetcher: &Fetcher, pins: &[PinnedPackage]) -> Result<(), DepotError> {
        let missing: Vec<_> = pins.iter().filter(|pin| !self.store.has(pin)).collect();
        let total: u64 = pins.iter().map(|pin| pin.size).sum();
        files::need_space(&self.store.folder("packages"), "download packages", total * 6)?;
        let size: u64 = missing.iter().map(|pin| pin.size).sum();
        let detail = format!("{} MiB", size >> 20);
        let timer = Timer::start(self.progress, self.kind.name, Stage::Download, detail);
        for pin in pins {
            let expected = Expected { file: &pin.filename, sha256: &pin.sha256, size: pin.size };
            let stop = AtomicBool::new(false);
            fetcher.fetch(expected, &self.store.path(&pin.sha256), &stop, &|_| ())?;
        }
        timer.finish(self.progress);
        Ok(())
    }

    /// Unpacks what `wanted` accepts of the packages' files (relative paths such as
    /// `usr/bin/x`) below `root`, checking each package against its pin.
    pub(crate) fn unpack(
        &self,
        pins: &[PinnedPackage],
        root: &Path,
        wanted: &dyn Fn(&Path) -> bool,
    ) -> Result<(), DepotError> {
        let wanted = |path: &Path| wanted(path.strip_prefix(".").unwrap_or(path));
        for pin in pins {
            let stored = self.store.path(&pin.sha256);
            deb::check(pin, &stored)?;
            deb::unpack(pin, &stored, root, &wanted)?;
        }
        Ok(())
    }

    /// The newest package of this name.
    pub(crate) fn pin(&self, index: &Index, name: &str) -> Result<PinnedPackage, DepotError> {
        let found = index.named(name).first().and_then(|number| index.pin(*number));
        found.ok_or_else(|| self.index_lacks(&format!("package {name}")))
    }

    /// The fault of an index that lacks something.
    pub(crate) fn index_lacks(&self, what: &str) -> DepotError {
        let suite = self.kind.suite.to_owned();
        DepotError::Index { suite, problem: format!("has no {what}") }
    }
}

/// Makes the links of a merged `/usr` that dynamic linkers are found by.
pub(crate) fn prepare_libraries(root: &Path) -> Result<(), DepotError> {
    for name in ["lib", "lib64"] {
        files::make_dir(&root.join("usr").join(name))?;
        let link = root.join(name);
        symlink(format!("usr/{name}"), &link).map_err(DepotError::io("make", &link))?;
    }
    Ok(())
}
