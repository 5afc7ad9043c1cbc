//! The agent: the program inside a node that fetches the node's profile, makes
//! the node so, says what it did and how the node does, and runs what the
//! install server asks for.
//!
//! It never knows the host, never resolves names, never prints a secret and
//! never takes "not yet" for "failed": what it cannot reach it tries again.
//!
//! ```text
//!              no applied profile                    applied profile on disk
//! start ─ seed, network ─┬───────────────┐        ┌──────────────┬─ READY at once
//!                        ▼               │        ▼              │
//!                     Starting ─ fetch ─ Applying ─ READY ─┬─ Applied ◄─┐
//!                        ▲                  ▲              └─ Failed    │
//!                        └── not reachable  └── published version moved ┘
//! ```
//!
//! | module | purpose |
//! |---|---|
//! | [`image`] | texts that a role image must contain |

#![allow(dead_code)]
use std::path::PathBuf;

mod accounts;
mod client;
mod identity;
pub mod image;
mod login;
mod netlink;
mod network;
mod place;
mod process;
mod state;

/// Where the agent finds its things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentOptions {
    /// Folder of its state, which also holds the unpacked seed.
    pub state: PathBuf,
    /// Root of the file tree that it keeps; `/` but for tests.
    pub root: PathBuf,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self { state: PathBuf::from(image::STATE_PATH), root: PathBuf::from("/") }
    }
}

/// Runs the agent until the node powers off. Returns the process's exit code:
/// 0 after a power-off was asked for, 1 when the node's identity is unusable.
///
/// Logs go through `tracing`; the caller installs the subscriber.
pub fn agent_main(options: AgentOptions) -> i32 {
    let _ = options;
    1
}
