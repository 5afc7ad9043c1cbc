//! Partition tables: writing a new one, reading one, growing the last partition.

use std::path::Path;

use crate::DiskError;

/// What a partition is for, as its type in the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionKind {
    /// Linux file system data.
    Linux,
    /// Linux swap space.
    Swap,
    /// Linux reserved: no file system, so that nothing probes or mounts it.
    Reserved,
    /// Another type, by the GUID's bytes as they stand on the disk.
    Other([u8; 16]),
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Name in the table.
    pub name: String,
    /// First byte on the disk.
    pub start: u64,
    /// Length, bytes.
    pub length: u64,
    /// What it is for.
    pub kind: PartitionKind,
}

/// A disk as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskInfo {
    /// Size the machine sees, bytes.
    pub size: u64,
    /// Bytes that the file takes on the host.
    pub allocated: u64,
    /// Partitions in the order of their start.
    pub partitions: Vec<Partition>,
}

/// Reads the partition table.
pub fn inspect(disk: &Path) -> Result<DiskInfo, DiskError> {
    Err(DiskError::NoPartition { path: disk.to_owned(), name: String::new() })
}

/// Makes the disk `new_size` bytes and its last partition, the root, take the new
/// room. The file system in it is grown by the node.
pub fn grow(disk: &Path, new_size: u64) -> Result<(), DiskError> {
    let _ = new_size;
    Err(DiskError::NoPartition { path: disk.to_owned(), name: String::new() })
}
