//! What is asked of the kernel for a daemon: start it detached, wait for its end.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, pidfd_open, setsid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Starts `/proc/self/exe daemon` in a session of its own, with its output in `log`. The daemon writes `ready`
/// to `ready` and closes it; the number of that descriptor is in its environment.
pub fn spawn_daemon(home: &Path, log: &File, ready: OwnedFd) -> io::Result<Child> {
    let number = ready.as_raw_fd();
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("gridgate")
        .arg("daemon")
        .env("GRIDGATE_HOME", home)
        .env("GRIDGATE_READY_FD", number.to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?);
    let prepare = move || {
        setsid()?;
        close_others_on_exec();
        // SAFETY: `ready` is owned by the closure's maker until `spawn` has returned, so the number is that
        // of an open descriptor in the child as well.
        let ready = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl_setfd(ready, FdFlags::empty())?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes three system calls and nothing else: no allocation, no lock.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn();
    drop(ready);
    child
}

/// Whatever our own parents left open is none of the daemon's: a pipe that it held would never end.
fn close_others_on_exec() {
    // SAFETY: the flag closes nothing now, it only marks descriptors; the call takes no pointers.
    let marked =
        unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    // Kernels before 5.11 cannot; then the daemon lives with what it inherits.
    let _ = marked;
}

/// The end of a process, to be waited for.
#[derive(Debug)]
pub struct Ending(Option<AsyncFd<OwnedFd>>);

impl Ending {
    /// Of the process that has this id now. One that is already gone counts as ended.
    pub fn of(pid: u32) -> io::Result<Ending> {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(Ending(None));
        };
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(handle) => {
                // SAFETY: an `OwnedFd` is open and the same descriptor for as long as it lives, and the
                // `AsyncFd` owns it.
                let handle = unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) };
                Ok(Ending(Some(handle.map_err(io::Error::from)?)))
            }
            Err(rustix::io::Errno::SRCH) => Ok(Ending(None)),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for it.
    pub async fn wait(self) -> io::Result<()> {
        match self.0 {
            Some(handle) => handle.readable().await.map(drop),
            None => Ok(()),
        }
    }
}
