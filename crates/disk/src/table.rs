//! Partition tables: a new one, the one on a disk, and a larger one.
//!
//! The machine that runs on a disk may have written anything into its table, so
//! nothing read here is believed: a table with unusual dimensions or with partitions
//! outside the disk is a fault.

use std::fs::{File, OpenOptions};
use std::io::Cursor;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use gptman::{GPTHeader, GPTPartitionEntry};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::io;
use crate::layout::{SECTOR, root_length};
use crate::{DiskError, ROOT};

/// Entries in a table, and bytes in an entry: what all common tools write.
const ENTRIES: u32 = 128;
const ENTRY: u32 = 128;
/// Sectors of the entries.
const ENTRY_SECTORS: u64 = (ENTRIES as u64 * ENTRY as u64) / SECTOR;
/// Sectors of the backup: entries and header.
const BACKUP_SECTORS: u64 = ENTRY_SECTORS + 1;
/// Fewest sectors of a disk with a table: both copies and something between them.
const LEAST_SECTORS: u64 = 2 * BACKUP_SECTORS + 2;

/// Partition types as their GUIDs stand on the disk (the first three fields are little-endian).
const LINUX: [u8; 16] = *b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";
const LINUX_SWAP: [u8; 16] = *b"\x6d\xfd\x57\x06\xab\xa4\xc4\x43\x84\xe5\x09\x33\xc8\x4b\x4f\x4f";
const RESERVED: [u8; 16] = *b"\x39\x33\xa6\x8d\x07\x00\xc0\x60\xc4\x36\x08\x3a\xc8\x23\x09\x08";

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

impl PartitionKind {
    fn guid(self) -> [u8; 16] {
        match self {
            Self::Linux => LINUX,
            Self::Swap => LINUX_SWAP,
            Self::Reserved => RESERVED,
            Self::Other(guid) => guid,
        }
    }

    fn of(guid: [u8; 16]) -> Self {
        match guid {
            LINUX => Self::Linux,
            LINUX_SWAP => Self::Swap,
            RESERVED => Self::Reserved,
            other => Self::Other(other),
        }
    }
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

/// Reads the partition table; the backup where the first copy is damaged.
pub fn inspect(disk: &Path) -> Result<DiskInfo, DiskError> {
    let file = File::open(disk).map_err(io("open", disk))?;
    let metadata = file.metadata().map_err(io("ask for the size of", disk))?;
    let partitions = Table::read(&file, metadata.len(), disk)?.partitions(metadata.len(), disk)?;
    Ok(DiskInfo { size: metadata.len(), allocated: metadata.blocks() * 512, partitions })
}

/// Makes the disk `new_size` bytes and its last partition, the root, take the new
/// room. The file system in it is grown by the node. The caller sees to it that no
/// machine runs on the disk. Doing it again finishes what was interrupted.
pub fn grow(disk: &Path, new_size: u64) -> Result<(), DiskError> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).open(disk).map_err(io("open", disk))?;
    let size = file.metadata().map_err(io("ask for the size of", disk))?.len();
    let new_size = new_size / SECTOR * SECTOR;
    if new_size < size {
        return Err(DiskError::Shrink { path: disk.to_owned(), size, wanted: new_size });
    }
    let mut table = Table::read(&file, size, disk)?;
    let root = table.growing_root(size, disk)?;
    let old_end = (table.header.backup_lba + 1).saturating_mul(SECTOR);
    let length = root_length(root.start, new_size).max(root.length);
    if old_end == new_size && length == root.length {
        return Ok(());
    }
    file.set_len(new_size).map_err(io("set the size of", disk))?;
    table.resize_root(&file, &root, length, disk)?;
    table.write(&file, disk)?;
    file.sync_all().map_err(io("write to stable storage", disk))?;
    forget_backup(&file, old_end, size, new_size);
    Ok(())
}

/// Empties the place of the backup table that ended at `old_end`: the root may reach
/// over it now, and no file system has been there yet.
fn forget_backup(file: &File, old_end: u64, size: u64, new_size: u64) {
    let new_start = new_size - BACKUP_SECTORS * SECTOR;
    let Some(start) = old_end.checked_sub(BACKUP_SECTORS * SECTOR) else { return };
    if old_end > size || old_end > new_start {
        return;
    }
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if let Err(error) = fallocate(file, mode, start, old_end - start) {
        tracing::debug!(%error, start, "an old backup table stays");
    }
}

/// 16 random bytes in the form of a version 4 GUID.
pub(crate) fn random_guid(disk: &Path) -> Result<[u8; 16], DiskError> {
    let mut guid = [0; 16];
    // Up to 256 bytes come whole, once the kernel's generator is ready.
    getrandom(&mut guid, GetRandomFlags::empty()).map_err(io("make an identity for", disk))?;
    guid[7] = guid[7] & 0x0f | 0x40;
    guid[8] = guid[8] & 0x3f | 0x80;
    Ok(guid)
}

/// A partition table: the header of its first copy, and the entries.
pub(crate) struct Table {
    header: GPTHeader,
    entries: Vec<GPTPartitionEntry>,
}

impl Table {
    /// A new table for the disk in `file`.
    pub(crate) fn new(
        mut file: &File,
        partitions: &[Partition],
        disk: &Path,
    ) -> Result<Self, DiskError> {
        let header = GPTHeader::new_from(&mut file, SECTOR, random_guid(disk)?)
            .map_err(fault("lay out", disk))?;
        let mut entries = vec![GPTPartitionEntry::empty(); ENTRIES as usize];
        if partitions.len() > entries.len() {
            return Err(fault("lay out", disk)(format!("{} are too many", partitions.len())));
        }
        for (entry, partition) in entries.iter_mut().zip(partitions) {
            *entry = GPTPartitionEntry {
                partition_type_guid: partition.kind.guid(),
                unique_partition_guid: random_guid(disk)?,
                starting_lba: partition.start / SECTOR,
                ending_lba: (partition.start + partition.length) / SECTOR - 1,
                attribute_bits: 0,
                partition_name: partition.name.as_str().into(),
            };
        }
        Ok(Self { header, entries })
    }

    /// The table of a disk of `size` bytes.
    pub(crate) fn read(file: &File, size: u64, disk: &Path) -> Result<Self, DiskError> {
        let sectors = size / SECTOR;
        if sectors < LEAST_SECTORS {
            return Err(fault("read", disk)(format!("{size} bytes are too few for one")));
        }
        let first = match read_copy(file, 1, sectors) {
            Ok((header, entries)) => return Ok(Self { header, entries }),
            Err(first) => first,
        };
        let (backup, entries) = read_copy(file, sectors - 1, sectors).map_err(|backup| {
            fault("read", disk)(format!("first copy: {first}; backup: {backup}"))
        })?;
        let header =
            GPTHeader { primary_lba: 1, backup_lba: sectors - 1, partition_entry_lba: 2, ..backup };
        Ok(Self { header, entries })
    }

    /// The partitions in the order of their start; all lie on the disk.
    pub(crate) fn partitions(&self, size: u64, disk: &Path) -> Result<Vec<Partition>, DiskError> {
        let mut partitions = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.is_used()) {
            let name = entry.partition_name.to_string();
            if entry.starting_lba > entry.ending_lba || entry.ending_lba >= size / SECTOR {
                return Err(fault("read", disk)(format!("{name:?} lies outside the disk")));
            }
            partitions.push(Partition {
                name,
                start: entry.starting_lba * SECTOR,
                length: (entry.ending_lba - entry.starting_lba + 1) * SECTOR,
                kind: PartitionKind::of(entry.partition_type_guid),
            });
        }
        partitions.sort_by_key(|partition| partition.start);
        Ok(partitions)
    }

    /// The root partition, when it is the last one and so can grow.
    fn growing_root(&self, size: u64, disk: &Path) -> Result<Partition, DiskError> {
        match self.partitions(size, disk)?.pop() {
            Some(last) if last.name == ROOT => Ok(last),
            Some(last) => {
                Err(fault("enlarge", disk)(format!("{:?} stands behind the root", last.name)))
            }
            None => Err(fault("enlarge", disk)("it is empty".to_owned())),
        }
    }

    /// Fits the table to the size that the file has now, and the root to `length` bytes.
    fn resize_root(
        &mut self,
        mut file: &File,
        root: &Partition,
        length: u64,
        disk: &Path,
    ) -> Result<(), DiskError> {
        self.header.update_from(&mut file, SECTOR).map_err(fault("enlarge", disk))?;
        let ending = (root.start + length) / SECTOR - 1;
        if ending > self.header.last_usable_lba {
            return Err(fault("enlarge", disk)("the root reaches into the backup".to_owned()));
        }
        let start = root.start / SECTOR;
        for entry in &mut self.entries {
            if entry.is_used() && entry.starting_lba == start {
                entry.ending_lba = ending;
            }
        }
        Ok(())
    }

    /// Writes both copies, the backup first and the first copy in one piece, so that
    /// at any moment one of them is whole.
    pub(crate) fn write(&mut self, mut file: &File, disk: &Path) -> Result<(), DiskError> {
        let mut backup = GPTHeader {
            primary_lba: self.header.backup_lba,
            backup_lba: self.header.primary_lba,
            partition_entry_lba: self.header.last_usable_lba + 1,
            ..self.header.clone()
        };
        backup.write_into(&mut file, SECTOR, &self.entries).map_err(fault("write", disk))?;
        file.sync_data().map_err(io("write to stable storage", disk))?;

        let length = (self.header.first_usable_lba * SECTOR) as usize;
        let mut first = Cursor::new(vec![0; length]);
        self.header.write_into(&mut first, SECTOR, &self.entries).map_err(fault("write", disk))?;
        let mut bytes = first.into_inner();
        protect(&mut bytes, self.header.backup_lba);
        file.write_all_at(&bytes, 0).map_err(io("write the partition table of", disk))
    }
}

/// Reads and judges the copy whose header is in sector `at`.
fn read_copy(
    mut file: &File,
    at: u64,
    sectors: u64,
) -> Result<(GPTHeader, Vec<GPTPartitionEntry>), String> {
    let mut sector = [0; SECTOR as usize];
    file.read_exact_at(&mut sector, at * SECTOR).map_err(|error| error.to_string())?;
    let header =
        GPTHeader::read_from(&mut Cursor::new(&sector)).map_err(|error| error.to_string())?;
    if header.number_of_partition_entries != ENTRIES || header.size_of_partition_entry != ENTRY {
        return Err(format!(
            "{} entries of {} bytes, not {ENTRIES} of {ENTRY}",
            header.number_of_partition_entries, header.size_of_partition_entry
        ));
    }
    if header.primary_lba != at || header.partition_entry_lba > sectors - ENTRY_SECTORS {
        return Err("its header does not fit its place".to_owned());
    }
    let entries = header.read_partitions(&mut file, SECTOR).map_err(|error| error.to_string())?;
    Ok((header, entries))
}

/// Puts the protective boot record into the first sector: to what knows no partition
/// table of this kind, the disk is full.
fn protect(disk: &mut [u8], last_sector: u64) {
    let sectors = u32::try_from(last_sector).unwrap_or(u32::MAX);
    disk[446..458].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    disk[458..462].copy_from_slice(&sectors.to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
}

fn fault<E: ToString>(action: &'static str, disk: &Path) -> impl FnOnce(E) -> DiskError {
    let path = disk.to_owned();
    move |reason| DiskError::Table { action, path, reason: reason.to_string() }
}
