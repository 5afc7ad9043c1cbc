//! What the agent needs of a node that is still booting: its network at once, its file systems before anything is
//! written. systemd starts the agent first of all and ahead of everything else, so that its first word is early.

use std::thread;
use std::time::Duration;

use gridgate_protocol::agent_api::Identity;

use crate::client::Backoff;
use crate::system::System;

/// What systemd calls all file systems of the node itself.
const FILE_SYSTEMS: &str = "local-fs.target";

/// How often a wait for them is told anew.
const WORD: Duration = Duration::from_secs(10);

/// Tries until the interface is there and set up.
pub(super) fn network(system: &dyn System, identity: &Identity) {
    let mut backoff = Backoff::default();
    while let Err(error) = system.bring_up(identity) {
        system.notify(&format!("STATUS=Waiting for the network: {error}"));
        tracing::warn!(%error, "the network is not up yet");
        thread::sleep(backoff.step());
    }
}

/// Waits until systemd has mounted what belongs to the node, or has given it up: nothing may be written where a file
/// system is about to be mounted.
pub(super) fn file_systems(system: &dyn System) {
    loop {
        match system.settled(&[FILE_SYSTEMS], WORD) {
            Ok(states) if states.iter().any(|state| state.job.is_some()) => {
                system.notify(&format!("STATUS=Waiting for the file systems ({FILE_SYSTEMS})"));
                tracing::warn!(target = FILE_SYSTEMS, "the file systems are not all mounted yet");
            }
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot ask systemd for the file systems");
                return;
            }
        }
    }
}
