//! What a machine takes of its host besides processes: its control group, the
//! scaffold and the seat of its jail, its socket. Cleared before each start (of
//! what a killed shim left) and after each end.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::note;
use crate::cgroup::Group;
use crate::jail::{SCAFFOLD, seat_name};
use crate::spec::{MachineSpec, RunDir};
use crate::{atomic, socket};

/// How long processes that were sent SIGKILL may take to end.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// One machine's ground.
#[derive(Debug)]
pub(super) struct Ground {
    run_dir: PathBuf,
    pub(super) group: Group,
}

impl Ground {
    pub(super) fn of(run_dir: &Path, cgroup: &str) -> io::Result<Self> {
        Ok(Self { run_dir: run_dir.to_owned(), group: Group::of(cgroup)? })
    }

    /// The seat, on the host.
    pub(super) fn seat(&self) -> PathBuf {
        self.run_dir.join(seat_name())
    }

    /// Makes everything. Gives the socket and the limits that cannot be enforced.
    pub(super) fn make(&mut self, spec: &MachineSpec) -> io::Result<(UnixListener, Vec<String>)> {
        let unenforced = self.group.create(&spec.limits);
        let directory = |path: &Path, mode: u32| {
            DirBuilder::new().mode(0o700).create(path)?;
            std::fs::set_permissions(path, Permissions::from_mode(mode))
        };
        directory(&self.run_dir.join(SCAFFOLD), 0o700)?;
        directory(&self.seat(), 0o711)?;
        let own = self.seat().join("own");
        directory(&own, 0o700)?;
        chown(&own, Some(spec.uid), Some(spec.gid))?;
        // Relative to the run directory, which nobody else may enter; mode 0600 by the umask.
        let listener = socket::listen(&RunDir(&self.run_dir).socket())?;
        listener.set_nonblocking(true)?;
        Ok((listener, unenforced))
    }

    /// Removes everything, processes first. What resists is noted and left: the
    /// next start meets it again and says so.
    pub(super) fn clear(&self) {
        if let Err(e) = self.group.kill(LAST_BREATH).and_then(|()| self.group.remove()) {
            note(&format!("cannot remove the control group: {e}"));
        }
        let seat = self.seat();
        let scaffold = self.run_dir.join(SCAFFOLD);
        let socket = RunDir(&self.run_dir).socket();
        let removed = [
            (std::fs::remove_dir_all(&seat), &seat),
            (std::fs::remove_dir(&scaffold), &scaffold),
            (std::fs::remove_file(&socket), &socket),
        ];
        for (result, path) in removed {
            match result {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    note(&format!("cannot remove {}: {e}", path.display()));
                }
                _ => {}
            }
        }
    }

    /// Records where the machine is.
    pub(super) fn record(&self, record: &crate::state::Record) {
        if let Err(e) = atomic::write_json(&RunDir(&self.run_dir).state(), record) {
            note(&format!("cannot write state.json: {e}"));
        }
    }
}
