//! The narrow door to the machine: running programs, asking systemd, setting up
//! the network and the disks. The real one is here; tests have their own.

use std::io;
use std::time::Duration;

use gridgate_protocol::agent_api::Identity;

use crate::network::NetworkError;
use crate::process::{Call, Finished};
use crate::{disk, network, process, systemd_bus, systemd_notify};

/// What the agent does to the machine besides writing files.
pub(crate) trait System: Send + Sync {
    /// Runs a program to its end.
    fn run(&self, call: &Call) -> io::Result<Finished>;
    /// Active state of each unit (`active`, `activating`, `inactive`, `failed` …).
    fn unit_states(&self, units: &[&str]) -> io::Result<Vec<String>>;
    /// Sets address, route and host name.
    fn bring_up(&self, identity: &Identity) -> Result<(), NetworkError>;
    /// Makes file systems on empty data partitions and grows the root's.
    fn prepare_disks(&self);
    /// Tells systemd something, in the form of sd_notify(3).
    fn notify(&self, message: &str);
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

    fn unit_states(&self, units: &[&str]) -> io::Result<Vec<String>> {
        // A template has no state, and a question about one spoils the whole answer.
        let real: Vec<&str> = units.iter().copied().filter(|unit| !is_template(unit)).collect();
        if real.is_empty() {
            return Ok(vec!["inactive".to_owned(); units.len()]);
        }
        let states = match systemd_bus::unit_states(&real) {
            Ok(states) => states,
            Err(error) => {
                tracing::debug!(%error, "asking systemctl instead of systemd's own socket");
                self.systemctl_states(&real)?
            }
        };
        let mut states = states.into_iter();
        let state = |unit: &&str| {
            let known = if is_template(unit) { None } else { states.next() };
            known.unwrap_or_else(|| "inactive".to_owned())
        };
        Ok(units.iter().map(state).collect())
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

impl Machine {
    fn systemctl_states(&self, units: &[&str]) -> io::Result<Vec<String>> {
        let mut command = vec!["systemctl", "is-active"];
        command.extend(units);
        let answer = self.run(&Call::new(&command, Duration::from_secs(10)))?;
        let states: Vec<String> =
            String::from_utf8_lossy(&answer.stdout).lines().map(str::to_owned).collect();
        if states.len() == units.len() {
            Ok(states)
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&answer.stderr).trim().to_owned()))
        }
    }
}
