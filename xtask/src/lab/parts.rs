//! What the lab is made of, through the depot: signatures and hashes are checked as for a
//! site. Packages are pinned in the cache, so that a second run needs no network and is
//! the same; delete `target/lab/pins.json` to take what the archive has now.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gridgate_depot::{
    Depot, DepotEvent, Lock, LooseRequest, Mirrors, Overlay, PinnedPackage, Progress,
    RoleImageRequest,
};
use serde::{Deserialize, Serialize};

/// Debian release of everything in the lab.
const SUITE: &str = "trixie";

/// The host's system: Xen's toolstack, and what the tests call.
const PACKAGES: [&str; 7] =
    ["xen-utils-4.20", "xen-utils-common", "xenstore-utils", "iproute2", "busybox", "udev", "kmod"];

/// The role's name in the lock.
const ROLE: &str = "lab";

/// The lab's parts, all below the cache.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// The root of Xen's privileged domain, or of KVM's host; raw ext4.
    pub(crate) image: PathBuf,
    /// Xen, packed with gzip.
    pub(crate) xen: PathBuf,
    /// Its kernel.
    pub(crate) kernel: PathBuf,
    /// Its modules, `kernel/…` below.
    pub(crate) modules: PathBuf,
    /// A kernel for guests and its modules.
    pub(crate) guest_kernel: PathBuf,
    pub(crate) guest_modules: PathBuf,
    /// A busybox that needs no library.
    pub(crate) busybox: PathBuf,
    /// The depot's QEMU: a tree with the program, its libraries and firmware.
    pub(crate) qemu: PathBuf,
}

#[derive(Default, Serialize, Deserialize)]
struct Pins {
    lock: String,
    boot: Vec<PinnedPackage>,
    guest: Vec<PinnedPackage>,
}

/// Finds or makes them; one lab after the other.
pub(crate) fn get() -> Result<Parts> {
    let cache = super::cache()?;
    let lock = fs::File::create(cache.join("lock")).context("cannot make the cache's lock")?;
    lock.lock().context("cannot lock the cache")?;
    let depot = Depot::open(&cache.join("depot"))?;
    let mirrors = Mirrors::discover(None, None)?;
    let note = cache.join("pins.json");
    let old: Pins = match fs::read(&note) {
        Ok(text) => serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged; delete it", note.display()))?,
        Err(_) => Pins::default(),
    };
    let boot = depot.loose(&mirrors, &boot_request(&old.boot), &Told)?;
    let guest = depot.loose(&mirrors, &guest_request(&old.guest), &Told)?;
    let lock = match old.lock.as_str() {
        "" => None,
        text => Some(Lock::parse(text)?),
    };
    let role = RoleImageRequest {
        role: ROLE.into(),
        packages: BTreeSet::from(PACKAGES.map(String::from)),
        overlay: Overlay::default(),
        modules: None,
    };
    let qemu = depot.qemu(&mirrors, lock.as_ref(), &Told)?;
    let mut built = depot.role_images(&mirrors, &[role], lock.as_ref(), &Told)?;
    built.lock.set_qemu(&qemu.packages);
    let image = built.images.first().context("the depot made no image")?.path.clone();
    let new = Pins { lock: built.lock.to_text(), boot: boot.packages, guest: guest.packages };
    let text = serde_json::to_vec_pretty(&new)?;
    let fresh = cache.join(format!("pins.json.{}", std::process::id()));
    fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &note))?;
    Ok(Parts {
        image,
        xen: only(&boot.root.join("boot"), |name| {
            name.starts_with("xen-") && name.ends_with(".gz")
        })?,
        kernel: only(&boot.root.join("boot"), |name| name.starts_with("vmlinuz-"))?,
        modules: only(&boot.root.join("usr/lib/modules"), |_| true)?,
        guest_kernel: only(&guest.root.join("boot"), |name| name.starts_with("vmlinuz-"))?,
        guest_modules: only(&guest.root.join("usr/lib/modules"), |_| true)?,
        busybox: boot.root.join("usr/bin/busybox"),
        qemu: qemu.root,
    })
}

/// Xen, a kernel that can be its privileged domain, busybox.
fn boot_request(pins: &[PinnedPackage]) -> LooseRequest<'_> {
    LooseRequest {
        name: "xen",
        suite: SUITE,
        packages: &["xen-hypervisor-4.20-amd64", "linux-image-amd64", "busybox-static"],
        takes: |name| {
            name.starts_with("linux-image-6")
                || ["xen-hypervisor-4.20-amd64", "busybox-static"].contains(&name)
        },
        keeps: |path| {
            path.starts_with("boot")
                || path.starts_with("usr/lib/modules")
                || path == Path::new("usr/bin/busybox")
        },
        recipe: "1",
        pins,
    }
}

/// The kernel for guests.
fn guest_request(pins: &[PinnedPackage]) -> LooseRequest<'_> {
    LooseRequest {
        name: "guest",
        suite: SUITE,
        packages: &["linux-image-cloud-amd64"],
        takes: |name| name.starts_with("linux-image-6"),
        keeps: |path| path.starts_with("boot") || path.starts_with("usr/lib/modules"),
        recipe: "1",
        pins,
    }
}

/// The one entry of a folder that is meant.
fn only(folder: &Path, meant: fn(&str) -> bool) -> Result<PathBuf> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let found = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| meant(name));
    let name = found.with_context(|| format!("{} lacks what the lab needs", folder.display()))?;
    Ok(folder.join(name))
}

/// A line on standard error for each step that takes its time.
struct Told;

impl Progress for Told {
    fn event(&self, event: DepotEvent) {
        if let DepotEvent::StageFinished { subject, stage, millis } = event
            && millis >= 200
        {
            super::boot::say(&format!("{subject}: {} took {millis} ms", stage.word()));
        }
    }
}
