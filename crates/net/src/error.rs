//! What can go wrong with a network, and with which part of it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A fault of this crate.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The plan contradicts itself or the kernel's rules.
    #[error("the network {namespace} cannot be made: {}", faults.join("; "))]
    Plan {
        /// The planned namespace.
        namespace: String,
        /// Every fault found.
        faults: Vec<String>,
    },
    /// There is no such namespace.
    #[error("there is no network namespace at {}", path.display())]
    NoNamespace {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is no such interface.
    #[error("the network {namespace} has no interface {name}")]
    NoInterface {
        /// The namespace.
        namespace: String,
        /// The interface looked for.
        name: String,
    },
    /// Another program listens there.
    #[error("the address {listen} is in use by another program")]
    AddressInUse {
        /// The address asked for.
        listen: SocketAddr,
    },
    /// The kernel refused a change of links, addresses or filters.
    #[error("{action} {subject}: {reason}")]
    Kernel {
        /// What was being done.
        action: &'static str,
        /// To what.
        subject: String,
        /// The kernel's answer.
        reason: String,
    },
    /// The operating system refused something.
    #[error("{action} {subject}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        subject: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// Turns an operating system's refusal into a [`NetError`] that says what was being done.
#[allow(clippy::needless_pass_by_value, reason = "callers make what they pass for the call")]
pub(crate) fn io<E: Into<io::Error>>(
    action: &'static str,
    subject: impl ToString,
) -> impl FnOnce(E) -> NetError {
    let subject = subject.to_string();
    move |source| NetError::Io { action, subject, source: source.into() }
}
