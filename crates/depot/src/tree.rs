//! Copies root trees with everything that belongs to them: owners, modes, times,
//! hard links, extended attributes, links and special files. Data is shared with the
//! original where the file system can.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, lgetxattr,
    llistxattr, lsetxattr, mknodat, utimensat,
};

use crate::error::DepotError;

/// Copies the tree `source` to `target`, which must not exist.
pub(crate) fn copy(source: &Path, target: &Path) -> Result<(), DepotError> {
    let mut copier = Copier { linked: HashMap::new() };
    copier.folder(source, target)
}

struct Copier {
    /// First copies of files that have several names.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Copier {
    fn folder(&mut self, source: &Path, target: &Path) -> Result<(), DepotError> {
        let fail = || DepotError::io::<io::Error>("copy", source);
        let meta = fs::symlink_metadata(source).map_err(fail())?;
        fs::create_dir(target).map_err(DepotError::io("make", target))?;
        for entry in fs::read_dir(source).map_err(fail())? {
            let entry = entry.map_err(fail())?;
            let (from, to) = (entry.path(), target.join(entry.file_name()));
            if entry.file_type().map_err(fail())?.is_dir() {
                self.folder(&from, &to)?;
            } else {
                self.other(&from, &to).map_err(DepotError::io("copy", &from))?;
            }
        }
        attributes(source, target, &meta).map_err(fail())
    }

    fn other(&mut self, source: &Path, target: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(source)?;
        let kind = meta.file_type();
        if meta.nlink() > 1 {
            if let Some(first) = self.linked.get(&(meta.dev(), meta.ino())) {
                return fs::hard_link(first, target);
            }
            self.linked.insert((meta.dev(), meta.ino()), target.to_owned());
        }
        if kind.is_symlink() {
            symlink(fs::read_link(source)?, target)?;
        } else if kind.is_file() {
            fs::copy(source, target)?;
        } else {
            let special = match () {
                () if kind.is_fifo() => FileType::Fifo,
                () if kind.is_socket() => FileType::Socket,
                () if kind.is_char_device() => FileType::CharacterDevice,
                () => FileType::BlockDevice,
            };
            mknodat(CWD, target, special, Mode::from_raw_mode(meta.mode() & 0o7777), meta.rdev())?;
        }
        attributes(source, target, &meta)
    }
}

/// Owner first: changing it clears the set-id bits and capabilities.
fn attributes(source: &Path, target: &Path, meta: &Metadata) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    chownat(CWD, target, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    if !meta.is_symlink() {
        fs::set_permissions(target, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
        extended(source, target)?;
    }
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    Ok(utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn extended(source: &Path, target: &Path) -> io::Result<()> {
    let mut names = [0_u8; 4096];
    let count = match llistxattr(source, &mut names[..]) {
        Ok(count) => count,
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names[..count].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name);
        let mut value = vec![0; 64 << 10];
        let size = lgetxattr(source, name, &mut value[..])?;
        lsetxattr(target, name, &value[..size], XattrFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
