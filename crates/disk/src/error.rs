//! What can go wrong with a disk, and to which file.

use std::io;
use std::path::{Path, PathBuf};

/// A fault of this crate.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The planned disk has no room for the image.
    #[error(
        "the disk {} of {size} bytes is too small: the root file system in {} has {image} bytes, \
         and with the other partitions the disk must have at least {needed} bytes",
        path.display(), root_image.display()
    )]
    TooSmall {
        /// The disk.
        path: PathBuf,
        /// Its planned size, bytes.
        size: u64,
        /// The root image.
        root_image: PathBuf,
        /// The image's size, bytes.
        image: u64,
        /// The least size that works, bytes.
        needed: u64,
    },
    /// A part of the plan is wrong.
    #[error("the plan of the disk {} cannot be carried out: {reason}", path.display())]
    Plan {
        /// The disk.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is a disk already.
    #[error("the disk {} exists already; it was left as it is", path.display())]
    Exists {
        /// The disk.
        path: PathBuf,
    },
    /// The host's file system has no room.
    #[error("{} has {available} bytes free, but {needed} are needed", dir.display())]
    NoSpace {
        /// Folder asked about.
        dir: PathBuf,
        /// Bytes wanted.
        needed: u64,
        /// Bytes that are free for this user.
        available: u64,
    },
    /// The seed's entries do not fit into its partition.
    #[error(
        "the seed of {} takes {needed} bytes, but its partition has only {available}",
        path.display()
    )]
    SeedTooLarge {
        /// The disk.
        path: PathBuf,
        /// Bytes of the archive.
        needed: u64,
        /// Bytes of the partition.
        available: u64,
    },
    /// A seed entry cannot be put into an archive as it is.
    #[error("the seed entry {name:?} is not usable: {reason}")]
    SeedEntry {
        /// The entry's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A partition is missing.
    #[error("the disk {} has no partition named {name}", path.display())]
    NoPartition {
        /// The disk.
        path: PathBuf,
        /// The name looked for.
        name: String,
    },
    /// A disk would have to shrink.
    #[error("the disk {} has {size} bytes and cannot shrink to {wanted}", path.display())]
    Shrink {
        /// The disk.
        path: PathBuf,
        /// Its size, bytes.
        size: u64,
        /// The size asked for, bytes.
        wanted: u64,
    },
    /// The partition table cannot be read or written.
    #[error("{action} the partition table of {}: {reason}", path.display())]
    Table {
        /// What was being done.
        action: &'static str,
        /// The disk.
        path: PathBuf,
        /// Why it failed.
        reason: String,
    },
    /// The operating system refused something.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Turns an operating system's refusal into a [`DiskError`] that says what was being done.
pub(crate) fn io<E: Into<io::Error>>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Io { action, path, source: source.into() }
}
