//! Writing below a root. Every path means what it would mean inside: a link in it never leads out.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
};
use rustix::io::Errno;

use super::Stop;

/// Written at a time: each call costs, above all in a paravirtual machine.
const CHUNK: usize = 256 << 10;

/// The root.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

/// Owner, permissions and time of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) mode: u32,
    /// Seconds of Unix time.
    pub(super) modified: i64,
}

const THERE: Stop = Stop::ForDpkg("something is in its place");

impl Root {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(CWD, root, flags, Mode::empty())?))
    }

    fn open_inside(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let path = if path.is_empty() { b"." } else { path };
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.0, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// The folder that a path is in, and its name there.
    fn parent<'p>(&self, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8]), Stop> {
        let at = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let (folder, name) = (&path[..at], &path[(at + 1).min(path.len())..]);
        match self.open_inside(folder, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(folder) => Ok((folder, name)),
            Err(Errno::NOENT) => Err(Stop::ForDpkg("a folder of it is missing")),
            Err(error) => Err(Stop::Failed(error.into())),
        }
    }

    /// A file's content; of one that is missing, none.
    pub(super) fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        match self.open_inside(path.as_bytes(), OFlags::RDONLY) {
            Ok(file) => {
                let mut bytes = Vec::new();
                File::from(file).read_to_end(&mut bytes)?;
                Ok(bytes)
            }
            Err(Errno::NOENT) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Names in a folder, sorted; of one that is missing, none.
    pub(super) fn names(&self, path: &str) -> io::Result<Vec<String>> {
        let folder = match self.open_inside(path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// A new folder; one that is there, also behind a link, stays as it is. Whether it is new.
    pub(super) fn folder(&self, path: &[u8], attributes: &Attributes) -> Result<bool, Stop> {
        if path == b"/" {
            return Ok(false);
        }
        let (folder, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(&folder, name, flags, Mode::empty());
                give(&made.map_err(io::Error::from)?, attributes)?;
                Ok(true)
            }
            Err(Errno::EXIST) => match self.open_inside(path, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) => Ok(false),
                Err(_) => Err(THERE),
            },
            Err(error) => Err(Stop::Failed(error.into())),
        }
    }

    /// Gives a folder that is there another owner and other permissions.
    pub(super) fn give_folder(&self, path: &[u8], attributes: &Attributes) -> io::Result<()> {
        let folder = self.open_inside(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        give(&folder, attributes)
    }

    /// A new file.
    pub(super) fn file(
        &self,
        path: &[u8],
        content: &mut impl Read,
        attributes: &Attributes,
    ) -> Result<(), Stop> {
        let (folder, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => file,
            Err(Errno::EXIST) => return Err(THERE),
            Err(error) => return Err(Stop::Failed(error.into())),
        };
        let mut file = File::from(file);
        pour(content, &mut file)?;
        give(&file, attributes)?;
        rustix::fs::futimens(&file, &times(attributes)).map_err(io::Error::from)?;
        Ok(())
    }

    /// A new symbolic link.
    pub(super) fn symlink(
        &self,
        path: &[u8],
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<(), Stop> {
        let (folder, name) = self.parent(path)?;
        match rustix::fs::symlinkat(target, &folder, name) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(THERE),
            Err(error) => return Err(Stop::Failed(error.into())),
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let (user, group) = owner(attributes);
        rustix::fs::chownat(&folder, name, user, group, flags)
            .and_then(|()| rustix::fs::utimensat(&folder, name, &times(attributes), flags))
            .map_err(|error| Stop::Failed(error.into()))
    }

    /// Another name of a file of the same package.
    pub(super) fn link(&self, path: &[u8], target: &[u8]) -> Result<(), Stop> {
        let (folder, name) = self.parent(path)?;
        let (from, old) = self.parent(target)?;
        match rustix::fs::linkat(&from, old, &folder, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(THERE),
            Err(Errno::NOENT) => Err(Stop::ForDpkg("a link to what is left out")),
            Err(error) => Err(Stop::Failed(error.into())),
        }
    }

    /// Writes a file of the database, owned by root, new or anew.
    pub(super) fn replace(&self, path: &str, mode: u32, content: &[u8]) -> io::Result<File> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.open_inside(folder.as_bytes(), OFlags::PATH | OFlags::DIRECTORY)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, name, flags | OFlags::NOFOLLOW, Mode::from(0o600))?;
        let mut file = File::from(file);
        file.write_all(content)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(file)
    }

    /// Makes a folder of the database when it is missing.
    pub(super) fn ensure_folder(&self, path: &str) -> io::Result<()> {
        let attributes = Attributes { user: 0, group: 0, mode: 0o755, modified: 0 };
        match self.folder(path.as_bytes(), &attributes) {
            Ok(_) => Ok(()),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::ForDpkg(why)) => Err(io::Error::other(format!("{path}: {why}"))),
        }
    }
}

fn pour(content: &mut impl Read, file: &mut File) -> io::Result<()> {
    let mut chunk = Vec::new();
    loop {
        chunk.clear();
        if content.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)? == 0 {
            return Ok(());
        }
        file.write_all(&chunk)?;
    }
}

fn owner(attributes: &Attributes) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(attributes.user)), Some(Gid::from_raw(attributes.group)))
}

/// The mode after the owner, whose change would take set-user-id away.
fn give(file: impl std::os::fd::AsFd, attributes: &Attributes) -> io::Result<()> {
    let (user, group) = owner(attributes);
    rustix::fs::fchown(&file, user, group)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(attributes.mode))?;
    Ok(())
}

fn times(attributes: &Attributes) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: attributes.modified, tv_nsec: 0 },
    }
}
