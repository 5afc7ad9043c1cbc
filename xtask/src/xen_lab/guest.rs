//! A guest for the lab: a kernel, and an initramfs that finds the root file system by its
//! partition's name and goes there, or stays as a shell when the kernel's arguments name none.

use std::fs::{self, File};
use std::io::Write;

use anyhow::{Context, Result};

use super::initramfs::Archive;
use super::modules::load_order;
use super::parts::Parts;
use super::payload::Entry;

/// Where it is in the lab.
pub(crate) const FOLDER: &str = "/lab/guest";

/// Disk and network of a guest domain.
const MODULES: [&str; 2] = ["xen_blkfront", "xen_netfront"];

/// `vmlinuz`, `initramfs` and `busybox` in [`FOLDER`].
pub(crate) fn entries(parts: &Parts) -> Result<Vec<Entry>> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "root"] {
        archive.folder(folder);
    }
    let busybox = fs::read(&parts.busybox).context("cannot read busybox")?;
    archive.program("init", include_bytes!("lab/guest.sh"));
    archive.program("bin/busybox", &busybox);
    archive.modules(&load_order(&parts.guest_modules, &MODULES)?);
    let path = super::cache()?.join("guest-initramfs");
    let fresh = path.with_extension(std::process::id().to_string());
    File::create(&fresh)
        .and_then(|mut file| file.write_all(&archive.finish()))
        .and_then(|()| fs::rename(&fresh, &path))
        .context("cannot write the guest's initramfs")?;
    let entry = |from, name: &str| Entry { from, to: format!("{FOLDER}/{name}").into() };
    Ok(vec![
        entry(parts.guest_kernel.clone(), "vmlinuz"),
        entry(path, "initramfs"),
        entry(parts.busybox.clone(), "busybox"),
    ])
}
