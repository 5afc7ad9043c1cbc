//! The lock: every package of every role, pinned by version and hash.

use serde::{Deserialize, Serialize};

/// One package, pinned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PinnedPackage {
    /// Debian package name.
    pub name: String,
    /// Full version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// SHA-256 of the `.deb`, hex.
    pub sha256: String,
    /// Size of the `.deb` in bytes.
    pub size: u64,
    /// Path below the mirror's base, `pool/…`.
    pub filename: String,
}

/// The lock of a site (`site.lock`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {}

/// Why a lock's text was refused.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Not TOML, or not of the lock's form.
    #[error("site.lock cannot be read: {0}")]
    Form(#[from] toml::de::Error),
}

impl Lock {
    /// Reads a lock's text.
    pub fn parse(_text: &str) -> Result<Lock, LockError> {
        Ok(Lock {})
    }

    /// The lock's text; equal locks give equal texts.
    pub fn to_text(&self) -> String {
        String::new()
    }
}
