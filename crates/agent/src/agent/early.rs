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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;
    use crate::network::NetworkError;
    use crate::process::{Call, Finished};
    use crate::system::UnitStatus;

    /// What systemd answers, one after the other, and what it was told.
    struct Booting {
        answers: Mutex<Vec<io::Result<UnitStatus>>>,
        told: Mutex<Vec<String>>,
    }

    impl System for Booting {
        fn settled(&self, units: &[&str], _: Duration) -> io::Result<Vec<UnitStatus>> {
            assert_eq!(units, [FILE_SYSTEMS]);
            self.answers.lock().unwrap().remove(0).map(|status| vec![status])
        }

        fn notify(&self, message: &str) {
            self.told.lock().unwrap().push(message.to_owned());
        }

        fn run(&self, _: &Call) -> io::Result<Finished> {
            unreachable!("nothing is run for a wait")
        }

        fn unit_states(&self, _: &[&str]) -> io::Result<Vec<UnitStatus>> {
            unreachable!("a state without its jobs says nothing")
        }

        fn bring_up(&self, _: &Identity) -> Result<(), NetworkError> {
            Ok(())
        }

        fn prepare_disks(&self) {}
    }

    #[test]
    fn nothing_goes_on_while_a_file_system_is_to_be_mounted_and_the_wait_is_told() {
        let job = Some("start".to_owned());
        let mounting = || Ok(UnitStatus { job: job.clone(), ..UnitStatus::new("inactive") });
        let wait = |answers| {
            let system = Booting { answers: Mutex::new(answers), told: Mutex::default() };
            file_systems(&system);
            assert!(system.answers.into_inner().unwrap().is_empty());
            system.told.into_inner().unwrap()
        };
        let word = "STATUS=Waiting for the file systems (local-fs.target)";
        assert_eq!(wait(vec![mounting(), mounting(), Ok(UnitStatus::new("active"))]), [word, word]);
        // Given up: the node is to be looked at, not to wait for ever.
        assert!(wait(vec![Ok(UnitStatus::new("failed"))]).is_empty());
        assert_eq!(wait(vec![mounting(), Err(io::ErrorKind::NotFound.into())]), [word]);
    }
}
