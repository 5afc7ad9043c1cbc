//! How far the installation is: kept here, told to the install server by a thread of its own, so that a slow
//! or absent server delays nothing but its own knowledge.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use gridgate_protocol::install_api::{InstallFailure, Progress as Report, Stage, StageReport};

use super::again;
use crate::client::ClientError;
use crate::client::install::InstallClient;
use crate::init::say;

/// The least time between two reports of one stage.
const SELDOM: Duration = Duration::from_millis(500);

/// Status of an installation that was given up: RFC 9110, 410 Gone.
const GONE: u16 = 410;

/// Shared by all that work on the installation.
#[derive(Clone)]
pub(crate) struct Progress {
    shared: Arc<Shared>,
}

struct Shared {
    started: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    report: Report,
    /// A stage began or ended: told at once.
    urgent: bool,
    dirty: bool,
    over: bool,
    given_up: bool,
}

impl Progress {
    /// Begins with the stage [`Stage::Start`].
    pub(crate) fn new() -> Self {
        let report = Report { stages: Vec::new(), doing: String::new(), pieces: 0, failure: None };
        let state = State { report, urgent: false, dirty: false, over: false, given_up: false };
        let shared =
            Shared { started: Instant::now(), state: Mutex::new(state), changed: Condvar::new() };
        let progress = Self { shared: Arc::new(shared) };
        progress.begin(Stage::Start, "");
        progress
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn change(&self, urgent: bool, change: impl FnOnce(&mut Report)) {
        let mut state = self.state();
        change(&mut state.report);
        state.dirty = true;
        state.urgent |= urgent;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// A stage begins; the one before it ends.
    pub(crate) fn begin(&self, stage: Stage, doing: &str) {
        say(format_args!("{}", stage.word()));
        let now = self.millis();
        self.change(true, |report| {
            end_last(report, now);
            doing.clone_into(&mut report.doing);
            report.stages.push(StageReport {
                stage,
                start_ms: now,
                end_ms: None,
                bytes: None,
                items: None,
            });
        });
    }

    /// The stage goes on: bytes and items, each done and to do.
    pub(crate) fn go_on(&self, bytes: Option<(u64, u64)>, items: Option<(u32, u32)>) {
        self.change(false, |report| {
            if let Some(last) = report.stages.last_mut() {
                last.bytes = bytes.or(last.bytes);
                last.items = items.or(last.items);
            }
        });
    }

    /// What it does just now.
    pub(crate) fn doing(&self, what: impl Into<String>) {
        let what = what.into();
        self.change(false, |report| report.doing = what);
    }

    /// So many pieces, from the first on, are on the disk.
    pub(crate) fn flushed(&self, pieces: u32) {
        self.change(true, |report| report.pieces = pieces);
    }

    /// The stage that goes on.
    pub(crate) fn stage(&self) -> Stage {
        self.state().report.stages.last().map_or(Stage::Start, |last| last.stage)
    }

    /// Fails when the server has given this installation up.
    pub(crate) fn check(&self) -> Result<(), InstallFailure> {
        if self.state().given_up {
            return Err(again(self.stage(), "the install server has given this installation up"));
        }
        Ok(())
    }

    /// Ends the last stage, and gives the whole for the last word.
    pub(super) fn last(&self, failure: Option<InstallFailure>) -> Report {
        let now = self.millis();
        let mut state = self.state();
        if failure.is_none() {
            end_last(&mut state.report, now);
        }
        state.report.failure = failure;
        state.over = true;
        let report = state.report.clone();
        drop(state);
        self.shared.changed.notify_all();
        report
    }

    /// Tells the server until the last word is said.
    pub(super) fn tell(&self, client: InstallClient) -> std::io::Result<()> {
        let progress = self.clone();
        let work = move || {
            while let Some(report) = progress.next() {
                match client.progress(&report) {
                    Ok(()) => {}
                    Err(ClientError::Refused { status: GONE, .. }) => {
                        progress.state().given_up = true;
                        return;
                    }
                    // The next report says all that this one said.
                    Err(error) => tracing::debug!(%error, "a report was not taken"),
                }
            }
        };
        thread::Builder::new().name("report".into()).spawn(work).map(drop)
    }

    /// Waits for something worth telling; none when it is over.
    fn next(&self) -> Option<Report> {
        let told = Instant::now();
        let mut state = self.state();
        loop {
            if state.over {
                return None;
            }
            let wait = SELDOM.saturating_sub(told.elapsed());
            if state.urgent || state.dirty && wait.is_zero() {
                state.urgent = false;
                state.dirty = false;
                return Some(state.report.clone());
            }
            let wait = if state.dirty { wait } else { Duration::from_secs(3600) };
            let waited = self.shared.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn end_last(report: &mut Report, now: u64) {
    if let Some(last) = report.stages.last_mut().filter(|last| last.end_ms.is_none()) {
        last.end_ms = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_ends_where_the_next_begins_and_a_failure_leaves_its_own_open() {
        let progress = Progress::new();
        progress.begin(Stage::Partition, "");
        progress.begin(Stage::Fetch, "pieces");
        progress.go_on(Some((1, 2)), None);
        progress.go_on(None, Some((3, 4)));
        let report = progress.last(Some(again(Stage::Fetch, "x")));
        let stages: Vec<_> = report.stages.iter().map(|s| (s.stage, s.end_ms.is_some())).collect();
        assert_eq!(stages, [(Stage::Start, true), (Stage::Partition, true), (Stage::Fetch, false)]);
        assert_eq!((report.stages[2].bytes, report.stages[2].items), (Some((1, 2)), Some((3, 4))));
        assert_eq!(report.stages[1].end_ms, Some(report.stages[2].start_ms));
        assert!(progress.next().is_none(), "nothing is told after the last word");
    }
}
