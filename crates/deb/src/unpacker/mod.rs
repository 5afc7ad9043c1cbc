//! Unpacking packages into a new root as dpkg does, without dpkg: many at a time, and without the five programs
//! that dpkg starts for each.
//!
//! ```text
//! package ─┬─ plain: files, lists and state written as `dpkg --unpack` writes them ─────┐
//!          └─ anything else (a script before unpacking, a diverted path, …): for dpkg ──┴─▶ dpkg --configure
//! ```
//! What is plain is decided narrowly: a package is left to dpkg wherever dpkg would have more to do than to write
//! its files. Formats: deb(5), deb-triggers(5), and dpkg's own database below `/var/lib/dpkg`.

mod database;
mod filter;
mod names;
mod package;
mod place;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Deb, malformed};
use database::Known;
use filter::Filter;
use names::Names;
use package::Package;
use place::{Attributes, Root};

/// What is done with conffiles, which dpkg puts in place when a package is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conffiles {
    /// Beside their place, for dpkg.
    Beside,
    /// There, and in their place too: for the packages that dpkg itself runs with.
    Live,
}

/// What became of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is unpacked and waits to be configured.
    Unpacked,
    /// Nothing of it is recorded: dpkg must unpack it. Why.
    ForDpkg(&'static str),
}

/// Unpacks packages into one root. Several threads may.
#[derive(Debug)]
pub struct Unpacker {
    root: Root,
    conffiles: Conffiles,
    filter: Filter,
    names: Names,
    known: Known,
    /// Folders that were made here, and the package that has the say about each.
    folders: Mutex<HashMap<Vec<u8>, String>>,
    done: Mutex<Done>,
}

/// What the database will be told.
#[derive(Debug, Default)]
struct Done {
    /// Paragraphs of the status file, by package.
    status: BTreeMap<String, String>,
    triggers: BTreeSet<String>,
}

/// Why a package's files could not be written by us.
enum Stop {
    ForDpkg(&'static str),
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Unpacker {
    /// Reads what dpkg's database, its settings and the accounts of `root` say now.
    ///
    /// # Errors
    /// When something of it cannot be read or is not understood.
    pub fn new(root: &Path, conffiles: Conffiles) -> io::Result<Self> {
        let root = Root::open(root)?;
        let filter = Filter::read(&root)?;
        let names = Names::read(&root)?;
        let known = Known::read(&root)?;
        let (folders, done) = (Mutex::default(), Mutex::default());
        Ok(Self { root, conffiles, filter, names, known, folders, done })
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unpacks a package that is not there in any version.
    ///
    /// # Errors
    /// When it is damaged, or something cannot be written.
    pub fn unpack(&self, deb: &Deb) -> io::Result<Outcome> {
        let package = Package::read(deb)?;
        if let Some(why) = package.for_dpkg() {
            return Ok(Outcome::ForDpkg(why));
        }
        let mut triggers = package.triggers();
        let list = match self.files(deb, &package, &mut triggers) {
            Ok(list) => list,
            Err(Stop::ForDpkg(why)) => return Ok(Outcome::ForDpkg(why)),
            Err(Stop::Failed(error)) => return Err(error),
        };
        database::write_info(&self.root, &package, &list)?;
        let mut done = self.done();
        done.status.insert(package.stem(), package.status());
        done.triggers.append(&mut triggers);
        Ok(Outcome::Unpacked)
    }

    /// Tells dpkg's database of all packages that were unpacked. Without this dpkg does not know of them.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn close(self) -> io::Result<()> {
        let done = self.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        database::add(&self.root, done.status.values(), &done.triggers)
    }

    /// Writes a package's files; gives the list of them as dpkg keeps it.
    fn files(
        &self,
        deb: &Deb,
        package: &Package,
        triggers: &mut BTreeSet<String>,
    ) -> Result<Vec<u8>, Stop> {
        let mut archive = tar::Archive::new(deb.data()?);
        let mut list = Vec::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = listed(&entry.path_bytes())?;
            list.extend_from_slice(if path == b"/" { b"/." } else { &path });
            list.push(b'\n');
            if let Some(why) = self.known.special(&path) {
                return Err(Stop::ForDpkg(why));
            }
            self.known.activate(&path, triggers);
            let kind = entry.header().entry_type();
            if !self.filter.leaves_out(&path, kind.is_dir() || kind.is_symlink()) {
                self.write(&path, &mut entry, package)?;
            }
        }
        Ok(list)
    }

    fn write(
        &self,
        path: &[u8],
        entry: &mut tar::Entry<'_, impl Read>,
        package: &Package,
    ) -> Result<(), Stop> {
        let attributes = self.attributes(entry)?;
        let is_conffile = package.is_conffile(path);
        let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
        match (entry.header().entry_type(), target) {
            (tar::EntryType::Directory, _) => self.folder(path, &attributes, package),
            (tar::EntryType::Regular, _) if is_conffile => self.conffile(path, entry, &attributes),
            (tar::EntryType::Regular, _) => self.root.file(path, entry, &attributes),
            _ if is_conffile => Err(Stop::ForDpkg("a conffile is no plain file")),
            (tar::EntryType::Symlink, Some(target)) => {
                self.root.symlink(path, &target, &attributes)
            }
            (tar::EntryType::Link, Some(target)) => {
                let target = listed(&target)?;
                if package.is_conffile(&target) {
                    return Err(Stop::ForDpkg("a link to a conffile"));
                }
                self.root.link(path, &target)
            }
            _ => Err(Stop::ForDpkg("it has a device or the like")),
        }
    }

    /// Of packages that bring the same new folder the one whose name comes first has the say over its owner and
    /// permissions, whichever is unpacked first. (With dpkg it is the one that is unpacked first, as it happens.)
    fn folder(&self, path: &[u8], attributes: &Attributes, package: &Package) -> Result<(), Stop> {
        let name = package.stem();
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.root.folder(path, attributes)? {
            match folders.get(path) {
                Some(first) if name < *first => self.root.give_folder(path, attributes)?,
                _ => return Ok(()),
            }
        }
        folders.insert(path.to_owned(), name);
        Ok(())
    }

    fn conffile(
        &self,
        path: &[u8],
        entry: &mut impl Read,
        attributes: &Attributes,
    ) -> Result<(), Stop> {
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        let beside = [path, b".dpkg-new"].concat();
        self.root.file(&beside, &mut content.as_slice(), attributes)?;
        match self.conffiles {
            Conffiles::Beside => Ok(()),
            Conffiles::Live => self.root.file(path, &mut content.as_slice(), attributes),
        }
    }

    /// As dpkg does, by the names of user and group where the root knows them.
    fn attributes(&self, entry: &tar::Entry<'_, impl Read>) -> io::Result<Attributes> {
        let header = entry.header();
        let id = |id: u64| u32::try_from(id).map_err(|_| malformed("an owner has no number"));
        let user = header.username_bytes().and_then(|name| self.names.user(name));
        let group = header.groupname_bytes().and_then(|name| self.names.group(name));
        Ok(Attributes {
            user: user.map_or_else(|| id(header.uid()?), Ok)?,
            group: group.map_or_else(|| id(header.gid()?), Ok)?,
            mode: header.mode()? & 0o7777,
            modified: i64::try_from(header.mtime()?)
                .map_err(|_| malformed("a time is too late"))?,
        })
    }
}

/// A path as dpkg lists it: `./usr/bin/` is `/usr/bin`.
fn listed(path: &[u8]) -> io::Result<Vec<u8>> {
    let path = path.strip_prefix(b".").unwrap_or(path);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let parts = path.split(|byte| *byte == b'/');
    let is_odd = |part: &[u8]| part.is_empty() || part == b"." || part == b"..";
    if !path.is_empty() && parts.into_iter().any(is_odd) || path.contains(&b'\n') {
        return Err(malformed(format!("the path {} is odd", String::from_utf8_lossy(path))));
    }
    Ok([b"/", path].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_listed_as_dpkg_does() {
        let listed = |path: &str| listed(path.as_bytes()).map(|p| String::from_utf8(p).unwrap());
        assert_eq!(listed("./").unwrap(), "/");
        assert_eq!(listed("./usr/bin/").unwrap(), "/usr/bin");
        assert_eq!(listed("./.hidden").unwrap(), "/.hidden");
        assert_eq!(listed("usr/a").unwrap(), "/usr/a");
        for odd in ["./usr/../etc", "..", "./a//b", "a\nb"] {
            assert!(listed(odd).is_err(), "{odd}");
        }
    }
}
