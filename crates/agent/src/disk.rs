//! The node's own disk, as far as the agent minds it: an empty data partition
//! (`gridgate-data-…`) gets a file system, and the root's grows to fill its
//! partition. It never touches a partition that holds anything.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::ext4_resize::resize;
use crate::process::Call;
use crate::system::System;

/// Partitions that are the agent's to format.
const DATA_PREFIX: &str = "gridgate-data-";

/// Free space at the end of a partition that is not worth growing for, bytes.
const WORTH_GROWING: u64 = 4 * 1024 * 1024;

/// How much of a partition must be zero for it to count as empty: more than any
/// common file system or volume manager leaves before its first mark.
const EMPTY: usize = 1024 * 1024;

const FORMAT_LIMIT: Duration = Duration::from_secs(120);

/// A partition or disk as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    device: String,
    label: Option<String>,
    bytes: u64,
}

/// Formats what is empty now and grows the root in the background.
pub(crate) fn prepare(system: &dyn System) {
    for block in blocks(Path::new("/sys/class/block")) {
        let Some(name) = block.label.as_deref().and_then(|label| label.strip_prefix(DATA_PREFIX))
        else {
            continue;
        };
        match is_empty(&block.device) {
            Ok(true) => format(system, &block, name),
            Ok(false) => {}
            Err(error) => tracing::warn!(device = block.device, %error, "cannot read a partition"),
        }
    }
    thread::spawn(grow_root);
}

fn format(system: &dyn System, block: &Block, name: &str) {
    // ext4 labels have at most 16 bytes; the name is cut, the label is only for people.
    let label: String = name.chars().filter(char::is_ascii).take(16).collect();
    let command = ["mkfs.ext4", "-q", "-m", "0", "-L", &label, &block.device];
    match system.run(&Call::new(&command, FORMAT_LIMIT)) {
        Ok(done) if done.ok() => tracing::info!(device = block.device, "made a file system"),
        outcome => tracing::error!(device = block.device, ?outcome, "cannot make a file system"),
    }
}

fn grow_root() {
    let Some((root, size)) = root_block().and_then(|root| Some((root.clone(), ext4_size(&root)?)))
    else {
        return;
    };
    if root.bytes <= size.bytes() + WORTH_GROWING {
        return;
    }
    let grown = File::open("/").and_then(|open| resize(&open, root.bytes / size.block));
    match grown {
        Ok(()) => tracing::info!(
            device = root.device,
            from = size.bytes(),
            to = root.bytes,
            "grew the root"
        ),
        Err(error) => tracing::error!(device = root.device, %error, "cannot grow the root"),
    }
}

/// All block devices with their partition labels.
fn blocks(folder: &Path) -> Vec<Block> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|entry| block(&entry.path())).collect()
}

fn block(folder: &Path) -> Option<Block> {
    let uevent = fs::read_to_string(folder.join("uevent")).ok()?;
    let value = |key: &str| {
        uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
    };
    let sectors: u64 = fs::read_to_string(folder.join("size")).ok()?.trim().parse().ok()?;
    Some(Block {
        device: format!("/dev/{}", value("DEVNAME")?),
        label: value("PARTNAME"),
        bytes: sectors * 512,
    })
}

/// The device of `/`. mountinfo's source may be the useless `/dev/root`, the
/// device number is always right.
fn root_block() -> Option<Block> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let number = root_number(&mounts)?;
    block(&Path::new("/sys/dev/block").join(number))
}

fn root_number(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let number = fields.nth(2)?;
        (fields.nth(1)? == "/").then_some(number)
    })
}

/// Size of an ext4 file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    blocks: u64,
    block: u64,
}

impl Size {
    fn bytes(self) -> u64 {
        self.blocks.saturating_mul(self.block)
    }
}

fn ext4_size(block: &Block) -> Option<Size> {
    let mut superblock = [0u8; 1024];
    let read = File::open(&block.device).and_then(|file| file.read_exact_at(&mut superblock, 1024));
    if let Err(error) = read {
        tracing::warn!(device = block.device, %error, "cannot read the root's superblock");
        return None;
    }
    parse_size(&superblock)
}

/// Size of the file system whose superblock this is, after the kernel's
/// Documentation/filesystems/ext4/super.rst.
fn parse_size(superblock: &[u8; 1024]) -> Option<Size> {
    let word = |at: usize| {
        u64::from(u32::from_le_bytes([
            superblock[at],
            superblock[at + 1],
            superblock[at + 2],
            superblock[at + 3],
        ]))
    };
    if superblock[0x38..0x3a] != [0x53, 0xef] {
        return None;
    }
    const INCOMPAT_64BIT: u64 = 0x80;
    let high = if word(0x60) & INCOMPAT_64BIT != 0 { word(0x150) } else { 0 };
    let exponent = u32::try_from(word(0x18)).ok().filter(|exponent| *exponent <= 6)?;
    Some(Size { blocks: word(0x4) | high << 32, block: 1024 << exponent })
}

fn is_empty(device: &str) -> io::Result<bool> {
    let mut buffer = vec![0u8; 64 * 1024];
    let mut file = File::open(device)?;
    let mut seen = 0;
    while seen < EMPTY {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        if buffer[..read].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        seen += read;
    }
    Ok(seen > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_read_from_their_uevents() {
        let folder = tempfile::tempdir().unwrap();
        let one = folder.path().join("ubda2");
        fs::create_dir(&one).unwrap();
        fs::write(
            one.join("uevent"),
            "MAJOR=98\nDEVNAME=ubda2\nPARTN=2\nPARTNAME=gridgate-data-x\n",
        )
        .unwrap();
        fs::write(one.join("size"), "2048\n").unwrap();
        let found = blocks(folder.path());
        let label = Some("gridgate-data-x".to_owned());
        assert_eq!(found, [Block { device: "/dev/ubda2".into(), label, bytes: 1024 * 1024 }]);
    }

    #[test]
    fn the_root_is_found_by_its_mount_point() {
        let mounts = "22 1 98:1 / / rw - ext4 /dev/root rw\n23 22 0:5 / /dev rw - devtmpfs x rw\n";
        assert_eq!(root_number(mounts), Some("98:1"));
        assert_eq!(root_number("23 22 0:5 / /dev rw - devtmpfs x rw\n"), None);
    }

    #[test]
    fn only_zeroes_are_empty() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert!(!is_empty(path).unwrap());
        file.as_file().set_len(2 * 1024 * 1024).unwrap();
        assert!(is_empty(path).unwrap());
        file.as_file().write_at(b"x", 600_000).unwrap();
        assert!(!is_empty(path).unwrap());
    }

    #[test]
    fn a_file_systems_size_is_read_from_its_superblock() {
        let mut superblock = [0u8; 1024];
        assert_eq!(parse_size(&superblock), None);
        superblock[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        superblock[4..8].copy_from_slice(&1000u32.to_le_bytes());
        superblock[0x18] = 2;
        assert_eq!(parse_size(&superblock), Some(Size { blocks: 1000, block: 4096 }));
        superblock[0x18] = 200;
        assert_eq!(parse_size(&superblock), None);
    }
}
