//! The narrow door to the machine: running programs, asking systemd, setting up
//! the network and the disks. The real one is here; tests have their own.

use std::time::Duration;
use std::{fmt, io};

use gridgate_protocol::agent_api::Identity;

use crate::network::NetworkError;
use crate::process::{Call, Finished};
use crate::{disk, network, process, systemd_bus, systemd_notify};

/// What the agent does to the machine besides writing files.
pub(crate) trait System: Send + Sync {
    /// Runs a program to its end.
    fn run(&self, call: &Call) -> io::Result<Finished>;
    /// State of each unit.
    fn unit_states(&self, units: &[&str]) -> io::Result<Vec<UnitStatus>>;
    /// The same, once systemd has no job for any of them, or after `limit`.
    fn settled(&self, units: &[&str], limit: Duration) -> io::Result<Vec<UnitStatus>>;
    /// Sets address, route and host name.
    fn bring_up(&self, identity: &Identity) -> Result<(), NetworkError>;
    /// Makes file systems on empty data partitions and grows the root's.
    fn prepare_disks(&self);
    /// Tells systemd something, in the form of sd_notify(3).
    fn notify(&self, message: &str);
}

/// What systemd says of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitStatus {
    /// `active`, `activating`, `inactive`, `failed` …; `unknown` where systemd says nothing.
    pub active: String,
    /// What systemd has queued for it or is about: `start`, `restart`, `stop` …
    pub job: Option<String>,
}

impl UnitStatus {
    /// In this state, with nothing queued.
    pub(crate) fn new(active: &str) -> Self {
        Self { active: active.to_owned(), job: None }
    }

    pub(crate) fn unknown() -> Self {
        Self::new("unknown")
    }

    pub(crate) fn is_unknown(&self) -> bool {
        self.active == "unknown"
    }

    /// Whether it runs now, or is on the way to by itself.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.active.as_str(), "active" | "activating" | "reloading")
    }

    /// Whether it runs once systemd has done what is queued. Between the halves of a restart
    /// a unit is down, and yet nobody has to start it.
    pub(crate) fn will_be_up(&self) -> bool {
        match self.job.as_deref() {
            Some("start" | "restart" | "try-restart" | "reload" | "reload-or-start") => true,
            Some("stop") => false,
            _ => self.is_up(),
        }
    }

    /// Whether it runs and goes on running. One that is about to be restarted does not count:
    /// whether it will come back is not known.
    pub(crate) fn is_lasting(&self) -> bool {
        let leaves = matches!(self.job.as_deref(), Some("restart" | "try-restart" | "stop"));
        self.active == "active" && !leaves
    }
}

impl fmt::Display for UnitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.job {
            None => f.write_str(&self.active),
            Some(job) => write!(f, "{}, {job} queued", self.active),
        }
    }
}

/// Whether a unit's name is a template's, such as `modprobe@.service`.
fn is_template(unit: &str) -> bool {
    unit.contains("@.")
}

/// This machine.
#[derive(Debug)]
pub(crate) struct Machine;

impl System for Machine {
    fn run(&self, call: &Call) -> io::Result<Finished> {
        process::run(call)
    }

    fn unit_states(&self, units: &[&str]) -> io::Result<Vec<UnitStatus>> {
        without_templates(units, |real| {
            systemd_bus::unit_states(real).or_else(|error| {
                tracing::debug!(%error, "asking systemctl instead of systemd's own socket");
                self.systemctl_states(real)
            })
        })
    }

    fn settled(&self, units: &[&str], limit: Duration) -> io::Result<Vec<UnitStatus>> {
        without_templates(units, |real| systemd_bus::settled(real, limit))
    }

    fn bring_up(&self, identity: &Identity) -> Result<(), NetworkError> {
        network::bring_up(identity)
    }

    fn prepare_disks(&self) {
        disk::prepare(self);
    }

    fn notify(&self, message: &str) {
        if let Err(error) = systemd_notify::send(message) {
            tracing::warn!(%error, "cannot tell systemd how the agent does");
        }
    }
}

/// Asks for all but templates: those have no state, and a question about one spoils the whole answer.
fn without_templates(
    units: &[&str],
    ask: impl FnOnce(&[&str]) -> io::Result<Vec<UnitStatus>>,
) -> io::Result<Vec<UnitStatus>> {
    let real: Vec<&str> = units.iter().copied().filter(|unit| !is_template(unit)).collect();
    let mut states = if real.is_empty() { Vec::new() } else { ask(&real)? }.into_iter();
    let state = |unit: &&str| {
        let known = if is_template(unit) { None } else { states.next() };
        known.unwrap_or_else(|| UnitStatus::new("inactive"))
    };
    Ok(units.iter().map(state).collect())
}

impl Machine {
    /// Without jobs: `is-active` does not show them.
    fn systemctl_states(&self, units: &[&str]) -> io::Result<Vec<UnitStatus>> {
        let mut command = vec!["systemctl", "is-active"];
        command.extend(units);
        let answer = self.run(&Call::new(&command, Duration::from_secs(10)))?;
        let states: Vec<UnitStatus> =
            String::from_utf8_lossy(&answer.stdout).lines().map(UnitStatus::new).collect();
        if states.len() == units.len() {
            Ok(states)
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&answer.stderr).trim().to_owned()))
        }
    }
}
