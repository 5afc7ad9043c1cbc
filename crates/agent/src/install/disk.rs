//! The node's disk: found, partitioned, made ready for what comes on it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use gridgate_disk::{DataPartition, DevicePlan, ROOT, SEED, SWAP};
use gridgate_protocol::install_api::{DiskOrder, InstallFailure, Stage};
use rustix::ioctl::{NoArg, Opcode, Setter, ioctl, opcode};

use super::{again, never};
use crate::init::{Block, CommandLine, Events, Modules, blocks};

/// `BLKRRPART` of the kernel's `include/uapi/linux/fs.h`: read the partition table anew.
const REREAD: Opcode = opcode::none(0x12, 95);

/// `BLKZEROOUT`: a range (start and length, bytes) reads as zeros afterwards.
const ZERO_OUT: Opcode = opcode::none(0x12, 127);

/// Names the disk on the kernel's command line, `vda`.
const DISK_ARGUMENT: &str = "gridgate.disk";

/// The node's disk, open.
pub(super) struct Disk {
    /// As the kernel describes it.
    pub block: Block,
    file: File,
}

impl Disk {
    /// Waits for it: the one that the command line names, else the one with a partition of ours, else the only one that
    /// can be written to.
    pub(super) fn find(
        line: &CommandLine,
        events: &mut Events,
        modules: &mut Modules,
    ) -> Result<Self, InstallFailure> {
        let named = line.value(DISK_ARGUMENT);
        let what =
            named.map_or("a disk that can be written to".to_owned(), |n| format!("disk {n}"));
        let found = events.until(&what, None, || {
            modules.load_wanted();
            choose(&blocks(), named).transpose()
        });
        let block = found.ok_or_else(|| again(Stage::Start, "no disk was found"))??;
        let file = OpenOptions::new().read(true).write(true).open(&block.device);
        let file = file.map_err(|e| again(Stage::Start, format!("open {}: {e}", block.device)))?;
        Ok(Self { block, file })
    }

    /// Names of the partitions that are on it.
    pub(super) fn names(&self) -> Vec<String> {
        let partitions = gridgate_disk::read_partitions(&self.file, Path::new(&self.block.device));
        partitions.unwrap_or_default().into_iter().map(|partition| partition.name).collect()
    }

    /// Gives it the order's partitions, where it has not got them already. Says whether a table was written.
    pub(super) fn partition(&self, order: &DiskOrder) -> Result<bool, InstallFailure> {
        let data = |data: &gridgate_protocol::install_api::DataOrder| DataPartition {
            name: data.name.clone(),
            size: data.size,
        };
        let plan = DevicePlan {
            seed: order.seed,
            swap: order.swap,
            data: order.data.iter().map(data).collect(),
            wipe: order.given_up(),
            root_least: order.root_least,
        };
        let path = Path::new(&self.block.device);
        let made = gridgate_disk::partition(&self.file, path, &plan)
            .map_err(|e| never(Stage::Partition, e))?;
        if made.written {
            self.reread().map_err(|e| {
                again(Stage::Partition, format!("make the kernel read the new table: {e}"))
            })?;
        }
        Ok(made.written)
    }

    fn reread(&self) -> io::Result<()> {
        // SAFETY: the request has no argument.
        unsafe { Ok(ioctl(&self.file, NoArg::<REREAD>::new())?) }
    }

    /// Waits for a partition of this disk.
    pub(super) fn part(
        &self,
        name: &str,
        stage: Stage,
        events: &mut Events,
    ) -> Result<Part, InstallFailure> {
        let look = || {
            blocks().into_iter().find(|block| {
                block.disk.as_ref() == Some(&self.block.name)
                    && block.label.as_deref() == Some(name)
            })
        };
        let block = events.until(&format!("the partition {name}"), None, look);
        let block = block.ok_or_else(|| again(stage, format!("there is no partition {name}")))?;
        Part::open(block, stage)
    }

    /// The swap space, when the order wants one.
    pub(super) fn make_swap(
        &self,
        order: &DiskOrder,
        events: &mut Events,
    ) -> Result<(), InstallFailure> {
        if order.swap == 0 {
            return Ok(());
        }
        let part = self.part(SWAP, Stage::FileSystems, events)?;
        let path = Path::new(&part.block.device);
        gridgate_disk::make_swap(&part.file, part.block.bytes, path)
            .map_err(|e| again(Stage::FileSystems, e))
    }

    /// The root's partition.
    pub(super) fn root(&self, stage: Stage, events: &mut Events) -> Result<Part, InstallFailure> {
        self.part(ROOT, stage, events)
    }

    /// The seed's partition.
    pub(super) fn seed(&self, events: &mut Events) -> Result<Part, InstallFailure> {
        self.part(SEED, Stage::NodeConfiguration, events)
    }
}

/// A partition, open.
pub(crate) struct Part {
    /// As the kernel describes it.
    pub block: Block,
    /// For reading and writing.
    pub file: File,
}

impl Part {
    fn open(block: Block, stage: Stage) -> Result<Self, InstallFailure> {
        let file = OpenOptions::new().read(true).write(true).open(&block.device);
        let file = file.map_err(|e| again(stage, format!("open {}: {e}", block.device)))?;
        Ok(Self { block, file })
    }

    /// Makes a range read as zeros, whatever an earlier life left in it.
    pub(super) fn zero(&self, start: u64, length: u64) -> io::Result<()> {
        // SAFETY: the request reads two u64 through its pointer and writes nothing; the setter
        // holds them for the time of the call.
        unsafe { Ok(ioctl(&self.file, Setter::<ZERO_OUT, [u64; 2]>::new([start, length]))?) }
    }
}

/// None: it is not there yet.
fn choose(blocks: &[Block], named: Option<&str>) -> Result<Option<Block>, InstallFailure> {
    let writable = |block: &&Block| block.is_disk() && !block.read_only;
    let ours = |disk: &Block| {
        let named =
            |part: &Block| part.label.as_deref().is_some_and(|l| l.starts_with("gridgate-"));
        blocks.iter().any(|part| part.disk.as_ref() == Some(&disk.name) && named(part))
    };
    let disks: Vec<&Block> = blocks.iter().filter(writable).collect();
    if let Some(name) = named {
        return Ok(disks.into_iter().find(|disk| disk.name == name).cloned());
    }
    if let Some(disk) = disks.iter().find(|disk| ours(disk)) {
        return Ok(Some((*disk).clone()));
    }
    if let [_, _, ..] = disks[..] {
        let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
        let what = format!(
            "there are several disks ({}) and none has partitions of a node; nothing was written. Name the node's own \
             on the kernel's command line: {DISK_ARGUMENT}={}",
            names.join(", "),
            names[0]
        );
        return Err(never(Stage::Start, what));
    }
    Ok(disks.first().map(|disk| (*disk).clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, read_only: bool) -> Block {
        Block { name: name.into(), bytes: 1 << 30, read_only, ..Block::default() }
    }

    #[test]
    fn the_disk_with_our_partitions_comes_first_and_a_read_only_one_never() {
        let mut blocks = vec![disk("vda", true), disk("vdb", false), disk("vdc", false)];
        let chosen = |blocks: &[Block], named| {
            choose(blocks, named).map(|disk| disk.map(|disk| disk.name)).map_err(|e| e.what)
        };
        assert_eq!(chosen(&blocks[..1], None), Ok(None));
        assert_eq!(chosen(&blocks[..2], None), Ok(Some("vdb".into())));
        let several = chosen(&blocks, None).unwrap_err();
        assert!(several.contains("vdb, vdc") && several.contains("gridgate.disk="), "{several}");
        assert_eq!(chosen(&blocks, Some("vdc")), Ok(Some("vdc".into())));
        assert_eq!(chosen(&blocks, Some("vda")), Ok(None));
        blocks.push(Block {
            name: "vdc1".into(),
            disk: Some("vdc".into()),
            label: Some("gridgate-data-x".into()),
            bytes: 1,
            ..Block::default()
        });
        assert_eq!(chosen(&blocks, None), Ok(Some("vdc".into())));
    }
}
