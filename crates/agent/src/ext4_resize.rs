//! Growing a mounted ext4 file system: one request to the kernel, which is all
//! that resize2fs(8) does for it in the end. So the image needs no e2fsprogs.
//! And what its superblock says, after the kernel's Documentation/filesystems/ext4/super.rst.

use std::fs::File;
use std::io;

use rustix::ioctl::{Setter, ioctl, opcode};

/// `EXT4_IOC_RESIZE_FS` of the kernel's fs/ext4/ext4.h: `_IOW('f', 16, __u64)`.
const RESIZE_FS: rustix::ioctl::Opcode = opcode::write::<u64>(b'f', 16);

/// Grows the file system in which `mounted` lies to `blocks` of its blocks.
pub(crate) fn resize(mounted: &File, blocks: u64) -> io::Result<()> {
    // SAFETY: the request reads one u64 through its pointer and writes nothing;
    // the setter holds the u64 for the time of the call. Another file system
    // than ext4 answers ENOTTY.
    unsafe { Ok(ioctl(mounted, Setter::<RESIZE_FS, u64>::new(blocks))?) }
}

/// Where the volume's label stands in a superblock, and its length.
const LABEL: std::ops::Range<usize> = 0x78..0x88;

/// The label of the file system whose superblock this is; none when it is another kind.
pub(crate) fn volume_label(superblock: &[u8; 1024]) -> Option<String> {
    if superblock[0x38..0x3a] != [0x53, 0xef] {
        return None;
    }
    let label = superblock[LABEL].split(|byte| *byte == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(label).into_owned())
}
