//! What can go wrong with a machine, in words for its owner.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::capability::Capability;
use crate::vmm::VmmKind;

/// A machine could not be started, asked or commanded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// The spec contradicts itself or asks for what its VMM cannot do.
    #[error("machine {machine}: {why}")]
    Spec {
        /// Machine's name.
        machine: String,
        /// What is wrong.
        why: String,
    },
    /// The shim could not bring the VMM up.
    #[error("cannot start machine {machine}: {why}")]
    Start {
        /// Machine's name.
        machine: String,
        /// What stood in the way.
        why: StartFailure,
    },
    /// Asked of a machine that does not run.
    #[error("machine in {} is not running", run_dir.display())]
    NotRunning {
        /// Its run directory.
        run_dir: PathBuf,
    },
    /// Someone else is writing to the console.
    #[error("the console is being written to by process {pid}; steal it to take over")]
    ConsoleTaken {
        /// The writer's process.
        pid: u32,
    },
    /// Its VMM does not offer that.
    #[error("{vmm} has no {}", capability.words())]
    NotClaimed {
        /// The VMM.
        vmm: VmmKind,
        /// What was asked for.
        capability: Capability,
    },
    /// The shim refused a request or answered with nonsense.
    #[error("the shim of {} refused: {why}", run_dir.display())]
    Shim {
        /// Its run directory.
        run_dir: PathBuf,
        /// Its words.
        why: String,
    },
    /// A stop was given up before the machine had stopped.
    #[error("stopping was interrupted; the machine still runs")]
    Interrupted,
    /// A file or socket of the machine.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "connect to".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl MachineError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// Why a shim could not bring its VMM up: crosses from the shim to [`crate::start`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "failure", rename_all = "kebab-case")]
pub enum StartFailure {
    /// It runs already.
    #[error("it is already running")]
    AlreadyRunning,
    /// One of its disks is in use.
    #[error("disk {} is in use by {by}", disk.display())]
    DiskInUse {
        /// The disk.
        disk: PathBuf,
        /// Machine name, or "process N".
        by: String,
    },
    /// One of its disks is not there or cannot be opened.
    #[error("disk {}: {why}", disk.display())]
    Disk {
        /// The disk.
        disk: PathBuf,
        /// The reason.
        why: String,
    },
    /// The kernel or the VMM's files are missing or cannot be executed.
    #[error("kernel {}: {why}", kernel.display())]
    Kernel {
        /// The kernel on the host.
        kernel: PathBuf,
        /// The reason.
        why: String,
    },
    /// A step of building the jail failed.
    #[error("jail: cannot {step}: {why}")]
    Jail {
        /// The step.
        step: String,
        /// The reason.
        why: String,
    },
    /// Anything else on the shim's side.
    #[error("cannot {step}: {why}")]
    Host {
        /// The step.
        step: String,
        /// The reason.
        why: String,
    },
}
