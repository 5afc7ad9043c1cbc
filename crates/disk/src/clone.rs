//! Moves a sparse image's used blocks into a disk, holes staying holes.

/// How the image's blocks came onto the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The host's file system shares the blocks; nothing was copied.
    Reflink,
    /// Copied inside the kernel.
    CopyFileRange,
    /// Read and written.
    Copy,
}
