//! A small guest: busybox as init, a shell on the console.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use gridgate_machine::qemu::emulated;

use crate::archive::{self, run};

/// Printed when init is up; before the shell.
pub const READY: &str = "guest is ready";

const START: &str = "#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo 'guest is ready'
";

const INITTAB: &str = "::sysinit:/etc/start
::respawn:/bin/sh
::ctrlaltdel:/bin/poweroff
";

const SIZE: u64 = 32 << 20;

/// What the guest's own boot loader would boot, as grub-mkconfig writes it.
const GRUB: &str = "set default=0
set timeout=5
menuentry 'The guest' --class gnu-linux {
        search --no-floppy --label --set=root guest
        linux /boot/vmlinuz root=PARTLABEL=gridgate-root ro from=disk
        initrd /boot/initramfs
}
";

/// An ext4 image of the guest and what is added to its root; as mke2fs makes it, with all that is new in ext4.
fn image(add: impl FnOnce(&Path)) -> (tempfile::TempDir, PathBuf) {
    let work = tempfile::tempdir_in(archive::fixtures()).unwrap();
    let root = work.path().join("root");
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy(archive::busybox(), root.join("bin/busybox")).unwrap();
    for applet in ["sh", "mount", "poweroff", "reboot", "init", "sync", "cat", "ls", "yes", "grep"]
    {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::os::unix::fs::symlink("bin/busybox", root.join("init")).unwrap();
    // Where a kernel looks that was told by its hypervisor to power off.
    std::os::unix::fs::symlink("bin", root.join("sbin")).unwrap();
    fs::write(root.join("etc/inittab"), INITTAB).unwrap();
    fs::write(root.join("etc/start"), START).unwrap();
    run(Command::new("chmod").arg("755").arg(root.join("etc/start")));
    add(&root);
    let image = work.path().join("image");
    fs::File::create(&image).unwrap().set_len(SIZE).unwrap();
    run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(&root).arg(&image));
    fs::remove_dir_all(&root).unwrap();
    (work, image)
}

/// A new disk with the guest on it.
pub fn disk(path: &Path) {
    static IMAGE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, image) = IMAGE.get_or_init(|| image(|_| {}));
    write(path, image);
}

/// A new disk with the guest, its own kernel and initramfs and a boot loader's configuration that names them.
pub fn disk_with_kernel(path: &Path, kernel: &Path, initramfs: &Path) {
    let (_work, image) = image(|root| {
        let boot = root.join("boot");
        fs::create_dir_all(boot.join("grub")).unwrap();
        fs::copy(kernel, boot.join("vmlinuz")).unwrap();
        fs::copy(initramfs, boot.join("initramfs")).unwrap();
        fs::write(boot.join("grub/grub.cfg"), GRUB).unwrap();
    });
    write(path, &image);
}

/// A new disk whose root file system is this image.
fn write(path: &Path, image: &Path) {
    let plan = gridgate_disk::DiskPlan {
        path: path.to_owned(),
        size: SIZE + (8 << 20),
        root_image: image.to_owned(),
        swap: 0,
        seed: 0,
        data: Vec::new(),
        owner: (0, 0),
    };
    gridgate_disk::create(&plan, &mut |_, _| {}).unwrap();
}

/// Kernel arguments that boot it.
pub fn kernel_arguments() -> Vec<String> {
    let root = ["root=PARTLABEL=gridgate-root", "rootfstype=ext4", "rw", "init=/init", "panic=1"];
    // The kernel's tests of its ciphers take a good part of an emulated guest's boot. In a lab all processors are emulated.
    let spared = archive::lab_guest().map(|_| emulated::KERNEL);
    let words = root.into_iter().chain(["cryptomgr.notests"]);
    words.chain(spared.into_iter().flatten()).map(String::from).collect()
}
