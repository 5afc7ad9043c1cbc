//! The depot's folders and the packages in it, by hash.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::archive::index::is_sha256;
use crate::error::DepotError;
use crate::files;
use crate::lock::PinnedPackage;
use crate::scratch;

/// Permission bits of the depot's folders: packages and images are no secrets, but
/// root trees hold set-user-id programs that no one else should reach.
const PRIVATE: u32 = 0o700;

/// The lock that all work in the depot shares.
const WHOLE: &str = "depot";

/// Paths in a depot.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens a depot's folders, making what is missing.
    pub(crate) fn open(dir: &Path) -> Result<Store, DepotError> {
        use std::os::unix::fs::PermissionsExt;
        files::make_dir(dir)?;
        let dir = dir.canonicalize().map_err(DepotError::io("find", dir))?;
        let store = Store { dir };
        for name in ["packages", "index", "roots", "images", "vmm", "temp"] {
            files::make_dir(&store.dir.join(name))?;
        }
        for number in 0..=255_u8 {
            files::make_dir(&store.dir.join(format!("packages/{number:02x}")))?;
        }
        for name in ["roots", "temp"] {
            let path = store.dir.join(name);
            fs::set_permissions(&path, fs::Permissions::from_mode(PRIVATE))
                .map_err(DepotError::io("set permissions of", &path))?;
        }
        Ok(store)
    }

    /// A folder of the depot.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where a package is or will be. `sha256` must have been checked to be one.
    pub(crate) fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("packages/{}/{sha256}.deb", &sha256[..2]))
    }

    /// Whether a package is stored, by its size (its hash is checked when it is used).
    pub(crate) fn has(&self, pin: &PinnedPackage) -> bool {
        fs::metadata(self.path(&pin.sha256)).is_ok_and(|m| m.len() == pin.size)
    }

    /// A stored package's file.
    pub(crate) fn package_file(&self, sha256: &str) -> Option<PathBuf> {
        let path = is_sha256(sha256).then(|| self.path(&sha256.to_ascii_lowercase()))?;
        path.is_file().then_some(path)
    }

    /// Takes the depot for one kind of work; other processes' and threads' waits until
    /// the guard is dropped. Leftovers of earlier work of this kind are removed.
    pub(crate) fn work(&self, kind: &str, scratch_in: ScratchIn) -> Result<Work, DepotError> {
        let shared = self.locked(WHOLE, FlockOperation::LockShared)?;
        let own = self.locked(kind, FlockOperation::LockExclusive)?;
        let locks = [shared, own];
        let [disk, memory] = scratch::places(&self.dir, kind);
        remove_tree(&disk)?;
        if scratch::is_ours(&memory) {
            remove_tree(&memory)?;
        }
        let in_memory = scratch_in == ScratchIn::MemoryIfPlenty && scratch::memory_is_plenty();
        if in_memory && scratch::make_private(&memory).is_ok() {
            return Ok(Work { dir: memory, _locks: locks });
        }
        files::make_dir(&disk)?;
        Ok(Work { dir: disk, _locks: locks })
    }

    /// Takes the whole depot, so that nothing in it is made or begun; refuses when
    /// somebody works in it.
    pub(crate) fn whole(&self) -> Result<Whole, DepotError> {
        match self.locked(WHOLE, FlockOperation::NonBlockingLockExclusive) {
            Ok(file) => Ok(Whole { _lock: file }),
            Err(DepotError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::WouldBlock =>
            {
                Err(DepotError::Busy)
            }
            Err(error) => Err(error),
        }
    }

    fn locked(&self, name: &str, how: FlockOperation) -> Result<File, DepotError> {
        let path = self.dir.join(format!("{name}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(DepotError::io("open", &path))?;
        flock(&file, how).map_err(DepotError::io("lock", &path))?;
        Ok(file)
    }
}

/// Where a kind of work may put what is not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScratchIn {
    /// On the depot's own file system.
    Depot,
    /// In memory, when there is plenty of it.
    MemoryIfPlenty,
}

/// The right to work, with a folder for what is not finished.
#[derive(Debug)]
pub(crate) struct Work {
    dir: PathBuf,
    /// The whole depot's, shared, and the kind's own.
    _locks: [File; 2],
}

/// The right to remove things from the depot.
#[derive(Debug)]
pub(crate) struct Whole {
    _lock: File,
}

impl Work {
    /// The temporary folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        if let Err(error) = remove_tree(&self.dir) {
            tracing::warn!(%error, "temporary files stay");
        }
    }
}

/// Removes a tree if it is there.
pub(crate) fn remove_tree(path: &Path) -> Result<(), DepotError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(DepotError::io("remove", path)),
    }
}
