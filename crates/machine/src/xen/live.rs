//! What can be changed of a domain while it runs.

use std::io;

use super::report::{self, Configuration};
use super::toolstack::Toolstack;
use super::{Identity, report::Domain};
use crate::spec::MachineSpec;

/// A running domain of ours.
#[derive(Clone, Debug)]
pub struct LiveDomain {
    tools: Toolstack,
    id: String,
    uuid: String,
}

impl LiveDomain {
    /// The domain of a machine.
    ///
    /// # Errors
    /// When Xen's toolstack cannot be asked, or there is no such domain.
    pub fn of(spec: &MachineSpec) -> io::Result<Self> {
        let (tools, uuid) = (Toolstack::find()?, Identity::of(spec).uuid);
        let domain = tools.domain(&uuid)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("machine {} has no domain", spec.name))
        })?;
        Ok(Self { tools, id: domain.id.to_string(), uuid })
    }

    /// What it does now.
    ///
    /// # Errors
    /// When it is gone, or `xl` fails.
    pub fn state(&self) -> io::Result<Domain> {
        self.tools.domain(&self.uuid)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// How it is configured now.
    ///
    /// # Errors
    /// When it is gone, or `xl` fails.
    pub fn configuration(&self) -> io::Result<Configuration> {
        let json = self.tools.ask(&["list", "-l", &self.id])?;
        report::configurations(&json).pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Stops its CPUs.
    ///
    /// # Errors
    /// When `xl` fails.
    pub fn pause(&self) -> io::Result<()> {
        self.tools.ask(&["pause", &self.id]).map(drop)
    }

    /// Lets its CPUs go on.
    ///
    /// # Errors
    /// When `xl` fails.
    pub fn resume(&self) -> io::Result<()> {
        self.tools.ask(&["unpause", &self.id]).map(drop)
    }

    /// Asks the guest to give memory back or take more, up to its maximum; `bytes` are
    /// rounded down to MiB.
    ///
    /// # Errors
    /// When `xl` fails.
    pub fn set_memory(&self, bytes: u64) -> io::Result<()> {
        self.tools.ask(&["mem-set", &self.id, &format!("{}m", bytes >> 20)]).map(drop)
    }

    /// Sets its share of the CPUs (256 is usual) and its limit, percent of one CPU; 0 is none.
    ///
    /// # Errors
    /// When `xl` fails, for instance since the scheduler is another one than credit2.
    pub fn set_scheduling(&self, weight: u32, cap: u32) -> io::Result<()> {
        let (weight, cap) = (weight.to_string(), cap.to_string());
        let line = ["sched-credit2", "-d", &self.id, "-w", &weight, "-c", &cap];
        self.tools.ask(&line).map(drop)
    }
}
