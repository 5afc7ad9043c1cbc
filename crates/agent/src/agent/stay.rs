//! Staying as the profile says: looking how the node differs from what was applied, and putting it back.
//! It is the applying thread that does this, so that a look never meets an application half-way.
//!
//! ```text
//!           reconcile = "watch"                 something differs
//! applied ───────────────────────▶ watching ───────────────────────▶ put back
//!                                   ▲   │ disturbed, or a quarter of an hour       │
//!                                   │   ▼                                          │
//!                                   └── look, when the node is up and dpkg free ◀──┘ new watch, after a pause
//! ```
//!
//! When the same things differ again soon after they were put back, somebody else changes them: the pause doubles,
//! up to ten minutes.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant, SystemTime};

use gridgate_protocol::agent_api::{Outcome, PublishedProfile};
use gridgate_protocol::drift::{DriftReport, DriftRequest, PutBackEntry};
use gridgate_protocol::node_profile::Reconcile;

use super::Agent;
use crate::apply::{self, Intent, Moment, Tools};
use crate::client::until_reachable;
use crate::kernel;
use crate::watch::Watch;
use crate::work::Task;

/// Before a look is tried again that the node was not ready for.
const SOON: Duration = Duration::from_secs(2);

/// First pause after something was put back, when the same things differ again; it doubles …
const PAUSE: Duration = Duration::from_secs(10);

/// … up to this.
const PAUSE_MOST: Duration = Duration::from_secs(600);

/// A node that is not healthy so long after its start is looked at all the same.
const UP_AT_LAST_MS: u64 = 300_000;

/// Entries kept of what was put back.
const REMEMBERED: usize = 16;

const DPKG_LOCK: &str = "/var/lib/dpkg/lock";

/// The watch and its pace.
pub(super) struct Stay {
    tasks: Sender<Task>,
    watch: Option<Watch>,
    due: Option<Instant>,
    not_before: Option<Instant>,
    pause: Duration,
    last: BTreeSet<String>,
}

impl Stay {
    pub(super) fn new(tasks: Sender<Task>) -> Self {
        Self {
            tasks,
            watch: None,
            due: None,
            not_before: None,
            pause: PAUSE,
            last: BTreeSet::new(),
        }
    }

    /// Something may have changed.
    pub(super) fn disturb(&mut self) {
        let now = Instant::now();
        self.due = Some(self.not_before.map_or(now, |at| at.max(now)));
    }

    /// Until the next look; none when none is due.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(Instant::now()))
    }
}

impl Agent {
    /// Looks, puts back if that is asked for, and answers.
    pub(super) fn answer(&mut self, request: DriftRequest) {
        let mut report = self.look(request.command.package_files);
        if request.command.put_back && !report.drifts.is_empty() {
            self.put_back(&mut report);
        }
        self.system.notify("STATUS=Compared with the profile");
        if let Err(error) = until_reachable(|| self.client.drift(request.id, &report)) {
            tracing::warn!(id = request.id, %error, "the install server does not want a look's result");
        }
    }

    /// How the node differs from the profile that was applied last.
    fn look(&self, package_files: bool) -> DriftReport {
        let Some(profile) = &self.profile else { return DriftReport::default() };
        let system = Arc::clone(&self.system);
        let progress = move |text: &str| system.notify(&format!("STATUS=Comparing: {text}"));
        let tools = Tools { package_files, ..self.tools(&progress, Intent::Look) };
        apply::look(&tools, profile, &self.applied.attempted, &self.applied)
    }

    /// Applies once more what was applied, looking at everything; adds to the report what that changed.
    fn put_back(&mut self, report: &mut DriftReport) {
        let Some(profile) = self.profile.clone() else { return };
        tracing::info!(differ = report.drifts.len(), "putting back what was changed by hand");
        let system = Arc::clone(&self.system);
        let progress = move |text: &str| system.notify(&format!("STATUS=Putting back: {text}"));
        let version = self.applied.attempted.clone();
        let outcome = {
            let tools = self.tools(&progress, Intent::PutBack);
            apply::apply(&tools, &profile, &version, &self.applied, Moment::Running)
        };
        report.put_back.clone_from(&outcome.resources);
        let packages = self.applied.locked.clone();
        self.finish(PublishedProfile { version, profile, packages }, outcome);
    }

    /// Watches what was applied, if its profile wants that; the watch before ends.
    pub(super) fn watch(&mut self) {
        let wanted = self.profile.as_ref().filter(|p| p.reconcile == Reconcile::Watch);
        self.stay.watch = wanted.and_then(|profile| {
            Watch::start(&self.tree, profile, self.stay.tasks.clone())
                .inspect_err(|error| tracing::error!(%error, "cannot watch for changes by hand"))
                .ok()
        });
        if self.stay.watch.is_none() {
            self.stay.due = None;
        }
    }

    /// Looks if that is due, and puts back what differs.
    pub(super) fn tend(&mut self) {
        if self.stay.wait() != Some(Duration::ZERO) {
            return;
        }
        self.stay.due = None;
        if self.stay.watch.is_none() {
            return;
        }
        if !self.is_up() || self.dpkg_works() {
            self.stay.due = Some(Instant::now() + SOON);
            return;
        }
        let mut report = self.look(false);
        if report.drifts.is_empty() {
            return;
        }
        self.put_back(&mut report);
        self.pace(&report);
        self.remember(&report);
    }

    /// Services that the boot has not come to yet do not differ: they are late.
    fn is_up(&self) -> bool {
        self.board.was_healthy() || kernel::uptime_ms() > UP_AT_LAST_MS
    }

    /// Whether somebody has dpkg at work: what it has half done is not to be judged.
    fn dpkg_works(&self) -> bool {
        let lock = File::options().write(true).open(self.tree.host_path(DPKG_LOCK));
        let Ok(lock) = lock else { return false };
        let held =
            rustix::fs::fcntl_lock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        held.is_err()
    }

    fn pace(&mut self, report: &DriftReport) {
        let now = Instant::now();
        let names = report.drifts.iter().map(|drift| format!("{} {}", drift.kind, drift.name));
        let names: BTreeSet<String> = names.collect();
        let again = names == self.stay.last
            && self
                .stay
                .not_before
                .is_some_and(|at| now.saturating_duration_since(at) < PAUSE_MOST);
        self.stay.pause = if again { (self.stay.pause * 2).min(PAUSE_MOST) } else { PAUSE };
        self.stay.not_before = Some(if again { now + self.stay.pause } else { now });
        self.stay.last = names;
    }

    fn remember(&self, report: &DriftReport) {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let at = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let entries = report.put_back.iter().map(|done| {
            let what = report.drifts.iter().find(|drift| drift.name == done.name);
            let what: Vec<&str> =
                what.iter().flat_map(|drift| &drift.differences).map(|d| d.what.as_str()).collect();
            PutBackEntry {
                at,
                kind: done.kind.clone(),
                name: done.name.clone(),
                what: what.join(", "),
                failed: match &done.outcome {
                    Outcome::Changed => None,
                    Outcome::Failed(why) => Some(why.clone()),
                },
            }
        });
        let entries: Vec<PutBackEntry> = entries.collect();
        self.board.update(|facts| {
            facts.put_back.count += entries.len() as u64;
            facts.put_back.last.extend(entries);
            let surplus = facts.put_back.last.len().saturating_sub(REMEMBERED);
            facts.put_back.last.drain(..surplus);
        });
    }
}
