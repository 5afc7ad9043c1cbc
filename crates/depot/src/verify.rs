//! Reads everything in the depot again and compares it with its hash; mends what it can.
//!
//! ```text
//! package ─hash≠name→ damaged ─mend→ removed, fetched again when a mirror and its place are known
//! index   ─signature, hash→ damaged ─mend→ removed: the next resolve fetches it
//! image, root, kernel ─seal→ damaged ─mend→ removed: the next `up` makes it again of the packages
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::archive::fetch::{Expected, Fetcher};
use crate::archive::keyring::Keyring;
use crate::archive::stored;
use crate::build::cores;
use crate::error::DepotError;
use crate::gc::{self, Item, References};
use crate::larder::CONNECTIONS;
use crate::lock::{Lock, PinnedPackage};
use crate::mirrors::Mirrors;
use crate::progress::{DepotEvent, Progress, Stage, Unit};
use crate::seal;
use crate::stage::Timer;
use crate::store::{Store, Whole};

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many things were read.
    pub read: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// What is damaged; the remark says what became of it.
    pub damaged: Vec<Item>,
    /// What carries no seal, so that nothing can be said of it.
    pub unsealed: Vec<Item>,
}

/// Finds damage. Nothing is changed.
pub(crate) fn verify(store: &Store, progress: &dyn Progress) -> Result<Verified, DepotError> {
    let mut things = Vec::new();
    things.extend(gc::packages(store)?.into_iter().filter(|p| is(p, "deb")).map(Thing::Package));
    things.extend(stored::suites(&store.folder("index")).into_iter().map(Thing::Release));
    let indexes = gc::entries(&store.folder("index"))?.into_iter();
    things.extend(indexes.filter(|path| is(path, "xz")).map(Thing::Index));
    for folder in ["images", "roots", "vmm"] {
        let entries = gc::entries(&store.folder(folder))?.into_iter();
        things.extend(entries.map(|path| Thing::Sealed(folder, path)));
    }
    let reader = Reader {
        store,
        progress,
        things: &things,
        next: AtomicUsize::new(0),
        bytes: AtomicU64::new(0),
        found: Mutex::new(Verified { read: things.len(), ..Verified::default() }),
    };
    let timer = Timer::start(progress, "depot", Stage::Verify, format!("{} things", things.len()));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores()).map(|_| scope.spawn(|| reader.run())).collect();
        let end = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join();
        threads.into_iter().try_for_each(|t| end(t).unwrap_or(Err(DepotError::Stopped)))
    })?;
    timer.finish(progress);
    let mut found = reader.found.into_inner().unwrap_or_default();
    found.bytes = reader.bytes.into_inner();
    found.damaged.sort();
    found.unsealed.sort();
    Ok(found)
}

/// Removes what is damaged and fetches again what can be. The caller holds the whole depot.
pub(crate) fn mend(
    store: &Store,
    _whole: &Whole,
    found: &mut Verified,
    references: &References,
    mirrors: &Mirrors,
) -> Result<(), DepotError> {
    let known: BTreeMap<&str, &PinnedPackage> = references
        .locks
        .iter()
        .flat_map(Lock::packages)
        .map(|package| (package.sha256.as_str(), package))
        .collect();
    let fetcher = Fetcher::new(mirrors, CONNECTIONS)?;
    for item in &mut found.damaged {
        let path = place(store, item);
        if references.uses(&path) {
            item.remark = "a running machine uses it: stop it and verify again".to_owned();
            continue;
        }
        gc::discard(&path)?;
        item.remark = "removed".to_owned();
        let sha256 = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        item.remark += match item.folder {
            "packages" => match known.get(sha256.as_str()) {
                Some(pin) => match fetch(store, &fetcher, pin) {
                    Ok(()) => ", fetched again",
                    Err(error) => {
                        item.remark = format!("removed; not fetched again: {error}");
                        continue;
                    }
                },
                None if references.packages.contains(&sha256) => {
                    "; a node has it, and no lock says where it comes from"
                }
                None => "; no lock needs it",
            },
            "index" => "; it is fetched when it is needed",
            _ => "; it is made again when it is needed",
        };
    }
    Ok(())
}

fn fetch(store: &Store, fetcher: &Fetcher, pin: &PinnedPackage) -> Result<(), DepotError> {
    let expected = Expected { file: &pin.filename, sha256: &pin.sha256, size: pin.size };
    fetcher.fetch(expected, &store.path(&pin.sha256), &AtomicBool::new(false), &|_| ())?;
    Ok(())
}

fn place(store: &Store, item: &Item) -> PathBuf {
    match item.folder {
        "packages" => store.folder("packages").join(&item.name[..2]).join(&item.name),
        folder => store.folder(folder).join(&item.name),
    }
}

fn is(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found == ending)
}

/// Something to read.
enum Thing {
    Package(PathBuf),
    Release(String),
    Index(PathBuf),
    Sealed(&'static str, PathBuf),
}

/// What the reading threads share.
struct Reader<'a> {
    store: &'a Store,
    progress: &'a dyn Progress,
    things: &'a [Thing],
    next: AtomicUsize,
    bytes: AtomicU64,
    found: Mutex<Verified>,
}

impl Reader<'_> {
    fn run(&self) -> Result<(), DepotError> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(thing) = self.things.get(number) else { return Ok(()) };
            self.one(thing)?;
            let (subject, unit) = ("depot".to_owned(), Unit::Packages);
            let (done, total) = (number as u64 + 1, self.things.len() as u64);
            let stage = Stage::Verify;
            self.progress.event(DepotEvent::StageProgress { subject, stage, done, total, unit });
        }
    }

    fn one(&self, thing: &Thing) -> Result<(), DepotError> {
        match thing {
            Thing::Package(path) => self.hashed("packages", path),
            Thing::Index(path) => self.hashed("index", path),
            Thing::Release(suite) => {
                let path = stored::release_path(&self.store.folder("index"), suite);
                let bytes = std::fs::read(&path).map_err(DepotError::io("read", &path))?;
                if let Err(error) = stored::verify(&bytes, suite, &Keyring::debian()) {
                    self.damaged("index", &path, error.to_string());
                }
                Ok(())
            }
            Thing::Sealed(folder, path) => {
                match seal::state(path)? {
                    seal::State::Whole => {}
                    seal::State::Damaged => self.damaged(folder, path, "is not as made".to_owned()),
                    seal::State::Unsealed => {
                        self.note(folder, path, String::new(), |found| &mut found.unsealed);
                    }
                }
                self.bytes.fetch_add(gc::size(path), Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// A file whose name is its hash.
    fn hashed(&self, folder: &'static str, path: &Path) -> Result<(), DepotError> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (size, sha256) = crate::hash::of_file(path).map_err(DepotError::io("read", path))?;
        self.bytes.fetch_add(size, Ordering::Relaxed);
        if sha256 != name {
            self.damaged(folder, path, format!("its SHA-256 is {sha256}"));
        }
        Ok(())
    }

    fn damaged(&self, folder: &'static str, path: &Path, remark: String) {
        self.note(folder, path, remark, |found| &mut found.damaged);
    }

    fn note(
        &self,
        folder: &'static str,
        path: &Path,
        remark: String,
        list: impl FnOnce(&mut Verified) -> &mut Vec<Item>,
    ) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let item = Item { folder, name, bytes: gc::size(path), remark };
        // A panic elsewhere leaves the list valid.
        let mut found = self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        list(&mut found).push(item);
    }
}
