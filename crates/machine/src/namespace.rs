//! Making namespaces: unshare(2) with namespace flags only.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Command};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Namespace {
    Mount,
    Ipc,
    HostName,
    Network,
    /// For the children from now on, not for the caller.
    Process,
}

/// Puts the calling process into new namespaces.
#[allow(unsafe_code)]
pub(crate) fn enter_new(kinds: &[Namespace]) -> rustix::io::Result<()> {
    let flags = kinds.iter().map(|kind| match kind {
        Namespace::Mount => UnshareFlags::NEWNS,
        Namespace::Ipc => UnshareFlags::NEWIPC,
        Namespace::HostName => UnshareFlags::NEWUTS,
        Namespace::Network => UnshareFlags::NEWNET,
        Namespace::Process => UnshareFlags::NEWPID,
    });
    // SAFETY: unsharing is unsafe for CLONE_FILES, which takes descriptors away
    // from their owners in other threads. None of the flags above is that one.
    unsafe { unshare_unsafe(flags.collect()) }
}

/// Runs a program as first process of a new process namespace: when it ends, the kernel ends every process in there.
pub(crate) fn spawn_as_first_process(command: &mut Command) -> io::Result<Child> {
    let own = File::open("/proc/self/ns/pid")?;
    enter_new(&[Namespace::Process])?;
    let child = command.spawn();
    // What the caller starts later must not be born in there: without its first process a
    // namespace takes no more (ENOMEM, pid_namespaces(7)).
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
    child
}
