//! Where unfinished trees lie: in memory when there is plenty, else in the depot.
//!
//! Trees under construction are tens of thousands of small files that are soon thrown
//! away. In memory they cost no disk traffic, which on a busy host takes longer than
//! all the rest of a build.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statfs, statvfs};

use crate::hash;

/// The host's memory file system.
const MEMORY: &str = "/dev/shm";

/// `f_type` of tmpfs.
const TMPFS: i64 = 0x0102_1994;

/// Memory that must be available, in KiB, and file space there, in bytes: several
/// times what a build of usual roles takes (1.5 GiB), so that nobody is squeezed out.
const AVAILABLE_KIB: u64 = 8 << 20;
const FREE: u64 = 4 << 30;

/// The places where a run for the depot `dir` may have left something.
pub(crate) fn places(dir: &Path, kind: &str) -> [PathBuf; 2] {
    let key = hash::of_bytes(dir.as_os_str().as_encoded_bytes());
    [dir.join("temp").join(kind), Path::new(MEMORY).join(format!("gridgate-{kind}-{}", &key[..16]))]
}

/// Whether memory may be used.
pub(crate) fn memory_is_plenty() -> bool {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    let (Ok(kind), Ok(space)) = (statfs(MEMORY), statvfs(MEMORY)) else { return false };
    available.unwrap_or(0) >= AVAILABLE_KIB
        && kind.f_type == TMPFS
        && !space.f_flag.intersects(StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOEXEC)
        && space.f_bavail.saturating_mul(space.f_frsize) >= FREE
}

/// Makes a folder of our own; fails when somebody has made one of this name.
pub(crate) fn make_private(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// Whether something of this name is a folder that we made.
pub(crate) fn is_ours(path: &Path) -> bool {
    let owner = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == owner)
}
