//! A small initramfs for guests whose kernel has its drivers as modules: loads them,
//! mounts the guest's root and goes on there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::archive;

/// In the order in which they are loaded.
const MODULES: [&str; 6] = [
    "drivers/virtio/virtio_mmio",
    "drivers/block/virtio_blk",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/virtio/virtio_balloon",
];

const INIT: &str = "#!/bin/busybox sh
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
for module in MODULES; do busybox insmod /$module.ko; done
exec </dev/console >/dev/console 2>&1
for word in $(busybox cat /proc/cmdline); do
    case $word in init=*) init=${word#init=};; esac
done
for block in /sys/class/block/*; do
    busybox grep -q PARTNAME=gridgate-root $block/uevent && root=/dev/${block##*/}
done
busybox mount -t ext4 $root /new
busybox mount --move /dev /new/dev
busybox umount /proc /sys
exec busybox switch_root /new ${init:-/sbin/init}
";

/// Made once per test run.
pub fn path() -> &'static Path {
    static FILE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = FILE.get_or_init(|| {
        let work = tempfile::tempdir_in(archive::fixtures()).unwrap();
        let path = work.path().join("initramfs");
        fs::write(&path, image()).unwrap();
        // The VMM reads it as a user of its own.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        (work, path)
    });
    path
}

fn image() -> Vec<u8> {
    let mut archive = Vec::new();
    for folder in ["bin", "dev", "proc", "sys", "new"] {
        add(&mut archive, folder, 0o040_755, &[]);
    }
    let busybox = archive::tree().join("usr/bin/busybox");
    assert!(fs::metadata(&busybox).unwrap().size() > 0);
    add(&mut archive, "bin/busybox", 0o100_755, &fs::read(busybox).unwrap());
    let kernels = archive::cloud_kernel().join("usr/lib/modules");
    let kernel = fs::read_dir(kernels).unwrap().next().unwrap().unwrap().path().join("kernel");
    let mut names = Vec::new();
    for module in MODULES {
        let name = module.rsplit('/').next().unwrap();
        let packed = kernel.join(format!("{module}.ko.xz"));
        let output = Command::new("xz").arg("-dc").arg(packed).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        add(&mut archive, &format!("{name}.ko"), 0o100_644, &output.stdout);
        names.push(name);
    }
    let init = INIT.replace("MODULES", &names.join(" "));
    add(&mut archive, "init", 0o100_755, init.as_bytes());
    add(&mut archive, "TRAILER!!!", 0, &[]);
    archive
}

/// One file in the kernel's `newc` form: `Documentation/driver-api/early-userspace/buffer-format.rst`.
fn add(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    let (size, length) = (content.len(), name.len() + 1);
    let header = format!(
        "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{length:08x}{:08x}",
        0, 0, 0, 1, 0, 0, 0, 0, 0, 0
    );
    archive.extend(header.as_bytes());
    archive.extend(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}
