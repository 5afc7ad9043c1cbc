//! The seed: a tar archive from byte 0 of its partition.

use std::path::{Path, PathBuf};

use crate::DiskError;

/// One file of the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedEntry {
    /// Path inside the archive, relative, without `..`.
    pub name: String,
    /// Permission bits, e.g. 0o600.
    pub mode: u32,
    /// Its content.
    pub source: SeedSource,
}

/// Where a seed entry's content comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeedSource {
    /// These bytes.
    Bytes(Vec<u8>),
    /// This file of the host.
    File(PathBuf),
}

/// What [`write_seed`] had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedChange {
    /// The disk held exactly this seed.
    Unchanged,
    /// Something was written.
    Written {
        /// Bytes that differed and were written.
        bytes: u64,
    },
}

/// Puts `entries` as a tar archive at byte 0 of the disk's seed partition.
/// What is there already is compared and not written again.
pub fn write_seed(disk: &Path, entries: &[SeedEntry]) -> Result<SeedChange, DiskError> {
    let _ = entries;
    Err(DiskError::NoPartition { path: disk.to_owned(), name: crate::SEED.into() })
}
