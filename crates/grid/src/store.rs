//! A private folder whose files are whole or absent, whatever gets killed when.
//!
//! A file is written under another name, synced, renamed, and the folder synced.
//! The other name is always the same one, and writers hold the folder's lock, so
//! that what a killed writer leaves behind is overwritten by the next. Nothing
//! here knows what the files mean.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

/// Why a file of a private folder could not be read or written.
#[derive(Debug, Error)]
#[error("cannot {action} {path}: {source}", path = path.display())]
pub struct StoreError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Mode 0600.
    Owner,
    /// Mode 0644.
    Everybody,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Access::Owner => 0o600,
            Access::Everybody => 0o644,
        }
    }
}

/// A folder of mode 0700.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    path: PathBuf,
}

/// The folder's lock; released when dropped, or when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _dir: File,
}

impl PrivateDir {
    /// Opens the folder, making it and its parents where they are missing.
    pub(crate) fn open(path: &Path) -> Result<PrivateDir, StoreError> {
        let fault = |source| StoreError { action: "make the folder", path: path.into(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fault)?;
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(fault)?;
        Ok(PrivateDir { path: path.into() })
    }

    /// Waits for the folder's lock. Writers must hold it.
    pub(crate) fn lock(&self) -> Result<Lock, StoreError> {
        let fault = |source| StoreError { action: "lock", path: self.path.clone(), source };
        let dir = File::open(&self.path).map_err(fault)?;
        flock(&dir, FlockOperation::LockExclusive).map_err(|error| fault(error.into()))?;
        Ok(Lock { _dir: dir })
    }

    /// Path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file's content; none when there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.file(name);
        match fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError { action: "read", path, source }),
        }
    }

    /// Takes others' permissions away from a file that may have been copied in.
    pub(crate) fn tighten(&self, name: &str) -> Result<(), StoreError> {
        let path = self.file(name);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(|source| StoreError {
            action: "make private",
            path,
            source,
        })
    }

    /// Puts a file in place, whole. The lock proves that nobody else is at it.
    pub(crate) fn write(
        &self,
        _lock: &Lock,
        name: &str,
        content: &[u8],
        access: Access,
    ) -> Result<(), StoreError> {
        let path = self.file(name);
        let new = self.file(&format!(".{name}.new"));
        let fault = |source| StoreError { action: "write", path: path.clone(), source };
        let put = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(access.mode())
                .open(&new)?;
            // The mode above is subject to the umask, and to a leftover's own.
            file.set_permissions(Permissions::from_mode(access.mode()))?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        put().map_err(fault)
    }

    /// Adds one line to a file and syncs it. A line that a killed writer left
    /// unfinished is ended first, so that it cannot swallow this one.
    pub(crate) fn append_line(
        &self,
        _lock: &Lock,
        name: &str,
        line: &str,
    ) -> Result<(), StoreError> {
        let path = self.file(name);
        let put = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
            let mut text = String::with_capacity(line.len() + 2);
            if file.metadata()?.len() > 0 {
                let mut last = [0u8];
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
                if last != *b"\n" {
                    text.push('\n');
                }
            }
            text.push_str(line);
            text.push('\n');
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        put().map_err(|source| StoreError { action: "append to", path: path.clone(), source })
    }
}

/// Bytes from the kernel's random number generator.
pub(crate) fn random_bytes(count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0u8; count];
    let mut filled = 0;
    while filled < count {
        // Large requests may be cut short by a signal.
        let got =
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        match got {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}
