//! Gets packages ready while other work goes on: downloaded, checked, uncompressed.
//!
//! ```text
//! want ─missing→ downloads ─8 workers→ checks ─a worker per core→ known ─the same workers→ ready
//!        └─stored──────────────────────↑                            └→ controls                 └→ wait, wait_some
//! ```
//!
//! What is to be unpacked besides (the base) goes before all others. The first failure
//! stops everything; who waits is told.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::archive::fetch::{Expected, FetchError, Fetcher};
use crate::deb::{self, Flat};
use crate::error::DepotError;
use crate::files;
use crate::lock::PinnedPackage;
use crate::progress::{DepotEvent, Progress, Stage, Unit};
use crate::stage::Timer;
use crate::store::Store;

/// Connections to the mirror.
pub(crate) const CONNECTIONS: usize = 8;

/// Progress is told after so many bytes.
const TOLD_EVERY: u64 = 1 << 20;

/// A package to get ready, and where its files are to be unpacked besides.
#[derive(Clone, Debug)]
struct Job {
    pin: PinnedPackage,
    unpack_to: Option<PathBuf>,
}

/// What is known of a package that was asked for.
#[derive(Debug)]
enum Known {
    /// Nothing yet.
    Nothing,
    /// It is stored and whole: its control paragraph.
    Control(String),
    /// It is uncompressed.
    Flat(Flat),
}

/// What a worker does next.
enum Task {
    Check(Job),
    Flatten(Job),
    /// Both at once, and its files are unpacked.
    Whole(Job),
}

#[derive(Default)]
struct State {
    downloads: VecDeque<Job>,
    /// Stored, to be uncompressed before all others.
    urgent: VecDeque<Job>,
    /// Stored, to be compared with their hashes.
    checks: VecDeque<Job>,
    /// Whole, to be uncompressed.
    flattenings: VecDeque<Job>,
    known: HashMap<String, Known>,
    closed: bool,
    error: Option<DepotError>,
    timer: Option<Timer>,
    done: u64,
    total: u64,
    told: u64,
}

impl Known {
    fn flat(&self) -> Option<Flat> {
        match self {
            Known::Flat(flat) => Some(flat.clone()),
            _ => None,
        }
    }
}

impl State {
    fn stored(&mut self, job: Job) {
        let queue = if job.unpack_to.is_some() { &mut self.urgent } else { &mut self.checks };
        queue.push_back(job);
    }

    fn task(&mut self) -> Option<Task> {
        let urgent = self.urgent.pop_front().map(Task::Whole);
        let check = || self.checks.pop_front().map(Task::Check);
        urgent.or_else(check).or_else(|| self.flattenings.pop_front().map(Task::Flatten))
    }
}

/// The packages of one run.
pub(crate) struct Larder<'a> {
    store: &'a Store,
    fetcher: &'a Fetcher,
    /// Where uncompressed packages go.
    dir: &'a Path,
    progress: &'a dyn Progress,
    state: Mutex<State>,
    changed: Condvar,
    stop: AtomicBool,
}

impl<'a> Larder<'a> {
    /// An empty larder; its loops must be run by the caller's threads.
    pub(crate) fn new(
        store: &'a Store,
        fetcher: &'a Fetcher,
        dir: &'a Path,
        progress: &'a dyn Progress,
    ) -> Larder<'a> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Larder { store, fetcher, dir, progress, state, changed, stop: AtomicBool::new(false) }
    }

    /// Where uncompressed packages are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir
    }

    /// Where a package is stored.
    pub(crate) fn stored(&self, pin: &PinnedPackage) -> PathBuf {
        self.store.path(&pin.sha256)
    }

    /// Asks for packages; returns at once. Files of those that were not asked for
    /// before are unpacked below `unpack_to` too.
    pub(crate) fn want<'p>(
        &self,
        pins: impl IntoIterator<Item = &'p PinnedPackage>,
        unpack_to: Option<&Path>,
    ) -> Result<(), DepotError> {
        let mut state = self.lock();
        let mut missing = 0;
        for pin in pins {
            if state.known.contains_key(&pin.sha256) {
                continue;
            }
            state.known.insert(pin.sha256.clone(), Known::Nothing);
            let job = Job { pin: pin.clone(), unpack_to: unpack_to.map(Path::to_owned) };
            if self.store.has(pin) {
                state.stored(job);
            } else {
                missing += pin.size;
                if job.unpack_to.is_some() {
                    state.downloads.push_front(job);
                } else {
                    state.downloads.push_back(job);
                }
            }
        }
        state.total += missing;
        if missing > 0 && state.timer.is_none() {
            let detail = format!("{} MiB", missing >> 20);
            state.timer = Some(Timer::start(self.progress, "packages", Stage::Download, detail));
        }
        drop(state);
        self.changed.notify_all();
        files::need_space(&self.store.folder("packages"), "download packages", missing)?;
        files::need_space(self.dir, "unpack packages", missing.saturating_mul(5))
    }

    /// Waits until packages are known, and gives their control paragraphs.
    pub(crate) fn controls(&self, pins: &[PinnedPackage]) -> Result<Vec<String>, DepotError> {
        self.wait_for(pins, |known| match known {
            Known::Nothing => None,
            Known::Control(control) => Some(control.clone()),
            Known::Flat(flat) => Some(flat.control.clone()),
        })
    }

    /// Waits until packages are ready.
    pub(crate) fn wait(&self, pins: &[PinnedPackage]) -> Result<Vec<Flat>, DepotError> {
        self.wait_for(pins, Known::flat)
    }

    /// Waits until the first `least` of packages are ready (all, if there are less), and gives as many of them, from
    /// the first on, as are ready then.
    pub(crate) fn wait_some(
        &self,
        pins: &[PinnedPackage],
        least: usize,
    ) -> Result<Vec<Flat>, DepotError> {
        let mut found = self.wait_for(&pins[..least.min(pins.len())], Known::flat)?;
        let state = self.lock();
        let more = pins[found.len()..].iter().map_while(|pin| state.known.get(&pin.sha256)?.flat());
        found.extend(more);
        Ok(found)
    }

    /// Uncompresses these before others, in this order.
    pub(crate) fn prefer(&self, order: &[PinnedPackage]) {
        let rank: HashMap<&str, usize> =
            order.iter().enumerate().map(|(rank, pin)| (pin.sha256.as_str(), rank)).collect();
        let mut state = self.lock();
        let place = |job: &Job| rank.get(job.pin.sha256.as_str()).copied().unwrap_or(usize::MAX);
        state.flattenings.make_contiguous().sort_by_key(place);
    }

    fn wait_for<T>(
        &self,
        pins: &[PinnedPackage],
        wanted: impl Fn(&Known) -> Option<T>,
    ) -> Result<Vec<T>, DepotError> {
        let mut state = self.lock();
        let mut found = Vec::new();
        for pin in pins {
            loop {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(state.error.take().unwrap_or(DepotError::Stopped));
                }
                let known = state.known.get(&pin.sha256).ok_or(DepotError::Stopped)?;
                match wanted(known) {
                    Some(what) => {
                        found.push(what);
                        break;
                    }
                    None => state = self.sleep(state),
                }
            }
        }
        Ok(found)
    }

    /// Nothing more will be asked for: the loops end.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        if let Some(timer) = state.timer.take().filter(|_| state.downloads.is_empty()) {
            timer.finish(self.progress);
        }
        drop(state);
        self.stop.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Downloads until the larder is closed.
    pub(crate) fn download_loop(&self) {
        while let Some(job) = self.next(|state| state.downloads.pop_front()) {
            match self.download(&job.pin) {
                Ok(()) => {
                    self.lock().stored(job);
                    self.changed.notify_all();
                }
                Err(error) => self.fail(error.into()),
            }
        }
    }

    /// Checks and uncompresses until the larder is closed.
    pub(crate) fn check_loop(&self) {
        while let Some(task) = self.next(State::task) {
            let done = match task {
                Task::Check(job) => self.check(&job).map(|control| {
                    let mut state = self.lock();
                    state.known.insert(job.pin.sha256.clone(), Known::Control(control));
                    state.flattenings.push_back(job);
                }),
                Task::Flatten(job) => self.flatten(&job),
                Task::Whole(job) => self.check(&job).and_then(|_| self.flatten(&job)),
            };
            match done {
                Ok(()) => self.changed.notify_all(),
                Err(error) => self.fail(error),
            }
        }
    }

    fn download(&self, pin: &PinnedPackage) -> Result<(), FetchError> {
        let path = self.store.path(&pin.sha256);
        let expected = Expected { file: &pin.filename, sha256: &pin.sha256, size: pin.size };
        self.fetcher.fetch(expected, &path, &self.stop, &|bytes| self.arrived(bytes))
    }

    fn check(&self, job: &Job) -> Result<String, DepotError> {
        let stored = self.store.path(&job.pin.sha256);
        match deb::check(&job.pin, &stored) {
            Err(error @ DepotError::Fetch(_)) => {
                // A stored file that was torn or altered: the next run fetches it anew.
                std::fs::remove_file(&stored).map_err(DepotError::io("remove", &stored))?;
                Err(error)
            }
            other => other,
        }
    }

    fn flatten(&self, job: &Job) -> Result<(), DepotError> {
        let target = self.dir.join(format!("{}.deb", job.pin.sha256));
        let flat = deb::flatten(&job.pin, &self.store.path(&job.pin.sha256), &target)?;
        if let Some(root) = &job.unpack_to {
            deb::unpack(&job.pin, &flat.path, root, &crate::base::is_kept)?;
        }
        self.lock().known.insert(job.pin.sha256.clone(), Known::Flat(flat));
        Ok(())
    }

    fn arrived(&self, bytes: u64) {
        let mut state = self.lock();
        state.done += bytes;
        let all = state.done >= state.total;
        if state.done - state.told < TOLD_EVERY && !all {
            return;
        }
        state.told = state.done;
        let (done, total) = (state.done, state.total);
        let timer = if all { state.timer.take() } else { None };
        drop(state);
        let (subject, stage, unit) = ("packages".to_owned(), Stage::Download, Unit::Bytes);
        self.progress.event(DepotEvent::StageProgress { subject, stage, done, total, unit });
        if let Some(timer) = timer {
            timer.finish(self.progress);
        }
    }

    fn next<T>(&self, take: impl Fn(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.closed || self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(taken) = take(&mut state) {
                return Some(taken);
            }
            state = self.sleep(state);
        }
    }

    fn fail(&self, error: DepotError) {
        let mut state = self.lock();
        let stopped = matches!(error, DepotError::Fetch(FetchError::Stopped(_)));
        if state.error.is_none() && !stopped {
            state.error = Some(error);
        }
        self.stop.store(true, Ordering::Relaxed);
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the state's parts valid, each being set in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep<'g>(&self, state: MutexGuard<'g, State>) -> MutexGuard<'g, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the larder when the work with it ends, well or not, so its loops end.
pub(crate) struct Closing<'l, 'a>(pub(crate) &'l Larder<'a>);

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
