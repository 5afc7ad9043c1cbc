//! The calls that no safe interface offers.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves the calling thread into a new network namespace.
pub(super) fn network() -> Result<(), Errno> {
    // SAFETY: what makes this call unsafe is unsharing the table of descriptors, which
    // this flag does not do.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
}

/// Runs `enter` in the child between fork and exec. It may make system calls only.
pub(super) fn before_exec(
    command: &mut Command,
    enter: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: the one caller gives a closure that makes a single system call (setns) on
    // a descriptor it owns: no allocation, no lock.
    unsafe { command.pre_exec(enter) };
}
