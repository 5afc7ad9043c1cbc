//! Files under final names: written whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::DepotError;

/// Makes temporary names of this process differ.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A name that no other file has: process and count.
pub(crate) fn unique() -> String {
    format!("{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Writes a file: beside, to disk, then renamed.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), DepotError> {
    let new = path.with_extension(format!("new-{}", unique()));
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&new, path)
    };
    write().map_err(DepotError::io("write", path))
}

/// Makes a folder with its parents.
pub(crate) fn make_dir(path: &Path) -> Result<(), DepotError> {
    fs::create_dir_all(path).map_err(DepotError::io("make", path))
}

/// Writes everything of the file system that holds `path` to disk.
pub(crate) fn sync_all(path: &Path) -> Result<(), DepotError> {
    let file = File::open(path).map_err(DepotError::io("open", path))?;
    rustix::fs::syncfs(file.as_fd()).map_err(DepotError::io("write to disk", path))
}

/// Refuses when `needed` bytes would not fit.
pub(crate) fn need_space(path: &Path, action: &'static str, needed: u64) -> Result<(), DepotError> {
    let stat = rustix::fs::statvfs(path).map_err(DepotError::io("look at", path))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free >= needed {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(DepotError::Space { action, path: path.to_owned(), needed: mib(needed), free: mib(free) })
}
