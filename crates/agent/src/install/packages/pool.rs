//! The packages' files in the new root, while it is filled: fetched by one thread in the order in which they are
//! wanted, each checked by its hash before it counts.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use gridgate_protocol::agent_api::LockedPackage;
use gridgate_protocol::install_api::{InstallFailure, Order, Stage};
use sha2::{Digest, Sha256};

use crate::client::install::InstallClient;
use crate::client::until_reachable;
use crate::install::again;
use crate::install::progress::Progress;

/// Where the new root has it.
pub(super) const FOLDER: &str = "/mnt/pool";

/// A package that is not what its hash says is asked for this often.
const TRIES: u32 = 3;

/// The packages of an order.
pub(super) struct Pool<'o> {
    folder: PathBuf,
    packages: Vec<&'o LockedPackage>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// So many, from the first on, are there.
    ready: usize,
    over: bool,
}

impl<'o> Pool<'o> {
    /// An empty one.
    pub(super) fn make(root: &Path, order: &'o Order) -> Result<Self, InstallFailure> {
        let folder = root.join(FOLDER.trim_start_matches('/'));
        fs::create_dir_all(&folder)
            .map_err(|e| again(Stage::Fetch, format!("make {}: {e}", folder.display())))?;
        let packages = order.base.iter().chain(&order.packages).collect();
        Ok(Self { folder, packages, state: Mutex::default(), changed: Condvar::new() })
    }

    /// A package's file.
    pub(super) fn file(&self, package: &LockedPackage) -> PathBuf {
        self.folder.join(format!("{}.deb", package.sha256))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more is wanted.
    pub(super) fn give_up(&self) {
        self.state().over = true;
        self.changed.notify_all();
    }

    /// Waits until the package of this number, and all before it, are there.
    pub(super) fn wait_for(&self, number: usize, stage: Stage) -> Result<(), InstallFailure> {
        let mut state = self.state();
        while state.ready <= number {
            if state.over {
                return Err(again(stage, "not all packages came"));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Fetches all, in order.
    pub(super) fn fetch(
        &self,
        client: &InstallClient,
        progress: &Progress,
    ) -> Result<(), InstallFailure> {
        let total = self.packages.iter().map(|package| package.size).sum();
        let mut done = 0;
        for package in &self.packages {
            if self.state().over {
                return Ok(());
            }
            let fetched = self.fetch_one(client, package);
            if fetched.is_err() {
                self.give_up();
            }
            fetched?;
            done += package.size;
            progress.go_on(Some((done, total)), None);
            self.state().ready += 1;
            self.changed.notify_all();
        }
        Ok(())
    }

    fn fetch_one(
        &self,
        client: &InstallClient,
        package: &LockedPackage,
    ) -> Result<(), InstallFailure> {
        let name = &package.name;
        let path = self.file(package);
        for _ in 0..TRIES {
            let mut target = Target::create(&path)
                .map_err(|e| again(Stage::Fetch, format!("make {}: {e}", path.display())))?;
            let came = until_reachable(|| client.package(package, &mut target))
                .map_err(|e| again(Stage::Fetch, format!("{name}: {e}")))?;
            match came.and_then(|_| target.finish()) {
                Ok(sha256) if sha256 == package.sha256 => return Ok(()),
                Ok(_) => tracing::warn!(name, "a package is damaged and is fetched again"),
                Err(error) => tracing::warn!(name, %error, "a package broke off"),
            }
        }
        Err(again(Stage::Fetch, format!("the package {name} was damaged {TRIES} times")))
    }

    /// Removes the files: nothing of them belongs to the node.
    pub(super) fn remove(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.folder)
    }
}

/// A file that is hashed as it is written.
struct Target {
    file: BufWriter<File>,
    hash: Sha256,
}

impl Target {
    fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::with_capacity(256 << 10, File::create(path)?);
        Ok(Self { file, hash: Sha256::new() })
    }

    fn finish(mut self) -> io::Result<String> {
        self.file.flush()?;
        Ok(hex::encode(self.hash.finalize()))
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
