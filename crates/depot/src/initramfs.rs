//! The initial RAM file system: gridgate itself as `/init`, the kernel modules that lead to disk and network, and the
//! one tool of an installation that gridgate does not bring itself.
//!
//! | path | content |
//! |---|---|
//! | `init` | the gridgate executable |
//! | `lib/modules/RELEASE/` | modules, not compressed, with their part of `modules.dep` and `modules.alias` |
//! | `gridgate/modules` | names of modules that are loaded on any machine |
//! | `usr/sbin/mke2fs`, libraries | from the base root: checked packages |
//! | `dev/console` and empty folders | what the kernel and mounts need |
//!
//! What is for one machine alone is a second archive behind the first, see [`Initramfs::write_for`].

mod choose;
mod cpio;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::depot::Depot;
use crate::elf;
use crate::error::DepotError;
use crate::files;
use crate::hash;
use crate::lock::Lock;
use crate::mirrors::Mirrors;
use crate::progress::Progress;
use crate::store::{ScratchIn, remove_tree};
use choose::{ALWAYS, Chosen};
use cpio::Archive;

/// Changes whenever what is packed does.
const RECIPE: &str = "1";

const FILE: &str = "initramfs.cpio";

/// Empty folders.
const FOLDERS: [&str; 9] = ["dev", "proc", "sys", "run", "tmp", "root", "new", "etc", "gridgate"];

/// Programs taken out of the base root, with the libraries that they need.
const PROGRAMS: [&str; 1] = ["usr/sbin/mke2fs"];

/// Where the base root has libraries.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// In the second archive: when it was made, seconds since 1970, so that a machine without a clock knows the time.
pub const CLOCK_FILE: &str = "/gridgate/clock";

/// What an initial RAM file system is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitramfsRequest<'a> {
    /// The gridgate executable, statically linked.
    pub program: &'a Path,
    /// The kernel's module folder, not compressed, with its indexes; its last component is the release.
    pub modules: &'a Path,
}

/// An initial RAM file system in the depot; everybody may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initramfs {
    /// The archive, not compressed.
    pub path: PathBuf,
}

/// A file for one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitramfsFile {
    /// Absolute path below `/gridgate`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Whole content.
    pub content: Vec<u8>,
}

impl Depot {
    /// Finds or makes the initial RAM file system of a kernel. The base root is built when it is not there; else
    /// the network is not used.
    pub fn initramfs(
        &self,
        mirrors: &Mirrors,
        request: &InitramfsRequest<'_>,
        lock: Option<&Lock>,
        progress: &dyn Progress,
    ) -> Result<Initramfs, DepotError> {
        let tools = self.tools(mirrors, lock, progress)?;
        let content = Content::gather(request, &tools)?;
        let store = self.store();
        let work = store.work("initramfs", ScratchIn::Depot)?;
        let folder = store.folder("vmm").join(format!("initramfs-{}", content.key()));
        let path = folder.join(FILE);
        if path.is_file() {
            return Ok(Initramfs { path });
        }
        let new = work.dir().join("new");
        files::make_dir(&new)?;
        let file = new.join(FILE);
        content.write(&file)?;
        remove_tree(&folder)?;
        fs::rename(&new, &folder).map_err(DepotError::io("keep", &folder))?;
        Ok(Initramfs { path })
    }
}

impl Initramfs {
    /// Writes a copy to `target`, mode 0600 and owned by `owner` (user and group), with `files` in a second archive and
    /// the time in [`CLOCK_FILE`]. A file that is there is replaced.
    pub fn write_for(
        &self,
        target: &Path,
        owner: (u32, u32),
        files: &[InitramfsFile],
    ) -> Result<(), DepotError> {
        let new = target.with_extension(format!("new-{}", files::unique()));
        self.write_copy(&new, owner, files).map_err(DepotError::io("write", &new))?;
        fs::rename(&new, target).map_err(DepotError::io("write", target))
    }

    fn write_copy(
        &self,
        new: &Path,
        (user, group): (u32, u32),
        files: &[InitramfsFile],
    ) -> io::Result<()> {
        let mut options = File::options();
        let mut out = options.write(true).create_new(true).mode(0o600).open(new)?;
        std::os::unix::fs::fchown(&out, Some(user), Some(group))?;
        io::copy(&mut File::open(&self.path)?, &mut out)?;
        out.seek(io::SeekFrom::End(0))?;
        let mut archive = Archive::new(BufWriter::new(out));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        archive.file(CLOCK_FILE, 0o644, now.as_secs().to_string().as_bytes())?;
        for file in files {
            archive.file(&file.path, file.mode, &file.content)?;
        }
        archive.finish().map(drop)
    }
}

/// Everything that goes in, in memory: some 40 MB.
struct Content {
    release: String,
    /// By path without a leading slash; folders are made for them.
    files: BTreeMap<String, (u32, Vec<u8>)>,
}

impl Content {
    fn gather(request: &InitramfsRequest<'_>, tools: &Path) -> Result<Content, DepotError> {
        let release = request.modules.file_name().unwrap_or_default().to_string_lossy();
        let mut content = Content { release: release.into_owned(), files: BTreeMap::new() };
        content.add("init", 0o755, read(request.program)?);
        content.modules(request.modules)?;
        content.programs(tools)?;
        Ok(content)
    }

    fn add(&mut self, path: impl Into<String>, mode: u32, bytes: Vec<u8>) {
        self.files.insert(path.into(), (mode, bytes));
    }

    fn modules(&mut self, folder: &Path) -> Result<(), DepotError> {
        let text = |name: &str| {
            read(&folder.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let Chosen { files, dependencies, aliases } =
            choose::choose(&text("modules.dep")?, &text("modules.alias")?);
        let target = format!("lib/modules/{}", self.release);
        for file in files {
            let bytes = read(&folder.join(&file))?;
            self.add(format!("{target}/{file}"), 0o644, bytes);
        }
        self.add(format!("{target}/modules.dep"), 0o644, dependencies.into_bytes());
        self.add(format!("{target}/modules.alias"), 0o644, aliases.into_bytes());
        self.add("gridgate/modules", 0o644, ALWAYS.join("\n").into_bytes());
        Ok(())
    }

    /// The programs, the dynamic linker and the libraries, found as the linker would.
    fn programs(&mut self, tools: &Path) -> Result<(), DepotError> {
        let mut open: Vec<String> = PROGRAMS.iter().map(|path| (*path).to_owned()).collect();
        while let Some(path) = open.pop() {
            if self.files.contains_key(&path) {
                continue;
            }
            let bytes = read(&tools.join(&path))?;
            let needed = elf::needed(&bytes).unwrap_or_default();
            open.extend(needed.libraries.iter().map(|name| format!("{LIBRARIES}/{name}")));
            open.extend(needed.linker.map(|linker| format!("usr{linker}")));
            self.add(path, 0o755, bytes);
        }
        Ok(())
    }

    fn key(&self) -> String {
        let hashes: Vec<(&str, String)> =
            self.files.iter().map(|(path, (_, b))| (path.as_str(), hash::of_bytes(b))).collect();
        let files = hashes.iter().map(|(path, hash)| (*path, hash.as_str()));
        hash::key([("recipe", RECIPE)].into_iter().chain(files))
    }

    fn write(&self, path: &Path) -> Result<(), DepotError> {
        let write = || {
            let mut archive = Archive::new(BufWriter::with_capacity(1 << 20, File::create(path)?));
            self.pack(&mut archive)?;
            let file = archive.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            file.sync_all()
        };
        write().map_err(DepotError::io("write", path))
    }

    fn pack(&self, archive: &mut Archive<impl Write>) -> io::Result<()> {
        let mut folders: BTreeSet<String> = FOLDERS.iter().map(|f| (*f).to_owned()).collect();
        for path in self.files.keys() {
            let parents = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
            folders.extend(parents);
        }
        // A parent sorts before what it holds.
        for folder in &folders {
            archive.folder(folder, 0o755)?;
        }
        archive.link("lib64", "usr/lib64")?;
        archive.device("dev/console", 0o600, (5, 1))?;
        archive.device("dev/null", 0o666, (1, 3))?;
        for (path, (mode, bytes)) in &self.files {
            archive.file(path, *mode, bytes)?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, DepotError> {
    fs::read(path).map_err(DepotError::io("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(release: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let modules = folder.path().join(release);
        fs::create_dir_all(modules.join("kernel")).unwrap();
        fs::write(modules.join("modules.dep"), "kernel/ext4.ko:\n").unwrap();
        fs::write(modules.join("modules.alias"), "alias fs-ext4 ext4\n").unwrap();
        fs::write(modules.join("kernel/ext4.ko"), "module").unwrap();
        (folder, modules)
    }

    #[test]
    fn equal_inputs_make_equal_archives_and_others_other_keys() {
        let (folder, modules) = folder_with("6.1");
        let program = folder.path().join("program");
        fs::write(&program, "one").unwrap();
        let request = InitramfsRequest { program: &program, modules: &modules };
        let gather = || {
            let mut content = Content { release: "6.1".into(), files: BTreeMap::new() };
            content.add("init", 0o755, read(request.program).unwrap());
            content.modules(request.modules).unwrap();
            content
        };
        let (first, second) = (folder.path().join("1"), folder.path().join("2"));
        gather().write(&first).unwrap();
        gather().write(&second).unwrap();
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
        let key = gather().key();
        fs::write(&program, "two").unwrap();
        assert_ne!(gather().key(), key);
    }

    #[test]
    fn what_is_for_one_machine_comes_behind_and_is_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base");
        fs::write(&path, vec![0; 1024]).unwrap();
        let target = folder.path().join("machine");
        let file = InitramfsFile {
            path: "/gridgate/identity.json".into(),
            mode: 0o600,
            content: b"secret".to_vec(),
        };
        let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Initramfs { path }.write_for(&target, owner, &[file]).unwrap();
        let bytes = fs::read(&target).unwrap();
        assert_eq!(&bytes[1024..1030], b"070701");
        assert!(bytes.windows(6).any(|window| window == b"secret"));
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
