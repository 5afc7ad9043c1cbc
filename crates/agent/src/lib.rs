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
//! | `agent` | the course from start to end |
//! | `apply` | makes the node what its profile says, one module for each kind of resource |
//! | `agent::stay`, `watch` | how the node differs from its profile, and putting it back |
//! | `health`, `reporter`, `board` | how the node does, and saying so |
//! | `work`, `runs` | what the install server asks for |
//! | `init` | `/init` of an initial RAM file system: from the kernel to the machine's own root |
//! | `install` | the installer: from an empty disk to a node that starts from it |
//! | `client`, `identity`, `network`, `netlink` | the install server and the way to it |
//! | `place`, `accounts`, `state` | files below the root, account files, the agent's memory |
//! | `system`, `process`, `login`, `disk`, `ext4_resize`, `kernel`, `systemd_bus`, `systemd_notify`, `allocator` | the machine |

use std::path::PathBuf;
use std::sync::Arc;

mod accounts;
mod agent;
mod allocator;
mod apply;
mod board;
mod client;
mod disk;
mod ext4_resize;
mod health;
mod identity;
pub mod image;
mod init;
mod install;
mod kernel;
mod login;
mod netlink;
mod network;
mod place;
mod priority;
mod process;
mod reporter;
mod runs;
mod since;
mod state;
mod system;
mod systemd_bus;
mod systemd_notify;
mod watch;
mod work;

pub use init::init_main;

#[cfg(test)]
mod tests;

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
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "the agent is the process's whole life")]
pub fn agent_main(options: AgentOptions) -> i32 {
    allocator::stay_small();
    match agent::run(&options, Arc::new(system::Machine)) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "the agent cannot run");
            system::System::notify(&system::Machine, &format!("STATUS={error}"));
            1
        }
    }
}
