//! Gets packages ready while other work goes on: downloaded and checked.
//!
//! ```text
//! want ─missing→ downloads ─8 workers→ checks ─a worker per core→ known ─→ controls
//!        └─stored──────────────────────↑
//! ```
//!
//! Urgent ones (the base) go before all others. The first failure stops everything; who waits is told.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::archive::fetch::{Expected, FetchError, Fetcher};
use crate::deb;
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

/// A package to get ready.
#[derive(Clone, Debug)]
struct Job {
    pin: PinnedPackage,
    urgent: bool,
}

#[derive(Default)]
struct State {
    downloads: VecDeque<Job>,
    /// Stored, to be compared with their hashes.
    checks: VecDeque<Job>,
    /// Control paragraphs of what was asked for, by hash; none while it is not known to be whole.
    known: HashMap<String, Option<String>>,
    closed: bool,
    error: Option<DepotError>,
    timer: Option<Timer>,
    done: u64,
    total: u64,
    told: u64,
}

impl State {
    fn stored(&mut self, job: Job) {
        queue(&mut self.checks, job);
    }
}

/// What is urgent comes before all others, each in the order in which it was asked for.
fn queue(jobs: &mut VecDeque<Job>, job: Job) {
    let before = |other: &&Job| other.urgent || !job.urgent;
    let place = jobs.iter().take_while(before).count();
    jobs.insert(place, job);
}

/// The packages of one run.
pub(crate) struct Larder<'a> {
    store: &'a Store,
    fetcher: &'a Fetcher,
    /// Where roots are made of them.
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

    /// The folder that holds all stored packages.
    pub(crate) fn packages(&self) -> PathBuf {
        self.store.folder("packages")
    }

    /// Where a package is stored, in that folder.
    pub(crate) fn stored(&self, pin: &PinnedPackage) -> PathBuf {
        self.store.path(&pin.sha256)
    }

    /// Asks for packages; returns at once.
    pub(crate) fn want<'p>(
        &self,
        pins: impl IntoIterator<Item = &'p PinnedPackage>,
        urgent: bool,
    ) -> Result<(), DepotError> {
        let mut state = self.lock();
        let mut missing = 0;
        for pin in pins {
            if state.known.contains_key(&pin.sha256) {
                continue;
            }
            state.known.insert(pin.sha256.clone(), None);
            let job = Job { pin: pin.clone(), urgent };
            if self.store.has(pin) {
                state.stored(job);
            } else {
                missing += pin.size;
                queue(&mut state.downloads, job);
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

    /// Waits until packages are known to be whole, and gives their control paragraphs.
    pub(crate) fn controls(&self, pins: &[PinnedPackage]) -> Result<Vec<String>, DepotError> {
        let mut state = self.lock();
        let mut found = Vec::new();
        for pin in pins {
            loop {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(state.error.take().unwrap_or(DepotError::Stopped));
                }
                let known = state.known.get(&pin.sha256).ok_or(DepotError::Stopped)?;
                match known {
                    Some(control) => {
                        found.push(control.clone());
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

    /// Checks until the larder is closed.
    pub(crate) fn check_loop(&self) {
        while let Some(job) = self.next(|state| state.checks.pop_front()) {
            match self.check(&job) {
                Ok(control) => {
                    self.lock().known.insert(job.pin.sha256, Some(control));
                    self.changed.notify_all();
                }
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
