//! Xen: a hypervisor below the host, which is its privileged domain. A machine is a guest
//! domain, made through `xl`, the hypervisor's own toolstack; it has no process on the host
//! but its [keeper](keeper_main).
//!
//! | module | what |
//! |---|---|
//! | `bootloader` | a kernel read off the guest's disk |
//! | `config` | the domain's configuration: pure |
//! | `report` | what `xl` prints, read: pure |
//! | `fault` | what `xl` complains of, in our words: pure |
//! | `store` | client of Xen's store |
//! | `toolstack` | `xl`, run |
//! | `live` | what can be changed while it runs |
//! | `keeper` | the process that stands for the domain |
//!
//! A domain is ours when it has the UUID that follows from the machine's run directory. It
//! has that from its first moment, so one that was left half made is found, too; a domain
//! with the same name and another UUID is never touched.

mod bootloader;
mod config;
mod fault;
mod keeper;
mod live;
mod report;
mod store;
mod toolstack;

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::capability::{Capability, Change, Controls};
use crate::error::StartFailure;
use crate::jail::seat_name;
use crate::spec::{MachineSpec, Nic, VmmSpec, XenBoot, XenGuest, XenTuning};
use crate::state::Exit;
use crate::vmm::{Confinement, End, PowerButton, Seat, Sign, Undertaker, Vmm, VmmCommand, VmmKind};

use bootloader::Boot;
pub use keeper::keeper_main;
pub use live::LiveDomain;
pub use report::{Configuration, Domain, Shutdown};
use store::Store;
use toolstack::Toolstack;

/// Less does not hold a Debian kernel while it unpacks itself: PV, PVH.
const LEAST_MEMORY: (u64, u64) = (96 << 20, 128 << 20);

/// `xvda` to `xvdp`.
const MOST_DISKS: usize = 16;

/// How long Xen may take to take a domain down.
const BURIAL: Duration = Duration::from_secs(30);

/// See [`PowerButton::again`].
const PRESS_AGAIN: Duration = Duration::from_secs(3);

/// How long the kernel may take to open a disk for a domain.
const DISK_LIMIT: Duration = Duration::from_secs(10);

/// The backend.
#[derive(Clone, Debug)]
pub struct Xen {
    kernel: PathBuf,
    initramfs: Option<PathBuf>,
    bridge: String,
    guest: XenGuest,
    boot: XenBoot,
    tuning: XenTuning,
}

impl Xen {
    /// See [`VmmSpec::Xen`].
    #[must_use]
    pub fn new(
        (kernel, initramfs): (PathBuf, Option<PathBuf>),
        bridge: String,
        (guest, boot): (XenGuest, XenBoot),
        tuning: XenTuning,
    ) -> Self {
        Self { kernel, initramfs, bridge, guest, boot, tuning }
    }

    /// What it boots of the host's files.
    fn of_host(&self, arguments: String) -> Result<Boot, StartFailure> {
        for path in [&self.kernel].into_iter().chain(&self.initramfs) {
            File::open(path)
                .map_err(|e| StartFailure::Kernel { kernel: path.clone(), why: e.to_string() })?;
        }
        Ok(Boot { kernel: self.kernel.clone(), initramfs: self.initramfs.clone(), arguments })
    }

    /// Of a spec of this kind.
    fn of(spec: &VmmSpec) -> Option<Self> {
        let VmmSpec::Xen { kernel, initramfs, bridge, guest, boot, tuning } = spec else {
            return None;
        };
        let boot = (*guest, *boot);
        let files = (kernel.clone(), initramfs.clone());
        Some(Self::new(files, bridge.clone(), boot, tuning.clone()))
    }
}

/// What a domain is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `gg-NODE-TAG`
    pub(crate) name: String,
    pub(crate) uuid: String,
}

impl Identity {
    /// Follows from the run directory, which one machine has for itself.
    pub(crate) fn of(spec: &MachineSpec) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let hash = Sha256::digest(spec.run_dir.as_os_str().as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        // Version 8, "what its maker likes", and the variant: RFC 9562.
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            name: format!("gg-{}-{}", spec.name, &hex[..8]),
            uuid: [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"),
        }
    }
}

impl Vmm for Xen {
    fn kind(&self) -> VmmKind {
        VmmKind::Xen
    }

    fn check(&self, spec: &MachineSpec) -> Result<(), String> {
        let (kind, least) = match self.guest {
            XenGuest::Pv => ("PV", LEAST_MEMORY.0),
            XenGuest::Pvh => ("PVH", LEAST_MEMORY.1),
        };
        let mib = |bytes: u64| bytes >> 20;
        if spec.memory < least {
            let (least, asked) = (mib(least), mib(spec.memory));
            return Err(format!(
                "a {kind} guest needs at least {least} MiB, {asked} MiB were asked for"
            ));
        }
        if spec.clock.is_some() {
            return Err("a Xen guest has the hypervisor's clock, another time was asked for".into());
        }
        if spec.cpus == 0 {
            return Err("a guest needs a CPU, none was asked for".into());
        }
        if spec.disks.len() > MOST_DISKS {
            return Err(format!(
                "Xen has {MOST_DISKS} disks here, {} were asked for",
                spec.disks.len()
            ));
        }
        if self.boot == XenBoot::Pygrub && spec.disks.is_empty() {
            return Err("it boots from its disk, and has none".into());
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if let Some(odd) = spec.name.chars().find(|c| !plain(*c)) {
            return Err(format!("a domain's name cannot have {odd:?}"));
        }
        let paths =
            spec.disks.iter().map(|disk| &disk.path).chain([&self.kernel]).chain(&self.initramfs);
        if let Some(path) =
            paths.into_iter().find(|path| path.to_str().is_none_or(|p| p.contains(['\n', '\0'])))
        {
            return Err(format!("{} is not a path that xl can read", path.display()));
        }
        Ok(())
    }

    fn confinement(&self, _spec: &MachineSpec) -> Confinement {
        Confinement::Keeper
    }

    fn create(&self, spec: &MachineSpec) -> Result<(), StartFailure> {
        create(spec)
    }

    fn command(&self, spec: &MachineSpec) -> VmmCommand {
        VmmCommand {
            program: "/proc/self/exe".into(),
            arguments: vec!["xen-keeper".into(), spec.run_dir.display().to_string()],
            environment: Vec::new(),
        }
    }

    fn sign(&self, line: &str) -> Option<Sign> {
        if let Some((_, words)) = line.split_once("Kernel panic - not syncing: ") {
            return Some(Sign::Panic(words.trim().to_owned()));
        }
        line.contains("reboot: Restarting system").then_some(Sign::Restarting)
    }

    fn judge(&self, end: &End) -> Exit {
        use std::os::unix::process::ExitStatusExt;
        let last = end.last_line.as_deref().unwrap_or("nothing on the console");
        match &end.panic {
            Some(words) => Exit::Crashed { reason: format!("kernel panic: {words}") },
            None if end.status.success() => Exit::PoweredOff,
            None if end.status.code() == Some(keeper::CRASHED) => {
                Exit::Crashed { reason: format!("the domain crashed; its last line: {last}") }
            }
            None if end.status.signal().is_some() => {
                Exit::VmmFailed { reason: "its domain was destroyed by somebody else".into() }
            }
            None => Exit::VmmFailed { reason: last.to_owned() },
        }
    }

    fn power_button(&self) -> Option<&dyn PowerButton> {
        Some(self)
    }

    fn controls(&self) -> Option<&dyn Controls> {
        Some(self)
    }

    fn undertaker(&self) -> Option<&dyn Undertaker> {
        Some(self)
    }
}

impl Controls for Xen {
    fn claims(&self) -> &'static [Capability] {
        &[Capability::NetworkLimit]
    }

    fn change(&self, _seat: &Seat<'_>, _change: &Change) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl PowerButton for Xen {
    /// What `xl shutdown` does: `docs/misc/xenstore-paths.pandoc` of Xen, `control/shutdown`.
    fn press(&self, seat: &Seat<'_>) -> io::Result<()> {
        let mut store = Store::open()?;
        let id = store.domain_of(&Identity::of(seat.spec).uuid)?.ok_or(io::ErrorKind::NotFound)?;
        let control = format!("/local/domain/{id}/control");
        // Only a guest that listens says so; one that does not yet would miss it.
        if store.read(&format!("{control}/feature-poweroff"))?.as_deref() != Some("1") {
            return Err(io::ErrorKind::NotConnected.into());
        }
        store.write(&format!("{control}/shutdown"), "poweroff")
    }

    /// The kernel runs `/sbin/poweroff`, and tells nobody when there is none: as long as
    /// it is in its initramfs.
    fn again(&self) -> Duration {
        PRESS_AGAIN
    }
}

impl Undertaker for Xen {
    fn end(&self, spec: &MachineSpec) -> io::Result<()> {
        destroy(&Toolstack::find()?, &Identity::of(spec).uuid)
    }
}

/// Memory that Xen has for new domains, bytes; none when it cannot be asked.
pub fn free_memory() -> Option<u64> {
    Some(Toolstack::find().ok()?.host().ok()?.free_memory << 20)
}

/// Processors that Xen has; none when it cannot be asked.
pub fn processors() -> Option<u32> {
    Some(Toolstack::find().ok()?.host().ok()?.processors)
}

/// Destroys the domain with this UUID and waits until it is gone.
fn destroy(tools: &Toolstack, uuid: &str) -> io::Result<()> {
    let Some(domain) = tools.domain(uuid)? else { return Ok(()) };
    let mut store = Store::open()?;
    store.watch("@releaseDomain")?;
    if !domain.dying {
        // One that ends meanwhile cannot be destroyed; what counts is whether it is there.
        tools.run(&["destroy", &domain.id.to_string()])?;
    }
    let end = Instant::now() + BURIAL;
    while tools.domain(uuid)?.is_some() {
        if !store.wait(end)? {
            let (name, limit) = (&domain.name, BURIAL.as_secs());
            return Err(io::Error::other(format!(
                "Xen has not taken down domain {name} within {limit} s"
            )));
        }
    }
    Ok(())
}

fn host(step: &str) -> impl FnOnce(io::Error) -> StartFailure {
    let step = step.to_owned();
    move |e| StartFailure::Host { step, why: e.to_string() }
}

/// Makes the domain, paused, with its disks and its card.
fn create(spec: &MachineSpec) -> Result<(), StartFailure> {
    let xen = Xen::of(&spec.vmm)
        .ok_or_else(|| host("make a domain")(io::ErrorKind::InvalidInput.into()))?;
    let tools = Toolstack::find().map_err(host("use Xen"))?;
    let mut store = Store::open().map_err(host("use Xen"))?;
    if xen.guest == XenGuest::Pvh && !tools.host().map_err(host("ask Xen"))?.hardware {
        let why = "this host's processor or Xen cannot run PVH guests; use pv";
        return Err(host("create its domain")(io::Error::other(why)));
    }
    let seat = spec.run_dir.join(seat_name());
    let arguments = config::kernel_arguments(spec);
    let from_disk = match xen.boot {
        XenBoot::Direct => None,
        XenBoot::Pygrub => Some(bootloader::read(&tools, spec, &arguments, &seat)?),
    };
    let boot = match &from_disk {
        Some(from_disk) => from_disk.boot.clone(),
        None => xen.of_host(arguments)?,
    };
    write(&seat.join(config::BLOCK_SCRIPT), include_str!("xen/block.sh"))?;
    if let Some(nic) = &spec.nic {
        let network = nic.namespace.display();
        File::open(&nic.namespace).map_err(host(&format!("find network namespace {network}")))?;
        write(&seat.join(config::CARD_SCRIPT), &card_script(nic, &xen.bridge))?;
    }
    let file = seat.join("domain.cfg");
    write(&file, &config::domain(spec, &xen, &boot, &seat))?;
    let made = tools
        .run(&["create", "-q", "-p", "-e", &file.to_string_lossy()])
        .map_err(host("run xl"))?;
    if !made.status.success() {
        let free = tools.host().map(|host| host.free_memory).ok();
        return Err(fault::of_create(&String::from_utf8_lossy(&made.stderr), spec, &xen, free));
    }
    release_loops(spec, &mut store).map_err(host("hand the disks to the domain"))
}

fn write(path: &Path, text: &str) -> Result<(), StartFailure> {
    use std::io::Write;
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(true).mode(0o700).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(host(&format!("write {}", path.display())))
}

/// The card's script: its values, then what it does with them.
fn card_script(nic: &Nic, bridge: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let namespace = nic.namespace.file_name().unwrap_or_default().to_string_lossy();
    let values = [
        ("namespace", &*namespace),
        ("name", &nic.tap),
        ("bridge", bridge),
        ("mac", &nic.mac),
        ("filter", nic.filter.as_deref().unwrap_or_default()),
    ];
    let values = values.map(|(name, value)| format!("{name}={}\n", quoted(value))).concat();
    format!("#!/bin/sh\n{values}{}", include_str!("xen/card.sh"))
}

/// Once the kernel holds a disk's loop device for the domain, it shall go with the domain:
/// detaching a device that is in use means "when nobody uses it any more", losetup(8).
fn release_loops(spec: &MachineSpec, store: &mut Store) -> io::Result<()> {
    let gone = || io::Error::other("the domain is gone already");
    let id = store.domain_of(&Identity::of(spec).uuid)?.ok_or_else(gone)?;
    let end = Instant::now() + DISK_LIMIT;
    for number in (0..spec.disks.len()).map(config::device_number) {
        let path = format!("/local/domain/0/backend/vbd/{id}/{number}/node");
        let device = store.read(&path)?.ok_or_else(gone)?;
        let held = format!("/sys/bus/xen-backend/devices/vbd-{id}-{number}/physical_device");
        while !Path::new(&held).exists() {
            if Instant::now() > end {
                return Err(io::Error::other(format!("the kernel does not open {device} for it")));
            }
            // sysfs tells of no new file: rarely one turn.
            std::thread::sleep(Duration::from_millis(5));
        }
        let done = std::process::Command::new("/sbin/losetup").arg("-d").arg(&device).status()?;
        if !done.success() {
            return Err(io::Error::other(format!("losetup -d {device}: {done}")));
        }
    }
    Ok(())
}
