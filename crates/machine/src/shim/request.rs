//! What is said between a shim and the rest: one JSON object a line.
//!
//! | request | answer | then |
//! |---|---|---|
//! | `console` | `taken` or `console-taken` | raw bytes both ways until the end |
//! | `change` | `taken` or `refused` | the connection is closed: it is done |
//! | `stop`, `kill`, `wait` | `taken` | the connection is closed once the end is recorded |

use serde::{Deserialize, Serialize};

use crate::capability::Change;
use crate::console::ConsoleAccess;
use crate::error::StartFailure;

/// The longest request line, bytes.
pub(crate) const LONGEST: usize = 512;

/// The first and only line of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Attach to the console.
    Console { access: ConsoleAccess },
    /// Shut down; kill after the limit. Closing the connection withdraws the limit. `listens`: see [`crate::Machine::stop_listening`].
    Stop {
        limit_ms: u64,
        #[serde(default)]
        listens: bool,
    },
    /// Change the running machine.
    Change { change: Change },
    /// Kill.
    Kill,
    /// Only wait.
    Wait,
}

/// The shim's line back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// It will be done.
    Taken,
    /// Another process writes to the console.
    ConsoleTaken { pid: u32 },
    /// It will not be done.
    Refused { why: String },
}

/// The shim's only line to the process that started it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case")]
pub(crate) enum StartReport {
    /// The VMM process runs.
    Started,
    /// It does not, and nothing is left of the attempt.
    Failed { why: StartFailure },
}
