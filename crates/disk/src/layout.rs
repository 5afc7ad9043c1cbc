//! Where each partition goes. Pure arithmetic: nothing is read or written here.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::table::{Partition, PartitionKind};
use crate::{DATA_PREFIX, DiskError, ROOT, SEED, SWAP};

/// Bytes in a sector, for every VMM in use.
pub(crate) const SECTOR: u64 = 512;
/// Every partition starts at and is as long as a multiple of this.
pub(crate) const ALIGNMENT: u64 = 1 << 20;
/// Sectors behind the last partition: the backup table (32) and its header (1).
const BACKUP: u64 = 33 * SECTOR;
/// UTF-16 units in a partition's name.
const NAME_LENGTH: usize = 36;

/// A disk to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPlan {
    /// The disk's file; its folder exists, the file does not.
    pub path: PathBuf,
    /// Size of the whole disk, bytes; rounded down to whole sectors.
    pub size: u64,
    /// A raw file system, sparse, that becomes the root partition's content.
    pub root_image: PathBuf,
    /// Size of the swap partition, bytes; 0 for none. Rounded up to 1 MiB.
    pub swap: u64,
    /// Size of the seed partition, bytes; 0 for none. Rounded up to 1 MiB.
    pub seed: u64,
    /// Further partitions, left empty.
    pub data: Vec<DataPartition>,
    /// User and group that own the file.
    pub owner: (u32, u32),
}

/// A partition for the node's own data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPartition {
    /// Name: 1–22 of `a–z`, `0–9` and `-`, unique on the disk.
    pub name: String,
    /// Size, bytes. Rounded up to 1 MiB.
    pub size: u64,
}

impl DiskPlan {
    /// The partitions of this disk for an image of `image` bytes: the root comes
    /// last and takes all that is left.
    pub(crate) fn layout(&self, image: u64) -> Result<Vec<Partition>, DiskError> {
        self.check_names()?;
        let overflow = || self.fault("the sizes are too large to be added up");
        let mut partitions = Vec::new();
        let mut start = ALIGNMENT;
        for (name, size, kind) in self.fixed() {
            let length = size.checked_next_multiple_of(ALIGNMENT).ok_or_else(overflow)?;
            partitions.push(Partition { name, start, length, kind });
            start = start.checked_add(length).ok_or_else(overflow)?;
        }
        let least = image.max(1).checked_next_multiple_of(ALIGNMENT).ok_or_else(overflow)?;
        let length = root_length(start, self.size);
        if length < least {
            let needed = start.checked_add(least).and_then(|end| end.checked_add(ALIGNMENT));
            return Err(DiskError::TooSmall {
                path: self.path.clone(),
                size: self.size,
                root_image: self.root_image.clone(),
                image,
                needed: needed.ok_or_else(overflow)?,
            });
        }
        partitions.push(Partition { name: ROOT.into(), start, length, kind: PartitionKind::Linux });
        Ok(partitions)
    }

    /// The partitions in front of the root.
    fn fixed(&self) -> Vec<(String, u64, PartitionKind)> {
        let mut fixed = vec![
            (SEED.to_owned(), self.seed, PartitionKind::Reserved),
            (SWAP.to_owned(), self.swap, PartitionKind::Swap),
        ];
        fixed.retain(|(_, size, _)| *size > 0);
        fixed.extend(
            self.data.iter().map(|data| {
                (format!("{DATA_PREFIX}{}", data.name), data.size, PartitionKind::Linux)
            }),
        );
        fixed
    }

    fn check_names(&self) -> Result<(), DiskError> {
        let mut seen = BTreeSet::new();
        for DataPartition { name, size } in &self.data {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            let longest = NAME_LENGTH - DATA_PREFIX.len();
            if name.is_empty() || name.len() > longest || !name.chars().all(allowed) {
                return Err(self.fault(&format!(
                    "the data partition's name {name:?} is not 1 to {longest} of a-z, 0-9 and -"
                )));
            }
            if !seen.insert(name) {
                return Err(self.fault(&format!("two data partitions are named {name}")));
            }
            if *size == 0 {
                return Err(self.fault(&format!("the data partition {name} has no size")));
            }
        }
        Ok(())
    }

    fn fault(&self, reason: &str) -> DiskError {
        DiskError::Plan { path: self.path.clone(), reason: reason.to_owned() }
    }
}

/// Length of a root partition that starts at `start` on a disk of `size` bytes; 0 when there is no room.
pub(crate) fn root_length(start: u64, size: u64) -> u64 {
    let end = size.saturating_sub(BACKUP) / ALIGNMENT * ALIGNMENT;
    end.saturating_sub(start)
}
