//! A machine's own disk, partitioned by the machine itself: the same layout as a disk that is made on the
//! host, with care for what an earlier life left on it.
//!
//! ```text
//! table as wanted, or larger ──────────────────────────────▶ kept as it is
//! no table, or another one ──no data partition to keep────▶ new table, heads of data partitions emptied
//!                           ──data partition to keep──────▶ refused, nothing written
//! ```

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::error::io;
use crate::layout::{ALIGNMENT, DataPartition, DiskPlan};
use crate::table::{Partition, Table, random_guid};
use crate::{DATA_PREFIX, DiskError, ROOT, SWAP, swap};

/// How much of a new data partition is emptied, so that nothing takes an earlier life's file system for its own.
const HEAD: u64 = 2 << 20;

/// How a machine's disk shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePlan {
    /// Size of the seed partition, bytes; 0 for none.
    pub seed: u64,
    /// Size of the swap partition, bytes; 0 for none.
    pub swap: u64,
    /// Data partitions.
    pub data: Vec<DataPartition>,
    /// Names of data partitions whose content may be lost; of all others it is kept.
    pub wipe: Vec<String>,
    /// The least size of the root partition, bytes.
    pub root_least: u64,
}

/// What became of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitioned {
    /// The partitions in the order of their start.
    pub partitions: Vec<Partition>,
    /// Whether a table was written; the kernel must read it anew then.
    pub written: bool,
}

/// The partitions on the disk in `file`; none when it has no table that can be read.
#[must_use]
pub fn read_partitions(file: &File, path: &Path) -> Option<Vec<Partition>> {
    let size = size(file, path).ok()?;
    Table::read(file, size, path).and_then(|table| table.partitions(size, path)).ok()
}

/// Gives the disk in `file` the partitions of `plan`. `path` is for messages. Doing it again changes nothing.
pub fn partition(file: &File, path: &Path, plan: &DevicePlan) -> Result<Partitioned, DiskError> {
    let size = size(file, path)?;
    let wanted = plan.layout(size, path)?;
    let present = read_partitions(file, path).unwrap_or_default();
    if serves(&present, &wanted, plan) {
        empty(file, path, present.iter().filter(|one| plan.is_wiped(&one.name)))?;
        return Ok(Partitioned { partitions: present, written: false });
    }
    plan.check_kept(&present, &wanted, path)?;
    empty(
        file,
        path,
        wanted.iter().filter(|one| one.name.starts_with(DATA_PREFIX)).filter(
            // What is kept stands at the very same place.
            |one| plan.is_wiped(&one.name) || !present.iter().any(|other| same_place(other, one)),
        ),
    )?;
    Table::new(file, &wanted, path)?.write(file, path)?;
    file.sync_all().map_err(io("write to stable storage", path))?;
    Ok(Partitioned { partitions: wanted, written: true })
}

/// Refuses a plan by which the disk in `file`, of `size` bytes from now on, would lose a data partition that nobody gave
/// up by name. Writes nothing.
pub fn check_kept(file: &File, path: &Path, size: u64, plan: &DevicePlan) -> Result<(), DiskError> {
    let wanted = plan.layout(size, path)?;
    let present = read_partitions(file, path).unwrap_or_default();
    if serves(&present, &wanted, plan) { Ok(()) } else { plan.check_kept(&present, &wanted, path) }
}

/// Gives back the space of everything on the disk image in `file` that an installation by `plan` will not keep,
/// which then reads as zeros; for whoever has the disk as a file, since a machine can do it only in small pieces.
/// The partition table stays. Gives the bytes that were given back; 0 also when the plan will be refused, or the
/// file system cannot do it.
pub fn give_back(file: &File, path: &Path, plan: &DevicePlan) -> Result<u64, DiskError> {
    let size = size(file, path)?;
    let wanted = plan.layout(size, path)?;
    let present = read_partitions(file, path).unwrap_or_default();
    if !serves(&present, &wanted, plan) && plan.check_kept(&present, &wanted, path).is_err() {
        return Ok(0);
    }
    let kept = |one: &&Partition| one.name.starts_with(DATA_PREFIX) && !plan.is_wiped(&one.name);
    let mut kept: Vec<_> =
        present.iter().filter(kept).map(|one| (one.start, one.start + one.length)).collect();
    kept.sort_unstable();
    // The table stands in the first and in the last of these.
    let end = size.saturating_sub(ALIGNMENT);
    kept.push((end, size));
    let mut from = ALIGNMENT;
    let mut given = 0;
    for (start, next) in kept {
        if start > from {
            match fallocate(
                file,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                from,
                start - from,
            ) {
                Ok(()) => given += start - from,
                Err(Errno::OPNOTSUPP) => return Ok(given),
                Err(error) => return Err(io("give back space of", path)(error)),
            }
        }
        from = from.max(next);
    }
    Ok(given)
}

/// Makes the partition in `file` of `length` bytes a swap space.
pub fn make_swap(file: &File, length: u64, path: &Path) -> Result<(), DiskError> {
    let header = swap::header(length, SWAP, random_guid(path)?).ok_or_else(|| DiskError::Plan {
        path: path.to_owned(),
        reason: format!("{length} bytes make no swap space"),
    })?;
    file.write_all_at(&header, 0).map_err(io("write the swap header of", path))
}

impl DevicePlan {
    fn layout(&self, size: u64, path: &Path) -> Result<Vec<Partition>, DiskError> {
        let plan = DiskPlan {
            path: path.to_owned(),
            size,
            root_image: "the node's root".into(),
            swap: self.swap,
            seed: self.seed,
            data: self.data.clone(),
            owner: (0, 0),
        };
        plan.layout(self.root_least)
    }

    fn is_wiped(&self, partition: &str) -> bool {
        let name = partition.strip_prefix(DATA_PREFIX);
        name.is_some_and(|name| self.wipe.iter().any(|wiped| wiped == name))
    }

    /// Refuses when a new table would lose a data partition that nobody gave up by name.
    fn check_kept(
        &self,
        present: &[Partition],
        wanted: &[Partition],
        path: &Path,
    ) -> Result<(), DiskError> {
        let lost = present.iter().find(|one| {
            one.name.starts_with(DATA_PREFIX)
                && !self.is_wiped(&one.name)
                && !wanted.iter().any(|other| same_place(one, other))
        });
        let Some(lost) = lost else { return Ok(()) };
        let name = lost.name.trim_start_matches(DATA_PREFIX);
        Err(DiskError::Plan {
            path: path.to_owned(),
            reason: format!(
                "the data partition {name} ({} MiB at {} MiB) would be lost, since the profile's sizes or names \
                 are others now; nothing was written. Give it up by name (--wipe-data {name}), or give the \
                 profile the sizes it had",
                lost.length >> 20,
                lost.start >> 20
            ),
        })
    }
}

fn same_place(a: &Partition, b: &Partition) -> bool {
    a.name == b.name && a.start == b.start && a.length == b.length
}

/// Whether a table that is there does as well: the same partitions, none too small.
fn serves(present: &[Partition], wanted: &[Partition], plan: &DevicePlan) -> bool {
    present.len() == wanted.len()
        && wanted.iter().all(|want| {
            let least = match want.name.as_str() {
                ROOT => plan.root_least.next_multiple_of(ALIGNMENT),
                _ => want.length,
            };
            present
                .iter()
                .any(|is| is.name == want.name && is.kind == want.kind && is.length >= least)
        })
}

fn empty<'a>(
    file: &File,
    path: &Path,
    partitions: impl Iterator<Item = &'a Partition>,
) -> Result<(), DiskError> {
    for partition in partitions {
        let zeros = vec![0; HEAD.min(partition.length) as usize];
        file.write_all_at(&zeros, partition.start).map_err(io("empty a partition of", path))?;
    }
    Ok(())
}

/// Also of a block device, whose file has no length.
fn size(mut file: &File, path: &Path) -> Result<u64, DiskError> {
    file.seek(SeekFrom::End(0)).map_err(io("ask for the size of", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn plan(wipe: &[&str], size: u64) -> DevicePlan {
        DevicePlan {
            seed: MIB,
            swap: 2 * MIB,
            data: vec![DataPartition { name: "store".into(), size }],
            wipe: wipe.iter().map(|name| (*name).to_owned()).collect(),
            root_least: 4 * MIB,
        }
    }

    /// A partitioned disk that is full of something.
    fn full_disk() -> (File, Vec<Partition>) {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(32 * MIB).unwrap();
        let made = partition(&disk, Path::new("disk"), &plan(&[], 8 * MIB)).unwrap();
        for one in &made.partitions {
            disk.write_all_at(&vec![7; one.length as usize], one.start).unwrap();
        }
        disk.sync_all().unwrap();
        (disk, made.partitions)
    }

    fn is_empty(disk: &File, one: &Partition) -> bool {
        let mut bytes = vec![1; one.length as usize];
        disk.read_exact_at(&mut bytes, one.start).unwrap();
        bytes.iter().all(|byte| *byte == 0)
    }

    #[test]
    fn space_is_given_back_of_all_that_is_not_kept() {
        for (wipe, kept) in [(&[][..], true), (&["store"], false)] {
            let (disk, partitions) = full_disk();
            let before = disk.metadata().unwrap().blocks();
            let given = give_back(&disk, Path::new("disk"), &plan(wipe, 8 * MIB)).unwrap();
            assert!(given >= 20 * MIB, "{given}");
            assert!(disk.metadata().unwrap().blocks() < before);
            for one in &partitions {
                let is_kept = kept && one.name.starts_with(DATA_PREFIX);
                assert_eq!(is_empty(&disk, one), !is_kept, "{}", one.name);
            }
            assert_eq!(read_partitions(&disk, Path::new("disk")), Some(partitions));
        }
    }

    #[test]
    fn of_a_disk_that_will_be_refused_nothing_is_given_back() {
        let (disk, partitions) = full_disk();
        assert_eq!(give_back(&disk, Path::new("disk"), &plan(&[], 10 * MIB)).unwrap(), 0);
        assert!(partitions.iter().all(|one| !is_empty(&disk, one)));
    }
}
