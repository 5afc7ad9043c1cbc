//! Packages for nodes that install themselves one by one: all there, each checked by its hash, in an order in
//! which each comes after what it depends on.
//!
//! ```text
//! pins ─stored?─ no ──────────────▶ download ─▶ checked
//!         └ yes ─▶ check ─damaged─▶ removed ──┘    └─▶ control paragraphs ─▶ order
//! ```

use std::fs::{self, File};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::archive::control::Paragraph;
use crate::archive::fetch::{Expected, FetchError, Fetcher, check};
use crate::build::cores;
use crate::deb;
use crate::depot::Depot;
use crate::error::DepotError;
use crate::larder::CONNECTIONS;
use crate::lock::PinnedPackage;
use crate::mirrors::Mirrors;
use crate::order::{Set, Step};
use crate::progress::{DepotEvent, Progress, Stage, Unit};
use crate::stage::Timer;
use crate::store::Store;

/// Packages that are ready to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provision {
    /// In the order in which they are best installed.
    pub order: Vec<PinnedPackage>,
    /// What is configured before a package beyond the base is unpacked: that package, and names.
    pub early: Vec<(String, Vec<String>)>,
    /// What they take when they are unpacked, bytes, as they say themselves.
    pub unpacked: u64,
}

impl Depot {
    /// Sees to it that all of `pins` are stored and are what they are pinned as; what is missing or damaged is
    /// downloaded. Gives them in the order in which they are best installed, over those of them that are `base`. When
    /// all are there and whole, the network is not used.
    pub fn provision(
        &self,
        mirrors: &Mirrors,
        base: &[PinnedPackage],
        pins: &[PinnedPackage],
        progress: &dyn Progress,
    ) -> Result<Provision, DepotError> {
        let store = self.store();
        let total = pins.len() as u64;
        let timer = Timer::start(progress, "packages", Stage::Check, format!("{total} packages"));
        let done = Mutex::new(0);
        let said = || {
            let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *done += 1;
            let (subject, stage, unit) = ("packages".to_owned(), Stage::Check, Unit::Packages);
            progress.event(DepotEvent::StageProgress { subject, stage, done: *done, total, unit });
        };
        let look = |pin: &PinnedPackage| {
            let whole = is_whole(store, pin);
            said();
            whole.map(|whole| (!whole).then(|| pin.clone()))
        };
        let missing: Vec<_> = in_parallel(cores(), pins, &look)?.into_iter().flatten().collect();
        timer.finish(progress);
        if !missing.is_empty() {
            download(store, mirrors, &missing, progress)?;
        }
        let read = |pin: &PinnedPackage| deb::control(pin, &store.path(&pin.sha256));
        let controls = in_parallel(cores(), pins, &read)?;
        let size = |control: &String| -> u64 {
            let size = Paragraph::new(control).get("Installed-Size");
            size.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
        };
        let unpacked = controls.iter().map(size).sum();
        let (mut order, mut others, mut described) = (Vec::new(), Vec::new(), Vec::new());
        for (pin, control) in pins.iter().zip(controls) {
            if base.contains(pin) {
                order.push(pin.clone());
            } else {
                others.push(pin.clone());
                described.push(control);
            }
        }
        let (ordered, early) = ordered(&Set::new(&others, &described))?;
        order.extend(ordered);
        Ok(Provision { order, early, unpacked })
    }
}

/// What is configured before a package is unpacked.
type Early = Vec<(String, Vec<String>)>;

/// A set in the order of the depot's own installation.
fn ordered(set: &Set<'_>) -> Result<(Vec<PinnedPackage>, Early), DepotError> {
    let (order, steps) = set.steps().map_err(|package| DepotError::Ring { package })?;
    let mut early = Vec::new();
    let mut names = Vec::new();
    for step in steps {
        match step {
            Step::Configure(more) => names.extend(more),
            Step::Unpack(range) if !range.is_empty() && !names.is_empty() => {
                early.push((order[range.start].name.clone(), std::mem::take(&mut names)));
            }
            Step::Unpack(_) => {}
        }
    }
    Ok((order, early))
}

/// Whether a package is stored as it is pinned; a damaged one is removed.
fn is_whole(store: &Store, pin: &PinnedPackage) -> Result<bool, DepotError> {
    let path = store.path(&pin.sha256);
    let mut file = match File::open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(DepotError::io("open", &path))?,
    };
    if check(expected(pin), &mut file).map_err(DepotError::io("read", &path))?.is_ok() {
        return Ok(true);
    }
    tracing::warn!(package = pin.name, "a stored package is damaged; it is fetched anew");
    fs::remove_file(&path).map_err(DepotError::io("remove", &path))?;
    Ok(false)
}

fn expected(pin: &PinnedPackage) -> Expected<'_> {
    Expected { file: &pin.filename, sha256: &pin.sha256, size: pin.size }
}

fn download(
    store: &Store,
    mirrors: &Mirrors,
    pins: &[PinnedPackage],
    progress: &dyn Progress,
) -> Result<(), DepotError> {
    let total: u64 = pins.iter().map(|pin| pin.size).sum();
    crate::files::need_space(&store.folder("packages"), "download packages", total)?;
    let detail = format!("{} packages, {} MiB", pins.len(), total >> 20);
    let timer = Timer::start(progress, "packages", Stage::Download, detail);
    let fetcher = Fetcher::new(mirrors, CONNECTIONS)?;
    let stop = AtomicBool::new(false);
    let done = Mutex::new(0);
    let arrived = |bytes: u64| {
        let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *done += bytes;
        let (subject, stage, unit) = ("packages".to_owned(), Stage::Download, Unit::Bytes);
        progress.event(DepotEvent::StageProgress { subject, stage, done: *done, total, unit });
    };
    let fetch = |pin: &PinnedPackage| {
        let fetched = fetcher.fetch(expected(pin), &store.path(&pin.sha256), &stop, &arrived);
        if fetched.as_ref().is_err_and(|e| !matches!(e, FetchError::Stopped(_))) {
            stop.store(true, Ordering::Relaxed);
        }
        fetched.map_err(DepotError::from)
    };
    in_parallel(CONNECTIONS, pins, &fetch)?;
    timer.finish(progress);
    Ok(())
}

/// Does `work` for all items on some threads; results in the items' order, or the first failure that is not
/// merely the end of what another failure stopped.
fn in_parallel<T: Send, I: Sync>(
    threads: usize,
    items: &[I],
    work: &(dyn Fn(&I) -> Result<T, DepotError> + Sync),
) -> Result<Vec<T>, DepotError> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { return done };
            let result = work(item);
            if result.is_err() {
                next.store(items.len(), Ordering::Relaxed);
            }
            done.push((number, result));
        }
    };
    let threads = threads.min(items.len());
    let mut all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let stopped = |_| vec![(0, Err(DepotError::Stopped))];
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(stopped)).collect()
    });
    let merely = |error: &DepotError| {
        matches!(error, DepotError::Stopped | DepotError::Fetch(FetchError::Stopped(_)))
    };
    all.sort_by_key(|(number, result)| (result.as_ref().is_err_and(merely), *number));
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(name: &str) -> PinnedPackage {
        PinnedPackage {
            name: name.to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            sha256: hex::encode([name.len() as u8; 32]),
            size: 1,
            filename: format!("pool/{name}.deb"),
        }
    }

    #[test]
    fn the_failure_that_stopped_the_others_is_told() {
        let items: Vec<u32> = (0..100).collect();
        let work = |item: &u32| match item {
            7 => Err(DepotError::Fetch(FetchError::Proxy("seven".to_owned()))),
            3 => Err(DepotError::Stopped),
            other => Ok(*other),
        };
        let error = in_parallel(1, &items[4..], &work).unwrap_err();
        assert!(error.to_string().contains("seven"));
        assert_eq!(in_parallel(4, &items[8..20], &work).unwrap(), items[8..20]);
        assert!(in_parallel(4, &items[..0], &work).unwrap().is_empty());
    }

    #[test]
    fn damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut pin = pin("x");
        pin.sha256 = crate::hash::of_bytes(b"x");
        assert!(!is_whole(&store, &pin).unwrap());
        fs::write(store.path(&pin.sha256), b"x").unwrap();
        assert!(is_whole(&store, &pin).unwrap());
        fs::write(store.path(&pin.sha256), b"y").unwrap();
        assert!(!is_whole(&store, &pin).unwrap());
        assert!(!store.path(&pin.sha256).exists());
    }
}
