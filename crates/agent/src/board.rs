//! What the agent's threads know together: phase, versions, what the last
//! application did, how the checks do. Whoever changes it wakes who waits for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gridgate_protocol::agent_api::{AgentPhase, HealthReport, Report, ResourceReport};
use gridgate_protocol::drift::PutBack;
use gridgate_protocol::node_profile::HealthCheck;

use crate::kernel;

/// The state behind the lock.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// What the agent is doing.
    pub phase: AgentPhase,
    /// Version being applied.
    pub wanted: Option<String>,
    /// Last version applied without a failure.
    pub applied: Option<String>,
    /// Fingerprint of the locked packages that are installed.
    pub packages: Option<String>,
    /// What was put back without being asked.
    pub put_back: PutBack,
    /// What the last application changed and could not.
    pub resources: Vec<ResourceReport>,
    /// How many resources it found right.
    pub unchanged: u32,
    /// The checks of the profile that was applied.
    pub checks: Arc<Vec<HealthCheck>>,
    /// Their last results.
    pub health: Vec<HealthReport>,
    /// Set when the agent ends.
    pub ended: bool,
    generation: u64,
    checks_generation: u64,
}

impl Facts {
    /// What was seen before an application says nothing of what it has changed.
    pub(crate) fn doubt_health(&mut self) {
        for check in &mut self.health {
            check.ok = false;
            "not looked at again yet".clone_into(&mut check.detail);
        }
    }
}

/// The facts, shared.
#[derive(Debug)]
pub(crate) struct Board {
    facts: Mutex<Facts>,
    changed: Condvar,
    boot_id: String,
}

impl Board {
    /// A board on which nothing is known but the last version applied.
    pub(crate) fn new(applied: Option<String>, packages: Option<String>) -> Self {
        Self {
            facts: Mutex::new(Facts {
                phase: AgentPhase::Starting,
                wanted: None,
                applied,
                packages,
                put_back: PutBack::default(),
                resources: Vec::new(),
                unchanged: 0,
                checks: Arc::default(),
                health: Vec::new(),
                ended: false,
                generation: 1,
                checks_generation: 0,
            }),
            changed: Condvar::new(),
            boot_id: kernel::boot_id(),
        }
    }

    /// A thread that panicked leaves the facts as they were before its change.
    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the facts and wakes who waits.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Facts)) {
        let mut facts = self.lock();
        change(&mut facts);
        facts.generation += 1;
        self.changed.notify_all();
    }

    /// Sets the checks to watch; results of checks that stay are kept.
    pub(crate) fn watch(&self, checks: &[HealthCheck]) {
        self.update(|facts| {
            let old = std::mem::take(&mut facts.health);
            facts.health = checks
                .iter()
                .map(|check| {
                    old.iter().find(|report| report.name == check.name).cloned().unwrap_or_else(
                        || HealthReport {
                            name: check.name.clone(),
                            ok: false,
                            detail: "not looked at yet".to_owned(),
                            since_ms: None,
                        },
                    )
                })
                .collect();
            facts.checks = Arc::new(checks.to_vec());
            facts.checks_generation += 1;
        });
    }

    /// The checks, with a number that changes when they do.
    pub(crate) fn checks(&self) -> (u64, Arc<Vec<HealthCheck>>) {
        let facts = self.lock();
        (facts.checks_generation, facts.checks.clone())
    }

    /// Puts up results, if they are of the checks that are watched and new.
    pub(crate) fn set_health(&self, of: u64, health: &[HealthReport]) {
        let mut facts = self.lock();
        if facts.checks_generation == of && facts.health != health {
            facts.health = health.to_vec();
            facts.generation += 1;
            self.changed.notify_all();
        }
    }

    /// Whether all checks have passed at least once in this boot.
    pub(crate) fn was_healthy(&self) -> bool {
        self.lock().health.iter().all(|check| check.since_ms.is_some())
    }

    /// Waits for other checks than `of`, at most `limit`. False: the agent ends.
    pub(crate) fn wait_checks(&self, of: u64, limit: Duration) -> bool {
        let facts = self.lock();
        let (facts, _) = self
            .changed
            .wait_timeout_while(facts, limit, |facts| facts.checks_generation == of && !facts.ended)
            .unwrap_or_else(PoisonError::into_inner);
        !facts.ended
    }

    /// Waits for a change since `seen`, at most until `deadline`; gives the report
    /// to send and its number. None: the agent ends.
    pub(crate) fn wait_report(&self, seen: u64, deadline: Instant) -> Option<(u64, Report)> {
        let limit = deadline.saturating_duration_since(Instant::now());
        let facts = self.lock();
        let (facts, _) = self
            .changed
            .wait_timeout_while(facts, limit, |facts| facts.generation == seen && !facts.ended)
            .unwrap_or_else(PoisonError::into_inner);
        if facts.ended {
            return None;
        }
        let memory = kernel::memory();
        let report = Report {
            boot_id: self.boot_id.clone(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: kernel::uptime_ms(),
            phase: facts.phase,
            wanted: facts.wanted.clone(),
            applied: facts.applied.clone(),
            packages: facts.packages.clone(),
            put_back: facts.put_back.clone(),
            resources: facts.resources.clone(),
            unchanged: facts.unchanged,
            health: facts.health.clone(),
            memory_used: memory.used,
            memory_total: memory.total,
        };
        Some((facts.generation, report))
    }
}
