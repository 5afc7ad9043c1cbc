//! The outer half: new namespaces, then the inner half as pid 1 of them.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;

/// Enters new namespaces and runs the inner half there.
pub(super) fn run(arguments: &[OsString]) -> Result<i32, String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| format!("prctl: {e}"))?;
    let flags = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWNET;
    // SAFETY: the flags leave out FILES, the only one that can invalidate descriptors
    // of other threads; and this process has just started and has one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }
        .map_err(|e| format!("new namespaces: {e} (root is needed)"))?;
    // The inner half sees this end close should we die before it can ask for its signal.
    let (alive, held) = io::pipe().map_err(|e| format!("pipe: {e}"))?;
    let status = Command::new("/proc/self/exe")
        .args(["chamber", "--inside"])
        .args(arguments)
        .stdin(Stdio::from(alive))
        .status()
        .map_err(|e| format!("starting the inner half: {e}"))?;
    drop(held);
    Ok(status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(super::SETUP_FAILED))
}
