//! Gets packages ready while other work goes on: downloaded, checked, uncompressed.
//!
//! ```text
//! want ─missing→ downloads ─8 workers→ checks ─a worker per core→ ready ─wait→ whoever needs them
//!        └─stored──────────────────────↑
//! ```
//!
//! The first failure stops everything; who waits is told.

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

#[derive(Default)]
struct State {
    downloads: VecDeque<Job>,
    checks: VecDeque<Job>,
    ready: HashMap<String, Option<Flat>>,
    closed: bool,
    error: Option<DepotError>,
    timer: Option<Timer>,
    done: u64,
    total: u64,
    told: u64,
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
            if state.ready.contains_key(&pin.sha256) {
                continue;
            }
            state.ready.insert(pin.sha256.clone(), None);
            let job = Job { pin: pin.clone(), unpack_to: unpack_to.map(Path::to_owned) };
            if self.store.has(pin) {
                state.checks.push_back(job);
            } else {
                missing += pin.size;
                state.downloads.push_back(job);
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

    /// Waits until packages are ready.
    pub(crate) fn wait<'p>(
        &self,
        pins: impl IntoIterator<Item = &'p PinnedPackage>,
    ) -> Result<Vec<Flat>, DepotError> {
        let mut state = self.lock();
        let mut found = Vec::new();
        for pin in pins {
            loop {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(state.error.take().unwrap_or(DepotError::Stopped));
                }
                match state.ready.get(&pin.sha256) {
                    Some(Some(flat)) => {
                        found.push(flat.clone());
                        break;
                    }
                    Some(None) => state = self.sleep(state),
                    None => return Err(DepotError::Stopped),
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
                    self.lock().checks.push_back(job);
                    self.changed.notify_all();
                }
                Err(error) => self.fail(error.into()),
            }
        }
    }

    /// Checks and uncompresses until the larder is closed.
    pub(crate) fn check_loop(&self) {
        while let Some(job) = self.next(|state| state.checks.pop_front()) {
            match self.prepare(&job) {
                Ok(flat) => {
                    self.lock().ready.insert(job.pin.sha256, Some(flat));
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

    fn prepare(&self, job: &Job) -> Result<Flat, DepotError> {
        let stored = self.store.path(&job.pin.sha256);
        let target = self.dir.join(format!("{}.deb", job.pin.sha256));
        let flat = match deb::flatten(&job.pin, &stored, &target) {
            Err(error @ DepotError::Fetch(_)) => {
                // A stored file that was torn or altered: the next run fetches it anew.
                std::fs::remove_file(&stored).map_err(DepotError::io("remove", &stored))?;
                return Err(error);
            }
            other => other?,
        };
        if let Some(root) = &job.unpack_to {
            deb::unpack(&job.pin, &flat.path, root, &crate::base::is_kept)?;
        }
        Ok(flat)
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

    fn next(&self, take: impl Fn(&mut State) -> Option<Job>) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed || self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(job) = take(&mut state) {
                return Some(job);
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
