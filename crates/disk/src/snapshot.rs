//! A copy of a whole disk beside it: its earlier state, to go back to.

use std::fs::File;
use std::path::Path;

use crate::clone::Clone;
use crate::error::io;
use crate::layout::ALIGNMENT;
use crate::temporary::Temporary;
use crate::{DiskError, Method, check_space};

/// A copy that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bytes that were copied or shared, holes not counted.
    pub bytes: u64,
    /// How.
    pub method: Method,
}

/// Copies the disk, its holes staying holes: shared blocks where the file system can. Either the whole copy (mode
/// 0600, of the caller's user) is there in the end, on stable storage, or nothing is. `progress` hears of bytes done
/// and bytes to do. No machine may run on the disk.
///
/// # Errors
/// When the target exists, there is no room, or the host cannot read or write.
pub fn copy(
    disk: &Path,
    target: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Copied, DiskError> {
    if target.symlink_metadata().is_ok() {
        return Err(DiskError::Exists { path: target.to_owned() });
    }
    let source = File::open(disk).map_err(io("open", disk))?;
    // What the machine's last writes left in memory is part of its state.
    source.sync_all().map_err(io("write to stable storage", disk))?;
    let length = source.metadata().map_err(io("ask for the size of", disk))?.len();
    let temporary = Temporary::beside(target)?;
    temporary.file().set_len(length).map_err(io("set the size of", target))?;
    let clone = Clone { image: &source, length, disk: temporary.file(), offset: 0 };
    let used = clone.used().map_err(io("look for used blocks in", disk))?;
    let bytes = used.iter().map(|range| range.end - range.start).sum();
    progress(0, bytes);
    let method = if clone.share() {
        Method::Reflink
    } else {
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        check_space(folder.unwrap_or(Path::new(".")), bytes + ALIGNMENT)?;
        clone.copy(&used, &mut |done| progress(done, bytes)).map_err(io("copy", disk))?
    };
    progress(bytes, bytes);
    temporary.publish()?;
    Ok(Copied { bytes, method })
}
