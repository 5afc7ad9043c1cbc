//! What the launches of a site need of kernels and VMM trees: fetched or found once, then shared by its nodes.
//!
//! The kernel modules of User-Mode Linux stand in every role image, so that a node's disk boots on any VMM; its
//! kernel is therefore fetched whenever images are built.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use gridgate_depot::{
    Depot, DepotError, DepotEvent, Initramfs, InitramfsRequest, Linux, Lock, Mirrors,
    PinnedPackage, Progress, Qemu, Uml,
};
use gridgate_machine::{Accelerator, Disk, VmmSpec, XenBoot, XenTuning};
use gridgate_profile::{Guest, Hardware};
use gridgate_protocol::site_api::ErrorKind;

use crate::arrangement::{self, Arrangement};
use crate::failure::{Failure, Hint, caused, failure};
use crate::home::SiteDir;
use crate::images::{self, Reporter};
use crate::site::Site;
use crate::task::Task;
use crate::verdicts::{Engine, HOST_QEMU};
use crate::wait::blocking;
use crate::wanted::{self, Wanted};

/// What is at hand, by VMM.
#[derive(Clone, Debug, Default)]
pub struct Vmms {
    uml: Option<Arc<Uml>>,
    qemu: Option<Arc<Qemu>>,
    linux: Option<Arc<Linux>>,
    initramfs: Option<Arc<Initramfs>>,
}

/// What a task needs of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// What the machines that will be started run on.
    pub launches: BTreeSet<Engine>,
    /// Whether role images are built.
    pub images: bool,
    /// Whether another host is to have it, too: nothing of this host's own is taken.
    pub portable: bool,
}

/// The root of this host.
const HOST: &str = "/";

/// gridgate itself is the program in it.
fn initramfs_of(linux: &Linux) -> InitramfsRequest<'_> {
    InitramfsRequest { program: Path::new("/proc/self/exe"), modules: &linux.modules }
}

fn kept<T>(found: Result<T, DepotError>, what: &str) -> Result<Arc<T>, Failure> {
    found.map(Arc::new).map_err(|e| {
        caused(ErrorKind::Host, format!("{what} could not be fetched"), &e)
            .hint("what was fetched is kept: the same command goes on from there")
    })
}

/// A site that has QEMU's packages locked runs on them; else the host's own is taken, where it has one that nodes can
/// run on.
fn qemu(
    depot: &Depot,
    mirrors: &Mirrors,
    lock: Option<&Lock>,
    progress: &dyn Progress,
) -> Result<Qemu, DepotError> {
    if is_open(lock) {
        match depot.host_qemu(Path::new(HOST), progress) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(e) => progress.event(DepotEvent::Warning {
                subject: "qemu".to_owned(),
                message: format!("{e}; Debian's is taken"),
            }),
        }
    }
    depot.qemu(mirrors, lock, progress)
}

/// Whether a lock, or its absence, leaves open which QEMU it is.
fn is_open(lock: Option<&Lock>) -> bool {
    lock.is_none_or(|lock| lock.qemu.is_empty())
}

/// What QEMU is, for a verdict.
fn described(qemu: &Qemu) -> Vec<String> {
    if qemu.packages.is_empty() {
        let tree = qemu.root.parent().and_then(Path::file_name).unwrap_or_default();
        return vec![format!("{HOST_QEMU} {} ({})", qemu.version, tree.display())];
    }
    packages(&qemu.packages)
}

fn packages(pins: &[PinnedPackage]) -> Vec<String> {
    pins.iter().map(|pin| format!("{} {}", pin.name, pin.version)).collect()
}

/// Where missing packages may come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Debian mirror that was asked for.
    pub mirror: Option<String>,
    /// What the client's environment says of mirror and proxies.
    pub environment: BTreeMap<String, String>,
}

impl Vmms {
    /// Like [`Vmms::fetch`], for machines of a site whose images are there. Without a known mirror, what the
    /// depot holds must do.
    pub async fn gather(
        site: &Arc<Site>,
        wanted: &Arc<Wanted>,
        needs: Needs,
        sources: Sources,
        task: &Arc<Task>,
    ) -> Result<Vmms, Failure> {
        let (site, wanted, task) = (site.clone(), wanted.clone(), task.clone());
        blocking(move || {
            let depot = images::depot(&site.home.depot())?;
            let (flag, profile) = (sources.mirror.as_deref(), wanted.site.mirror.as_deref());
            let mirrors = images::mirrors(flag, profile, &sources.environment).unwrap_or_default();
            let lock = images::lock(&site.dir)?;
            let vmms = Vmms::fetch(&depot, &mirrors, lock.as_ref(), &needs, &Reporter::new(task))?;
            if let Some(old) = &lock {
                let mut new = old.clone();
                vmms.pin(&mut new);
                images::store_lock(&site.dir, lock.as_ref(), &new)?;
            }
            Ok(vmms)
        })
        .await?
    }

    /// Fetches or finds what is needed. Blocking.
    pub fn fetch(
        depot: &Depot,
        mirrors: &Mirrors,
        lock: Option<&Lock>,
        needs: &Needs,
        progress: &dyn Progress,
    ) -> Result<Vmms, Failure> {
        let mut vmms = Vmms::default();
        if needs.images || needs.launches.contains(&Engine::Uml) {
            let found = depot.uml(mirrors, lock, progress);
            vmms.uml = Some(kept(found, "the User Mode Linux kernel")?);
        }
        if needs.launches.iter().any(|engine| engine.vmm() == "qemu") {
            let found = match needs.portable {
                true => depot.qemu(mirrors, lock, progress),
                false => qemu(depot, mirrors, lock, progress),
            };
            vmms.qemu = Some(kept(found, "QEMU")?);
        }
        if needs.launches.iter().any(|engine| *engine != Engine::Uml) {
            let found = depot.linux(mirrors, lock, progress);
            let linux = kept(found, "the kernel of QEMU's and Xen's guests")?;
            let found = depot.initramfs(mirrors, &initramfs_of(&linux), lock, progress);
            vmms.initramfs = Some(kept(found, "the initial RAM file system")?);
            vmms.linux = Some(linux);
        }
        Ok(vmms)
    }

    /// What the depot holds already of a site's locked VMMs; asks nobody.
    pub fn present(depot: &Depot, dir: &SiteDir) -> Vmms {
        let lock = images::lock(dir).ok().flatten();
        let (nowhere, lock, silent) = (Mirrors::default(), lock.as_ref(), &gridgate_depot::Silent);
        let host = || depot.kept_host_qemu(Path::new(HOST)).filter(|_| is_open(lock));
        let qemu = host().or_else(|| depot.qemu(&nowhere, lock, silent).ok());
        Vmms {
            uml: depot.uml(&nowhere, lock, silent).ok().map(Arc::new),
            qemu: qemu.map(Arc::new),
            linux: depot.linux(&nowhere, lock, silent).ok().map(Arc::new),
            initramfs: None,
        }
    }

    /// Pins in a lock what is at hand.
    pub fn pin(&self, lock: &mut Lock) {
        if let Some(uml) = &self.uml {
            lock.set_uml(&uml.packages);
        }
        if let Some(qemu) = &self.qemu {
            lock.set_qemu(&qemu.packages);
        }
        if let Some(linux) = &self.linux {
            lock.set_linux(&linux.packages);
        }
    }

    /// What is here or there.
    pub fn or(self, other: Vmms) -> Vmms {
        Vmms {
            uml: self.uml.or(other.uml),
            qemu: self.qemu.or(other.qemu),
            linux: self.linux.or(other.linux),
            initramfs: self.initramfs.or(other.initramfs),
        }
    }

    /// What an engine would run from, packages as `name version`; none when it is not at hand.
    pub fn packages(&self, engine: Engine) -> Option<Vec<String>> {
        Some(match engine {
            Engine::Uml => packages(&self.uml.as_ref()?.packages),
            Engine::Kvm | Engine::Tcg => {
                let linux = &self.linux.as_ref()?.packages;
                [described(self.qemu.as_ref()?), packages(linux)].concat()
            }
            Engine::Xen => packages(&self.linux.as_ref()?.packages),
        })
    }

    /// User-Mode Linux, if it is at hand.
    pub fn uml(&self) -> Option<&Uml> {
        self.uml.as_deref()
    }

    /// The kernel of QEMU's and Xen's guests, if it is at hand.
    pub fn linux(&self) -> Option<&Linux> {
        self.linux.as_deref()
    }

    /// The VMM of a machine.
    ///
    /// # Errors
    /// When it was not fetched: a fault of the program.
    pub fn spec(&self, arrangement: Arrangement) -> Result<VmmSpec, Failure> {
        let absent = || {
            failure(ErrorKind::Internal, format!("{arrangement} was not fetched before a launch"))
        };
        match arrangement {
            Arrangement::Uml(security) => {
                let uml = self.uml().ok_or_else(absent)?;
                Ok(VmmSpec::Uml {
                    root: uml.root.clone(),
                    kernel: uml.kernel.clone(),
                    initramfs: None,
                    security: arrangement::security(security),
                })
            }
            Arrangement::Kvm(hardware) => self.qemu(Accelerator::Kvm, hardware).ok_or_else(absent),
            Arrangement::Tcg(hardware) => self.qemu(Accelerator::Tcg, hardware).ok_or_else(absent),
            Arrangement::Xen(guest) => self.xen(guest).ok_or_else(absent),
        }
    }

    fn qemu(&self, accelerator: Accelerator, hardware: Hardware) -> Option<VmmSpec> {
        let (qemu, linux) = (self.qemu.as_ref()?, self.linux.as_ref()?);
        Some(VmmSpec::Qemu {
            root: qemu.root.clone(),
            program: qemu.program.clone(),
            kernel: linux.vmlinux.clone(),
            initramfs: self.initramfs.as_ref().map(|initramfs| initramfs.path.clone()),
            accelerator,
            machine: arrangement::machine(hardware),
        })
    }

    fn xen(&self, guest: Guest) -> Option<VmmSpec> {
        let linux = self.linux.as_ref()?;
        Some(VmmSpec::Xen {
            kernel: linux.vmlinux.clone(),
            initramfs: self.initramfs.as_ref().map(|initramfs| initramfs.path.clone()),
            bridge: wanted::BRIDGE.to_owned(),
            guest: arrangement::guest(guest),
            boot: XenBoot::Direct,
            tuning: XenTuning::default(),
        })
    }

    /// The disks that a machine has beside the node's own: its kernel's modules, where the node's disk does not
    /// hold them.
    pub fn disks(&self, arrangement: Arrangement) -> Vec<Disk> {
        match arrangement {
            Arrangement::Uml(_) => Vec::new(),
            Arrangement::Kvm(_) | Arrangement::Tcg(_) | Arrangement::Xen(_) => {
                self.linux.iter().map(|linux| Disk::shared(&linux.modules_disk)).collect()
            }
        }
    }
}
