//! Making a whole disk, or nothing.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Gid, Uid, fchown};

use crate::clone::Clone;
use crate::error::io;
use crate::layout::{ALIGNMENT, SECTOR};
use crate::table::{Partition, Table, random_guid};
use crate::temporary::Temporary;
use crate::{DiskError, DiskPlan, Method, ROOT, SWAP, check_space, swap};

/// A disk that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Bytes of the image that were copied or shared, holes not counted.
    pub bytes_copied: u64,
    /// How they came onto the disk.
    pub method: Method,
    /// The partitions in the order of their start.
    pub partitions: Vec<Partition>,
}

/// Makes the disk of `plan`. Either the whole disk is there in the end, on stable
/// storage, or nothing is; a disk that is there already is left as it is. `progress`
/// hears of bytes done and bytes to do.
pub fn create(plan: &DiskPlan, progress: &mut dyn FnMut(u64, u64)) -> Result<Created, DiskError> {
    if plan.path.symlink_metadata().is_ok() {
        return Err(DiskError::Exists { path: plan.path.clone() });
    }
    let image = File::open(&plan.root_image).map_err(io("open", &plan.root_image))?;
    let metadata = image.metadata().map_err(io("ask for the size of", &plan.root_image))?;
    if !metadata.is_file() {
        let reason = format!("{} is not a file", plan.root_image.display());
        return Err(DiskError::Plan { path: plan.path.clone(), reason });
    }
    let partitions = plan.layout(metadata.len())?;

    let temporary = Temporary::beside(&plan.path)?;
    let disk = temporary.file();
    let size = plan.size / SECTOR * SECTOR;
    disk.set_len(size).map_err(io("set the size of", &plan.path))?;
    let (bytes_copied, method) = fill_root(plan, &image, disk, &partitions, progress)?;
    write_swap(plan, disk, &partitions)?;
    Table::new(disk, &partitions, &plan.path)?.write(disk, &plan.path)?;

    let (user, group) = plan.owner;
    fchown(disk, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
        .map_err(io("set the owner of", &plan.path))?;
    temporary.publish()?;
    Ok(Created { bytes_copied, method, partitions })
}

fn fill_root(
    plan: &DiskPlan,
    image: &File,
    disk: &File,
    partitions: &[Partition],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(u64, Method), DiskError> {
    let root = find(partitions, ROOT)
        .ok_or_else(|| DiskError::NoPartition { path: plan.path.clone(), name: ROOT.to_owned() })?;
    let length = image.metadata().map_err(io("ask for the size of", &plan.root_image))?.len();
    let clone = Clone { image, length, disk, offset: root.start };
    let used = clone.used().map_err(io("look for used blocks in", &plan.root_image))?;
    let total = used.iter().map(|range| range.end - range.start).sum();
    progress(0, total);
    if clone.share() {
        progress(total, total);
        return Ok((total, Method::Reflink));
    }
    let folder = plan.path.parent().filter(|folder| !folder.as_os_str().is_empty());
    check_space(folder.unwrap_or(Path::new(".")), total + ALIGNMENT)?;
    let method = clone
        .copy(&used, &mut |done| progress(done, total))
        .map_err(io("copy the root image onto", &plan.path))?;
    Ok((total, method))
}

fn write_swap(plan: &DiskPlan, disk: &File, partitions: &[Partition]) -> Result<(), DiskError> {
    let Some(partition) = find(partitions, SWAP) else { return Ok(()) };
    let uuid = random_guid(&plan.path)?;
    let header = swap::header(partition.length, SWAP, uuid).ok_or_else(|| DiskError::Plan {
        path: plan.path.clone(),
        reason: format!("{} bytes are too many for a swap space", partition.length),
    })?;
    disk.write_all_at(&header, partition.start).map_err(io("write the swap header of", &plan.path))
}

fn find<'a>(partitions: &'a [Partition], name: &str) -> Option<&'a Partition> {
    partitions.iter().find(|partition| partition.name == name)
}
