//! Block devices as the kernel describes them below `/sys/class/block`.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::ext4_resize::volume_label;

const BLOCKS: &str = "/sys/class/block";

/// Volume label of the disk with kernel modules.
const MODULES_LABEL: &str = "gridgate-modules";

/// Kernel devices that are no disks of a machine.
const NO_DISKS: [&str; 9] = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "mtdblock"];

/// A disk or a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    /// Kernel's name, `vda1`.
    pub name: String,
    /// Its node, `/dev/vda1`.
    pub device: String,
    /// The partition's name in the table.
    pub label: Option<String>,
    /// The disk that it is a partition of.
    pub disk: Option<String>,
    /// Size, bytes.
    pub bytes: u64,
    /// Whether the kernel refuses to write to it.
    pub read_only: bool,
}

impl Block {
    /// Whether this is a disk of the machine's, as a whole.
    pub(crate) fn is_disk(&self) -> bool {
        self.disk.is_none()
            && self.bytes > 0
            && !NO_DISKS.iter().any(|kind| self.name.starts_with(kind))
    }
}

/// The value of `root=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RootName {
    /// Name of a partition in its table.
    PartitionLabel(String),
    /// A device's node.
    Device(String),
}

impl RootName {
    /// None when it is of another kind.
    pub(crate) fn parse(value: &str) -> Option<RootName> {
        match value.strip_prefix("PARTLABEL=") {
            Some(label) => Some(RootName::PartitionLabel(label.to_owned())),
            None => value.starts_with("/dev/").then(|| RootName::Device(value.to_owned())),
        }
    }
}

impl fmt::Display for RootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RootName::PartitionLabel(label) => write!(f, "a partition named {label}"),
            RootName::Device(device) => f.write_str(device),
        }
    }
}

/// All block devices there are, in the order of their names.
pub(crate) fn blocks() -> Vec<Block> {
    blocks_in(Path::new(BLOCKS))
}

fn blocks_in(folder: &Path) -> Vec<Block> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<Block> = entries.filter_map(|entry| block(&entry.path())).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn block(folder: &Path) -> Option<Block> {
    let uevent = fs::read_to_string(folder.join("uevent")).ok()?;
    let value = |key: &str| {
        uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
    };
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let name = folder.file_name()?.to_str()?.to_owned();
    // Entries are links into the device tree, where a partition lies in its disk's folder.
    let disk = folder.join("partition").exists().then(|| {
        let real = folder.canonicalize().ok()?;
        Some(real.parent()?.file_name()?.to_str()?.to_owned())
    });
    Some(Block {
        device: format!("/dev/{}", value("DEVNAME")?),
        label: value("PARTNAME"),
        disk: disk.flatten(),
        bytes: text("size")?.trim().parse::<u64>().ok()?.checked_mul(512)?,
        read_only: text("ro").is_some_and(|text| text.trim() == "1"),
        name,
    })
}

/// The root, when it is there.
pub(crate) fn root(name: &RootName) -> Option<Block> {
    blocks().into_iter().find(|block| match name {
        RootName::PartitionLabel(label) => block.label.as_ref() == Some(label),
        RootName::Device(device) => block.device == *device,
    })
}

/// The disk with kernel modules, known by its file system's label.
pub(crate) fn modules_disk() -> Option<Block> {
    blocks().into_iter().filter(Block::is_disk).find(|block| {
        let mut superblock = [0; 1024];
        let read = File::open(&block.device).and_then(|f| f.read_exact_at(&mut superblock, 1024));
        read.is_ok() && volume_label(&superblock).as_deref() == Some(MODULES_LABEL)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn disks_and_partitions_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (class, disk) = (folder.path().join("class"), folder.path().join("devices/vda"));
        fs::create_dir_all(disk.join("vda1")).unwrap();
        fs::create_dir(&class).unwrap();
        let write = |path: &Path, files: &[(&str, &str)]| {
            for (name, text) in files {
                fs::write(path.join(name), text).unwrap();
            }
        };
        write(&disk, &[("uevent", "DEVNAME=vda\n"), ("size", "4096\n"), ("ro", "0\n")]);
        let part = [("uevent", "DEVNAME=vda1\nPARTNAME=r\n"), ("size", "8\n"), ("partition", "1")];
        write(&disk.join("vda1"), &part);
        symlink(&disk, class.join("vda")).unwrap();
        symlink(disk.join("vda1"), class.join("vda1")).unwrap();
        let found = blocks_in(&class);
        assert!(found[0].is_disk() && found[0].bytes == 2 << 20 && !found[0].read_only);
        assert_eq!(found[1].disk.as_deref(), Some("vda"));
        assert_eq!((found[1].label.as_deref(), found[1].device.as_str()), (Some("r"), "/dev/vda1"));
        assert!(!Block { name: "loop0".into(), bytes: 1, ..Block::default() }.is_disk());
    }

    #[test]
    fn a_root_is_named_by_label_or_node() {
        let label = RootName::PartitionLabel("x".into());
        assert_eq!(RootName::parse("PARTLABEL=x"), Some(label));
        assert_eq!(RootName::parse("/dev/vda1"), Some(RootName::Device("/dev/vda1".into())));
        assert_eq!(RootName::parse("UUID=1"), None);
    }
}
