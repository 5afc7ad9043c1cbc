//! A guest for the lab: a kernel, and an initramfs that finds the root file system by its
//! partition's name and goes there, or stays as a shell when the kernel's arguments name none.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Hypervisor;
use super::initramfs::Archive;
use super::modules::load_order;
use super::parts::Parts;
use super::payload::Entry;

/// Where it is in the lab.
pub(crate) const FOLDER: &str = "/lab/guest";

/// Disk and network of a guest.
fn modules(hypervisor: Hypervisor) -> &'static [&'static str] {
    match hypervisor {
        Hypervisor::Xen => &["xen_blkfront", "xen_netfront"],
        Hypervisor::Kvm => &["virtio_mmio", "virtio_blk", "virtio_net", "virtio_balloon"],
    }
}

/// `vmlinux`, unpacked as nodes have it, `initramfs` and `busybox` in [`FOLDER`]; for Xen also `vmlinuz`, as disks have it,
/// for KVM `qemu`, the tree.
pub(crate) fn entries(hypervisor: Hypervisor, parts: &Parts) -> Result<Vec<Entry>> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "root"] {
        archive.folder(folder);
    }
    let busybox = fs::read(&parts.busybox).context("cannot read busybox")?;
    archive.program("init", include_bytes!("scripts/guest.sh"));
    archive.program("bin/busybox", &busybox);
    archive.modules(&load_order(&parts.guest_modules, modules(hypervisor))?);
    let name = hypervisor.vmm();
    let initramfs = kept(&format!("{name}-initramfs"), &archive.finish())?;
    let entry = |from, name: &str| Entry { from, to: format!("{FOLDER}/{name}").into() };
    let mut entries = vec![entry(initramfs, "initramfs"), entry(parts.busybox.clone(), "busybox")];
    let packed = fs::read(&parts.guest_kernel).context("cannot read the guest's kernel")?;
    let kernel = gridgate_depot::unpacked_kernel(&packed)
        .context("the guest's kernel cannot be unpacked")?;
    entries.push(entry(kept(&format!("{name}-kernel"), &kernel)?, "vmlinux"));
    entries.push(match hypervisor {
        Hypervisor::Xen => entry(parts.guest_kernel.clone(), "vmlinuz"),
        Hypervisor::Kvm => entry(parts.qemu.clone(), "qemu"),
    });
    Ok(entries)
}

/// A file of the cache with this content.
fn kept(name: &str, content: &[u8]) -> Result<PathBuf> {
    let path = super::cache()?.join(name);
    let fresh = path.with_extension(std::process::id().to_string());
    File::create(&fresh)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&fresh, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
