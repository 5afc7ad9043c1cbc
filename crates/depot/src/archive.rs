//! The Debian archive: signed release files, package indexes, files by hash.

pub(crate) mod control;
pub(crate) mod fetch;
pub(crate) mod index;
pub(crate) mod keyring;
#[cfg(test)]
pub(crate) mod own;
pub(crate) mod release;
mod resolver;
pub(crate) mod stored;
pub(crate) mod suite;
pub(crate) mod version;

/// Debian's name of the architecture that images are built for: this program's own.
pub(crate) const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
