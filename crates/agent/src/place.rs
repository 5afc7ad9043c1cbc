//! Reaching files below the node's root safely.
//!
//! The agent is root and writes into folders of ordinary users, who could put a
//! symbolic link where the agent expects a folder. So a path is walked part by
//! part, and a link on the way is followed only when root (or the agent's own
//! user) made it. Everything is then done relative to the open parent folder.
//! A file is never half written: new content is renamed over the old.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self as rfs, AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

/// Links followed on one path before it counts as a loop (as in the kernel).
const MAX_LINKS: u32 = 40;

/// Name under which new content is written before it is renamed.
const NEW_NAME: &str = ".gridgate.new";

/// Why a path cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("{0:?} is not an absolute path without `..`")]
    NotAbsolute(String),
    #[error("{path}: passes through the symbolic link {link:?}, which belongs to uid {owner}")]
    ForeignLink { path: String, link: OsString, owner: u32 },
    #[error("{path}: too many symbolic links")]
    Loop { path: String },
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path}: exists and is not a {wanted}")]
    WrongKind { path: String, wanted: &'static str },
    #[error("{path}: larger than {limit} bytes")]
    TooLarge { path: String, limit: u64 },
}

/// Owner and mode of something in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// Owner's id.
    pub uid: u32,
    /// Group's id.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// What to do when a folder on the way is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parents {
    /// Make it, 0755 and the agent's own.
    Make,
    /// That is an error.
    MustExist,
}

/// Whether a tree may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hands {
    Free,
    /// Every change is left out and reported as done: what would be done is seen, nothing happens.
    Tied,
}

/// The file tree that the agent keeps.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    hands: Hands,
}

/// A name in an open folder of the tree.
#[derive(Debug)]
pub(crate) struct Place {
    directory: OwnedFd,
    name: OsString,
    path: String,
    hands: Hands,
}

impl Tree {
    /// The tree below `root`.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), hands: Hands::Free }
    }

    /// The same tree, only to be looked at: nothing done through it changes anything.
    pub(crate) fn to_look_at(&self) -> Self {
        Self { root: self.root.clone(), hands: Hands::Tied }
    }

    /// Where an absolute path lies on this machine, for programs and for reads
    /// of files that only root can write.
    pub(crate) fn host_path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Opens the folder that holds `path`.
    pub(crate) fn place(&self, path: &str, parents: Parents) -> Result<Place, PlaceError> {
        let mut parts = VecDeque::new();
        push_parts(&mut parts, Path::new(path))
            .filter(|()| path.starts_with('/'))
            .ok_or_else(|| PlaceError::NotAbsolute(path.to_owned()))?;
        let name = parts.pop_back().ok_or_else(|| PlaceError::NotAbsolute(path.to_owned()))?;
        let directory = self.walk(path, parts, parents)?;
        Ok(Place { directory, name, path: path.to_owned(), hands: self.hands })
    }

    fn walk(
        &self,
        path: &str,
        mut parts: VecDeque<OsString>,
        parents: Parents,
    ) -> Result<OwnedFd, PlaceError> {
        let failed =
            |source: Errno| PlaceError::Io { path: path.to_owned(), source: source.into() };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rfs::open(&self.root, flags, Mode::empty()).map_err(failed)?;
        let mut open: Vec<OwnedFd> = vec![root];
        let mut links = 0;
        while let Some(part) = parts.pop_front() {
            if part == ".." {
                // Only a trusted link's target can hold it; the root is its own parent.
                if open.len() > 1 {
                    open.pop();
                }
                continue;
            }
            let here = &open[open.len() - 1];
            match rfs::openat(here, &part, flags | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(next) => open.push(next),
                Err(Errno::NOENT) if parents == Parents::Make && self.hands == Hands::Free => {
                    rfs::mkdirat(here, &part, Mode::from_raw_mode(0o755)).map_err(failed)?;
                    rfs::chmodat(here, &part, Mode::from_raw_mode(0o755), AtFlags::empty())
                        .map_err(failed)?;
                    parts.push_front(part);
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(PlaceError::Loop { path: path.to_owned() });
                    }
                    let target = trusted_target(path, here, &part)?;
                    if target.is_absolute() {
                        open.truncate(1);
                    }
                    let mut rest = std::mem::take(&mut parts);
                    for piece in target.components() {
                        match piece {
                            Component::Normal(name) => parts.push_back(name.to_owned()),
                            Component::ParentDir => parts.push_back("..".into()),
                            _ => {}
                        }
                    }
                    parts.append(&mut rest);
                }
                Err(source) => return Err(failed(source)),
            }
        }
        // The root is always there, so there is a last one.
        Ok(open.swap_remove(open.len() - 1))
    }
}

/// Target of the link `part`, when the agent may follow it.
fn trusted_target(path: &str, here: &OwnedFd, part: &OsStr) -> Result<PathBuf, PlaceError> {
    let failed = |source: Errno| PlaceError::Io { path: path.to_owned(), source: source.into() };
    let stat = rfs::statat(here, part, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Err(PlaceError::WrongKind { path: path.to_owned(), wanted: "directory" });
    }
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(PlaceError::ForeignLink {
            path: path.to_owned(),
            link: part.to_owned(),
            owner: stat.st_uid,
        });
    }
    let target = rfs::readlinkat(here, part, Vec::new()).map_err(failed)?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// Appends the parts of `path`; none when it holds `..`.
fn push_parts(parts: &mut VecDeque<OsString>, path: &Path) -> Option<()> {
    for piece in path.components() {
        match piece {
            Component::Normal(name) => parts.push_back(name.to_owned()),
            Component::ParentDir => return None,
            _ => {}
        }
    }
    Some(())
}

impl Place {
    fn failed(&self, source: impl Into<io::Error>) -> PlaceError {
        PlaceError::Io { path: self.path.clone(), source: source.into() }
    }

    /// What is there, links not followed.
    pub(crate) fn stat(&self) -> Result<Option<Stat>, PlaceError> {
        match rfs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Kind of what is there.
    pub(crate) fn kind(&self) -> Result<Option<FileType>, PlaceError> {
        Ok(self.stat()?.map(|stat| FileType::from_raw_mode(stat.st_mode)))
    }

    /// Content of the regular file there; none when there is nothing or something else.
    pub(crate) fn read(&self, limit: u64) -> Result<Option<Vec<u8>>, PlaceError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if self.kind()? != Some(FileType::RegularFile) {
            return Ok(None);
        }
        let file = rfs::openat(&self.directory, &self.name, flags, Mode::empty())
            .map_err(|source| self.failed(source))?;
        let mut content = Vec::new();
        std::fs::File::from(file)
            .take(limit + 1)
            .read_to_end(&mut content)
            .map_err(|source| self.failed(source))?;
        if content.len() as u64 > limit {
            return Err(PlaceError::TooLarge { path: self.path.clone(), limit });
        }
        Ok(Some(content))
    }

    /// Whether owner and mode are these.
    pub(crate) fn has_access(&self, access: Access) -> Result<bool, PlaceError> {
        Ok(self.stat()?.is_some_and(|stat| {
            stat.st_uid == access.uid
                && stat.st_gid == access.gid
                && stat.st_mode & 0o7777 == access.mode & 0o7777
        }))
    }

    /// Puts a regular file there, at once or not at all.
    pub(crate) fn write(&self, content: &[u8], access: Access) -> Result<(), PlaceError> {
        if self.kind()? == Some(FileType::Directory) {
            return Err(PlaceError::WrongKind { path: self.path.clone(), wanted: "file" });
        }
        if self.hands == Hands::Tied {
            return Ok(());
        }
        self.remove_new()?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rfs::openat(&self.directory, NEW_NAME, flags, Mode::from_raw_mode(0o600))
            .map_err(|source| self.failed(source))?;
        let mut file = std::fs::File::from(file);
        file.write_all(content).map_err(|source| self.failed(source))?;
        self.set_open_access(&file, access)?;
        rfs::renameat(&self.directory, NEW_NAME, &self.directory, &self.name)
            .map_err(|source| self.failed(source))
    }

    /// Puts a symbolic link there, in place of a file or link.
    pub(crate) fn link(&self, target: &str) -> Result<(), PlaceError> {
        if self.kind()? == Some(FileType::Directory) {
            return Err(PlaceError::WrongKind { path: self.path.clone(), wanted: "link" });
        }
        if self.hands == Hands::Tied {
            return Ok(());
        }
        self.remove_new()?;
        rfs::symlinkat(target, &self.directory, NEW_NAME)
            .and_then(|()| rfs::renameat(&self.directory, NEW_NAME, &self.directory, &self.name))
            .map_err(|source| self.failed(source))
    }

    /// Target of the link there, if it is one.
    pub(crate) fn target(&self) -> Result<Option<PathBuf>, PlaceError> {
        match rfs::readlinkat(&self.directory, &self.name, Vec::new()) {
            Ok(target) => Ok(Some(PathBuf::from(OsStr::from_bytes(target.to_bytes())))),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Makes a folder; it must not exist.
    pub(crate) fn make_directory(&self, access: Access) -> Result<(), PlaceError> {
        if self.hands == Hands::Tied {
            return Ok(());
        }
        rfs::mkdirat(&self.directory, &self.name, Mode::from_raw_mode(0o700))
            .map_err(|source| self.failed(source))?;
        self.set_access(access)
    }

    /// Sets owner and mode of the file or folder there, links not followed.
    pub(crate) fn set_access(&self, access: Access) -> Result<(), PlaceError> {
        if self.hands == Hands::Tied {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = rfs::openat(&self.directory, &self.name, flags, Mode::empty())
            .map_err(|source| self.failed(source))?;
        self.set_open_access(&open, access)
    }

    /// Removes the file or link there; gone already is fine.
    pub(crate) fn remove(&self) -> Result<(), PlaceError> {
        if self.hands == Hands::Tied {
            return Ok(());
        }
        match rfs::unlinkat(&self.directory, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Owner first: changing it clears the set-user-id bits.
    fn set_open_access(
        &self,
        open: impl std::os::fd::AsFd,
        access: Access,
    ) -> Result<(), PlaceError> {
        let (uid, gid) = (Uid::from_raw(access.uid), Gid::from_raw(access.gid));
        rfs::fchown(&open, Some(uid), Some(gid))
            .and_then(|()| rfs::fchmod(&open, Mode::from_raw_mode(access.mode & 0o7777)))
            .map_err(|source| self.failed(source))
    }

    fn remove_new(&self) -> Result<(), PlaceError> {
        match rfs::unlinkat(&self.directory, NEW_NAME, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(source) => Err(self.failed(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn own(mode: u32) -> Access {
        Access {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mode,
        }
    }

    #[test]
    fn a_file_is_written_through_trusted_links_inside_the_root() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        symlink("/usr/lib", root.path().join("lib")).unwrap();
        symlink("../../../../usr", root.path().join("up")).unwrap();
        let tree = Tree::new(root.path());
        tree.place("/lib/a/b", Parents::Make).unwrap().write(b"x", own(0o640)).unwrap();
        assert_eq!(std::fs::read(root.path().join("usr/lib/a/b")).unwrap(), b"x");
        tree.place("/up/c", Parents::MustExist).unwrap().write(b"y", own(0o600)).unwrap();
        assert_eq!(std::fs::read(root.path().join("usr/c")).unwrap(), b"y");
        assert!(tree.place("/usr/lib/a/b", Parents::Make).unwrap().has_access(own(0o640)).unwrap());
    }

    #[test]
    fn a_users_link_is_not_followed() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        std::fs::create_dir_all(root.path().join("home/alice")).unwrap();
        let link = root.path().join("home/alice/.globus");
        symlink("/etc", &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(5001), Some(5001)).unwrap();
        let refused = Tree::new(root.path()).place("/home/alice/.globus/key", Parents::Make);
        assert!(matches!(refused, Err(PlaceError::ForeignLink { owner: 5001, .. })), "{refused:?}");
    }

    #[test]
    fn paths_that_leave_or_are_relative_are_refused() {
        let tree = Tree::new(Path::new("/"));
        for path in ["", "/", "etc/passwd", "/etc/../shadow"] {
            assert!(matches!(tree.place(path, Parents::Make), Err(PlaceError::NotAbsolute(_))));
        }
    }

    #[test]
    fn a_loop_of_links_ends() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        let looped = Tree::new(root.path()).place("/a/x", Parents::Make);
        assert!(matches!(looped, Err(PlaceError::Loop { .. })));
    }

    #[test]
    fn a_link_in_the_files_place_is_replaced_not_written_through() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("victim"), "old").unwrap();
        symlink("victim", root.path().join("file")).unwrap();
        let place = Tree::new(root.path()).place("/file", Parents::MustExist).unwrap();
        assert_eq!(place.read(10).unwrap(), None);
        place.write(b"new", own(0o644)).unwrap();
        assert_eq!(std::fs::read(root.path().join("victim")).unwrap(), b"old");
        assert_eq!(place.read(10).unwrap().unwrap(), b"new");
        assert!(matches!(place.read(2), Err(PlaceError::TooLarge { .. })));
    }
}
