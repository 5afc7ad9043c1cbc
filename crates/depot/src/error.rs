//! The one error of the depot's operations; each room of it has its own below.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::fetch::FetchError;
use crate::archive::keyring::SignatureError;
use crate::chamber::ChamberError;
use crate::lock::LockError;

/// Why the depot could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum DepotError {
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was being done, e.g. `write`.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file of the archive could not be had, or is not what the index says.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A release file is not signed as it must be.
    #[error("the release file of {suite} is refused: {source}")]
    Signature {
        /// The suite.
        suite: String,
        /// The rule it breaks.
        source: SignatureError,
    },
    /// The archive does not hold what was asked for.
    #[error("the archive's index of {suite} {problem}")]
    Index {
        /// The suite.
        suite: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A package file cannot be read as one.
    #[error("package {name} is malformed: {problem}")]
    Package {
        /// The package's file.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// apt found no way to install what a role wants.
    #[error("role {role}: its packages cannot be installed together: {reason}")]
    Resolve {
        /// The role.
        role: String,
        /// apt's own words.
        reason: String,
    },
    /// The lock cannot be followed.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The disk is too small for what is to be done.
    #[error("not enough disk space in {} to {action}: needs {needed} MiB, {free} MiB are free", .path.display())]
    Space {
        /// What was about to be done.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Mebibytes needed.
        needed: u64,
        /// Mebibytes free.
        free: u64,
    },
    /// Something failed in a build chamber.
    #[error("{subject}: {source}")]
    Chamber {
        /// Role, `base` or `common`.
        subject: String,
        /// What failed.
        source: ChamberError,
    },
    /// A built root does not hold what was pinned.
    #[error("{subject}: the built root is not as pinned: {problem}")]
    NotAsPinned {
        /// Role, `base` or `common`.
        subject: String,
        /// The difference.
        problem: String,
    },
    /// Somebody builds or fetches in this depot.
    #[error("the depot is in use: something is being built or fetched in it")]
    Busy,
    /// An archive of a depot is not one, or was altered.
    #[error("{} is refused: {problem}", .path.display())]
    Export {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Packages of a lock are not stored.
    #[error(
        "the depot lacks {count} packages of the lock, {first} among them; `gridgate up` fetches them"
    )]
    Incomplete {
        /// How many.
        count: usize,
        /// One of them, with its version.
        first: String,
    },
    /// Packages need each other before any of them can be unpacked.
    #[error(
        "what {package} needs before it is unpacked needs {package} itself: dpkg cannot install them one by one"
    )]
    Ring {
        /// One of them.
        package: String,
    },
    /// The host has a QEMU that nodes cannot run on.
    #[error("the host's QEMU cannot be used: {why}")]
    HostQemu {
        /// What it lacks.
        why: String,
    },
    /// The build of another part failed first.
    #[error("stopped because another part of the build failed")]
    Stopped,
}

impl DepotError {
    /// For `map_err`: a file operation that failed.
    pub(crate) fn io<E: Into<io::Error>>(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> DepotError {
        let path = path.to_owned();
        move |source| DepotError::Io { action, path, source: source.into() }
    }
}
