//! A file that has no name until it is complete.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open, unlink};
use rustix::io::Errno;

use crate::DiskError;
use crate::error::io;

/// A file to be; gone without a trace unless [`Temporary::publish`] is called.
pub(crate) struct Temporary {
    file: File,
    target: PathBuf,
    folder: PathBuf,
    /// Its name, where the file system has no nameless files.
    named: Option<PathBuf>,
}

impl Temporary {
    /// Opens a new file, mode 0600, that can become `target`.
    pub(crate) fn beside(target: &Path) -> Result<Self, DiskError> {
        let folder = match target.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => Path::new("/"),
        };
        let (file, named) = match open_nameless(folder) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => open_named(target).map(|(f, n)| (f, Some(n))),
            other => other.map(|file| (file, None)),
        }
        .map_err(io("make a file in", folder))?;
        Ok(Self { file, target: target.to_owned(), folder: folder.to_owned(), named })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Puts the file on stable storage and gives it its name, unless something has it.
    pub(crate) fn publish(self) -> Result<(), DiskError> {
        self.file.sync_all().map_err(io("write to stable storage", &self.target))?;
        let source = match &self.named {
            Some(path) => path.clone(),
            None => PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd())),
        };
        match linkat(CWD, &source, CWD, &self.target, AtFlags::SYMLINK_FOLLOW) {
            Err(Errno::EXIST) => return Err(DiskError::Exists { path: self.target.clone() }),
            other => other.map_err(io("give its name to", &self.target))?,
        }
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io("write to stable storage", &self.folder))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.named
            && let Err(error) = unlink(path)
        {
            tracing::warn!(path = %path.display(), %error, "temporary file stays behind");
        }
    }
}

fn open_nameless(folder: &Path) -> Result<File, Errno> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    open(folder, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

fn open_named(target: &Path) -> Result<(File, PathBuf), Errno> {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().ok_or(Errno::INVAL)?);
    name.push(format!(".{}.tmp", std::process::id()));
    let path = target.with_file_name(name);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let file = open(&path, flags, Mode::RUSR | Mode::WUSR)?;
    Ok((File::from(file), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_temporary_name_leaves_none_behind() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let target = folder.path().join("disk.img");
        let (file, named) = open_named(&target)?;
        let temporary = Temporary {
            file,
            target: target.clone(),
            folder: folder.path().to_owned(),
            named: Some(named),
        };
        temporary.publish().expect("the name is free");
        let names: Vec<_> = std::fs::read_dir(folder.path())?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()?;
        assert_eq!(names, ["disk.img"]);
        Ok(())
    }
}
