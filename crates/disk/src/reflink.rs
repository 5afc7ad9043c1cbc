//! The one ioctl of this crate: sharing a range of blocks between two files.

use std::fs::File;
use std::os::fd::AsRawFd;

use rustix::io::Errno;
use rustix::ioctl::{Setter, ioctl, opcode};

/// `struct file_clone_range` of `linux/fs.h`.
#[repr(C)]
struct FileCloneRange {
    source: i64,
    source_offset: u64,
    /// 0 for all up to the source's end.
    length: u64,
    target_offset: u64,
}

const FICLONERANGE: u32 = opcode::write::<FileCloneRange>(0x94, 13);

/// Makes `target`, from `target_offset`, share all of `source`'s blocks and holes.
pub(crate) fn share(source: &File, target: &File, target_offset: u64) -> Result<(), Errno> {
    let range = FileCloneRange {
        source: i64::from(source.as_raw_fd()),
        source_offset: 0,
        length: 0,
        target_offset,
    };
    // SAFETY: FICLONERANGE reads one `struct file_clone_range`, which `FileCloneRange` is;
    // both descriptors live through the call and no memory is written.
    unsafe { ioctl(target, Setter::<FICLONERANGE, _>::new(range)) }
}
