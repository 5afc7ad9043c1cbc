//! Room on the host.

use std::path::Path;

use crate::DiskError;
use crate::error::io;

/// Faults unless the file system of `dir` has `needed` bytes free for this user.
pub fn check_space(dir: &Path, needed: u64) -> Result<(), DiskError> {
    let stat = rustix::fs::statvfs(dir).map_err(io("ask for the free space of", dir))?;
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    if available < needed {
        return Err(DiskError::NoSpace { dir: dir.to_owned(), needed, available });
    }
    Ok(())
}
