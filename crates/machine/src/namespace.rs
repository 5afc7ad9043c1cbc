//! Making namespaces: unshare(2) with namespace flags only.

use rustix::thread::{UnshareFlags, unshare_unsafe};

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
