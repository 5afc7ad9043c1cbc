//! The depot: one folder, shared by all sites of a host.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::archive::keyring::Keyring;
use crate::archive::stored;
use crate::build::{Run, SUITE, Wanted};
use crate::install::Way;
use crate::store::{Store, Whole};
use crate::{
    Built, DepotError, Explanation, Exported, Imported, Lock, Loose, LooseRequest, Mirrors,
    PinnedPackage, Pool, Progress, References, RoleImageRequest, Swept, Updated, Verified, explain,
    export, gc, host_qemu, import, linux, loose, qemu, uml, update, verify,
};

/// The store of packages, root trees and images.
#[derive(Clone, Debug)]
pub struct Depot {
    store: Store,
    chamber: PathBuf,
    keyring: Keyring,
    way: Way,
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

/// A kernel for machines that bring none of their own: QEMU's and Xen's guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linux {
    /// The kernel, unpacked: an ELF file with entries for PVH and Xen's PV. An emulated machine
    /// boots it a good deal faster than one that unpacks itself, and Xen's toolstack need not unpack it at each start.
    pub vmlinux: PathBuf,
    /// The module folder, not compressed, with its indexes (absolute, below the depot;
    /// its last component is `release`).
    pub modules: PathBuf,
    /// A read-only ext4 file system labelled `gridgate-modules` that holds that folder
    /// as `<release>/`. Everybody may read it.
    pub modules_disk: PathBuf,
    /// The kernel's release, as `uname -r` in the guest.
    pub release: String,
    /// The packages it was taken from.
    pub packages: Vec<PinnedPackage>,
}

/// QEMU with what it needs to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    /// A tree that holds the program, its dynamic linker, libraries and firmware.
    pub root: PathBuf,
    /// The program, relative to `root`.
    pub program: PathBuf,
    /// QEMU's own version, such as `10.0.2`.
    pub version: String,
    /// The packages it was taken from; none: the host's own.
    pub packages: Vec<PinnedPackage>,
}

impl Depot {
    /// Opens a depot, making its folders when they are missing.
    pub fn open(dir: &Path) -> Result<Depot, DepotError> {
        let (store, keyring) = (Store::open(dir)?, Keyring::debian());
        Ok(Depot { store, chamber: PathBuf::from("/proc/self/exe"), keyring, way: Way::Quick })
    }

    /// Its folders.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Uses `exe` as the program that has the `chamber` subcommand (see
    /// [`crate::chamber_main`]) instead of the running one.
    pub fn with_chamber(mut self, exe: PathBuf) -> Depot {
        self.chamber = exe;
        self
    }

    /// Has apt install packages the ordinary way, one after the other: slower, with the
    /// same result. It is there to be compared with.
    pub fn with_apt_alone(mut self) -> Depot {
        self.way = Way::Apt;
        self
    }

    /// Builds or finds the image of each role. Missing packages are downloaded. A role
    /// that the lock pins for exactly the requested names is built of its pins;
    /// any other is resolved against the archive as it is now. When all images are
    /// there already, the network is not used.
    pub fn role_images(
        &self,
        mirrors: &Mirrors,
        requests: &[RoleImageRequest],
        lock: Option<&Lock>,
        progress: &dyn Progress,
    ) -> Result<Built, DepotError> {
        let (store, program) = (&self.store, self.chamber.as_path());
        let (keyring, wanted, way) = (&self.keyring, Wanted::Images, self.way);
        Run { store, program, mirrors, requests, lock, progress, keyring, wanted, way }.run()
    }

    /// What the archive has now for these requests, and for the kernels and VMMs of `lock`. No package
    /// of a role is fetched.
    pub fn update(
        &self,
        mirrors: &Mirrors,
        requests: &[RoleImageRequest],
        lock: &Lock,
        progress: &dyn Progress,
    ) -> Result<Updated, DepotError> {
        let (store, program) = (&self.store, self.chamber.as_path());
        let (keyring, wanted, way) = (&self.keyring, Wanted::Lock, self.way);
        let lock_anew = None;
        let run = Run {
            store,
            program,
            mirrors,
            requests,
            lock: lock_anew,
            progress,
            keyring,
            wanted,
            way,
        };
        let found = run.run()?.lock;
        let mut new = lock.clone();
        (new.suite, new.base, new.roles) = (found.suite, found.base, found.roles);
        if !lock.uml.is_empty() {
            new.uml = uml::newest(store, mirrors, progress)?;
        }
        if !lock.linux.is_empty() {
            new.linux = linux::newest(store, mirrors, progress)?;
        }
        if !lock.qemu.is_empty() {
            new.qemu = qemu::newest(store, mirrors, progress)?;
        }
        let changes = update::compare(lock, &new, &self.security()?);
        Ok(Updated { lock: new, changes })
    }

    /// The SHA-256 of every package in the stored index of the security archive.
    fn security(&self) -> Result<BTreeSet<String>, DepotError> {
        let (dir, suite) = (self.store.folder("index"), format!("{SUITE}-security"));
        let path = stored::release_path(&dir, &suite);
        if !path.exists() {
            return Ok(BTreeSet::new());
        }
        let bytes = fs::read(&path).map_err(DepotError::io("read", &path))?;
        let release = stored::verify(&bytes, &suite, &self.keyring)?;
        Ok(update::hashes(&stored::text(&dir, stored::packages(&release, &suite)?)?))
    }

    /// Fetches or finds the User Mode Linux kernel. When the lock pins its packages
    /// and the depot holds it, the network is not used.
    pub fn uml(
        &self,
        mirrors: &Mirrors,
        lock: Option<&Lock>,
        progress: &dyn Progress,
    ) -> Result<Uml, DepotError> {
        uml::uml(&self.store, mirrors, lock, progress)
    }

    /// Finds or makes a tree of packages that are unpacked and not installed. When all is
    /// pinned and the depot holds it, the network is not used.
    pub fn loose(
        &self,
        mirrors: &Mirrors,
        request: &LooseRequest<'_>,
        progress: &dyn Progress,
    ) -> Result<Loose, DepotError> {
        loose::loose(&self.store, mirrors, request, progress)
    }

    /// Fetches or finds the kernel of QEMU's and Xen's guests. When the lock pins its
    /// package and the depot holds it, the network is not used.
    pub fn linux(
        &self,
        mirrors: &Mirrors,
        lock: Option<&Lock>,
        progress: &dyn Progress,
    ) -> Result<Linux, DepotError> {
        let (store, program) = (&self.store, self.chamber.as_path());
        let tools = || self.tools(mirrors, lock, progress);
        linux::linux(store, mirrors, lock, progress, program, &tools)
    }

    /// A root tree with the programs that others are made with: the base root.
    pub(crate) fn tools(
        &self,
        mirrors: &Mirrors,
        lock: Option<&Lock>,
        progress: &dyn Progress,
    ) -> Result<PathBuf, DepotError> {
        let (store, program) = (&self.store, self.chamber.as_path());
        let (keyring, wanted, way) = (&self.keyring, Wanted::Images, self.way);
        Run { store, program, mirrors, requests: &[], lock, progress, keyring, wanted, way }.tools()
    }

    /// Fetches or finds QEMU. When the lock pins its packages and the depot holds it,
    /// the network is not used.
    pub fn qemu(
        &self,
        mirrors: &Mirrors,
        lock: Option<&Lock>,
        progress: &dyn Progress,
    ) -> Result<Qemu, DepotError> {
        qemu::qemu(&self.store, mirrors, lock, progress)
    }

    /// Finds the QEMU that is installed below `host`, the host's root, or takes it into the depot; none when there is
    /// none. It has no packages.
    ///
    /// # Errors
    /// [`DepotError::HostQemu`] when it lacks something, or is too old.
    pub fn host_qemu(
        &self,
        host: &Path,
        progress: &dyn Progress,
    ) -> Result<Option<Qemu>, DepotError> {
        host_qemu::qemu(&self.store, host, progress)
    }

    /// The QEMU that is installed below `host`, if the depot has it already.
    pub fn kept_host_qemu(&self, host: &Path) -> Option<Qemu> {
        host_qemu::kept(&self.store, host)
    }

    /// Tells what decides about an image, without building or downloading anything.
    pub fn explain(&self, request: &RoleImageRequest, lock: Option<&Lock>) -> Explanation {
        explain::explain(&self.store, request, lock)
    }

    /// The depot as a Debian archive.
    pub fn pool(&self) -> Pool {
        Pool::new(self.store.clone(), self.keyring.clone())
    }

    /// The stored `.deb` of this hash, if there.
    pub fn package_file(&self, sha256: &str) -> Option<PathBuf> {
        self.store.package_file(sha256)
    }

    /// Writes what a site needs to the file `target`: its lock with all packages, Debian's signed
    /// indexes, and `profile` as it is. Packages are checked again while they are written.
    pub fn export(
        &self,
        site: &str,
        lock: &Lock,
        profile: Option<&[u8]>,
        target: &Path,
        progress: &dyn Progress,
    ) -> Result<Exported, DepotError> {
        let (store, keyring) = (&self.store, &self.keyring);
        export::Export { store, keyring, site, lock, profile }.write(target, progress)
    }

    /// Takes an export in. Every hash and signature is checked before anything of it counts.
    pub fn import(&self, source: &Path, progress: &dyn Progress) -> Result<Imported, DepotError> {
        import::import(&self.store, source, &self.keyring, progress)
    }

    /// Reads everything again and says what is damaged. Changes nothing.
    pub fn verify(&self, progress: &dyn Progress) -> Result<Verified, DepotError> {
        verify::verify(&self.store, progress)
    }

    /// Takes the depot for itself: nobody builds or fetches in it until this is dropped.
    ///
    /// # Errors
    /// [`DepotError::Busy`] when somebody does.
    pub fn hold(&self) -> Result<Held<'_>, DepotError> {
        Ok(Held { store: &self.store, whole: self.store.whole()? })
    }
}

/// A depot in which nobody else works, so that things can be removed from it.
#[derive(Debug)]
pub struct Held<'d> {
    store: &'d Store,
    whole: Whole,
}

impl Held<'_> {
    /// Says what nobody needs; with `remove` it is removed.
    pub fn sweep(&self, references: &References, remove: bool) -> Result<Swept, DepotError> {
        gc::sweep(self.store, &self.whole, references, remove)
    }

    /// Removes what a verification found damaged; packages of the locks are fetched again.
    pub fn mend(
        &self,
        found: &mut Verified,
        references: &References,
        mirrors: &Mirrors,
    ) -> Result<(), DepotError> {
        verify::mend(self.store, &self.whole, found, references, mirrors)
    }
}
