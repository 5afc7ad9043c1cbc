//! The depot: one folder, shared by all sites of a host.

use std::path::{Path, PathBuf};

use crate::{
    Built, DepotError, Explanation, Lock, Mirrors, PinnedPackage, Progress, RoleImageRequest,
};

/// The store of packages, root trees and images.
#[derive(Clone, Debug)]
pub struct Depot {
    dir: PathBuf,
    chamber: PathBuf,
}

/// A User Mode Linux kernel with what it needs to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uml {
    /// A tree that holds the kernel, its dynamic linker and libraries.
    pub root: PathBuf,
    /// The kernel, relative to `root`.
    pub kernel: PathBuf,
    /// The module folder (absolute, below the depot; its last component is `release`).
    pub modules: PathBuf,
    /// The kernel's release, as `uname -r` in the guest.
    pub release: String,
    /// The packages it was taken from.
    pub packages: Vec<PinnedPackage>,
}

impl Depot {
    /// Opens a depot, making its folders when they are missing.
    pub fn open(dir: &Path) -> Result<Depot, DepotError> {
        Ok(Depot { dir: dir.to_owned(), chamber: PathBuf::from("/proc/self/exe") })
    }

    /// Uses `exe` as the program that has the `chamber` subcommand (see
    /// [`chamber_main`]) instead of the running one.
    pub fn with_chamber(mut self, exe: PathBuf) -> Depot {
        self.chamber = exe;
        self
    }

    /// Builds or finds the image of each role. Missing packages are downloaded.
    pub fn role_images(
        &self,
        _mirrors: &Mirrors,
        _requests: &[RoleImageRequest],
        _lock: Option<&Lock>,
        _progress: &dyn Progress,
    ) -> Result<Built, DepotError> {
        tracing::debug!(dir = %self.dir.display(), chamber = %self.chamber.display());
        Err(DepotError::Unavailable)
    }

    /// Fetches or finds the User Mode Linux kernel.
    pub fn uml(
        &self,
        _mirrors: &Mirrors,
        _lock: Option<&Lock>,
        _progress: &dyn Progress,
    ) -> Result<Uml, DepotError> {
        Err(DepotError::Unavailable)
    }

    /// Tells what decides about an image, without building or downloading anything.
    pub fn explain(&self, request: &RoleImageRequest, _lock: Option<&Lock>) -> Explanation {
        Explanation {
            role: request.role.clone(),
            key: None,
            reused: false,
            inputs: Vec::new(),
            nearest: None,
            differences: Vec::new(),
        }
    }

    /// The stored `.deb` of this hash, if there.
    pub fn package_file(&self, _sha256: &str) -> Option<PathBuf> {
        None
    }
}

/// Entry of the hidden subcommand `chamber`; `arguments` are those after that
/// word. Gives the exit code.
pub fn chamber_main(_arguments: &[std::ffi::OsString]) -> i32 {
    125
}
