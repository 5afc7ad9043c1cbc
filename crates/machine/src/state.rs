//! What became of a machine. Data only; `run_dir/state.json` holds a [`Record`].
//!
//! ```text
//!              start()                VMM ends
//! (no record) ────────▶ Running ──────────────────▶ Stopped(exit)
//!      ▲                   │ shim killed                │
//!      │                   ▼                            │ start()
//!      │                 Lost ──────── start() ─────────┴──▶ Running
//! ```
//! Only the shim writes the record. `Lost` is never written: it is what a reader
//! concludes from a record that says "running" by a shim that is no more.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::process::ProcessId;

/// The state of a machine that was started at least once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum MachineState {
    /// The VMM runs.
    Running {
        /// Process id of the VMM on the host.
        pid: u32,
        /// When it was started.
        since: Timestamp,
    },
    /// The VMM has ended and its shim saw how.
    Stopped {
        /// When.
        at: Timestamp,
        /// How.
        exit: Exit,
    },
    /// The shim is gone without having recorded an end: it was killed, or the
    /// host went down. The kernel ends the VMM with it. The machine can be started again.
    Lost {
        /// When the machine had been started.
        since: Timestamp,
    },
}

impl MachineState {
    /// Whether the VMM runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "exit", rename_all = "kebab-case")]
pub enum Exit {
    /// The guest switched itself off.
    PoweredOff,
    /// [`crate::Machine::kill`], or the time limit of a stop.
    Killed,
    /// The guest's kernel panicked, or the host ended it for passing a limit.
    Crashed {
        /// The kernel's words.
        reason: String,
    },
    /// The VMM could not run, or ended in a way that is not the guest's doing.
    VmmFailed {
        /// What it said or how it ended.
        reason: String,
    },
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PoweredOff => f.write_str("powered off"),
            Self::Killed => f.write_str("killed"),
            Self::Crashed { reason } => write!(f, "crashed: {reason}"),
            Self::VmmFailed { reason } => write!(f, "the VMM failed: {reason}"),
        }
    }
}

/// `state.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The shim that wrote this.
    pub shim: ProcessId,
    /// Limits of the spec that this host cannot enforce, each with its reason.
    #[serde(default)]
    pub unenforced: Vec<String>,
    /// The guest is held.
    #[serde(default)]
    pub paused: bool,
    /// Where the machine is.
    pub phase: Phase,
}

/// The part of [`MachineState`] that is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// See [`MachineState::Running`].
    Running { vmm: ProcessId, since: Timestamp },
    /// See [`MachineState::Stopped`].
    Stopped { at: Timestamp, exit: Exit },
}

impl From<Phase> for MachineState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Running { vmm, since } => Self::Running { pid: vmm.pid, since },
            Phase::Stopped { at, exit } => Self::Stopped { at, exit },
        }
    }
}
