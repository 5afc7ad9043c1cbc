//! The jail's private root: a small tmpfs, read-only when done, with the VMM's
//! tree, its devices, its disks and its seat in it.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::step;
use crate::error::StartFailure;
use crate::spec::MachineSpec;
use crate::vmm::{Device, JailPlan, SEAT};

/// Directories of the VMM's tree that it may see.
const TREE: [&str; 5] = ["usr", "lib", "lib64", "bin", "sbin"];

/// Where the root is put together, in the run directory: empty on the host's side.
pub(crate) const SCAFFOLD: &str = "jail";

/// The seat's name in the run directory.
pub(crate) fn seat_name() -> &'static str {
    SEAT.trim_start_matches('/')
}

/// Gives the calling process, in a new mount namespace, its root.
pub(super) fn build(
    run_dir: &Path,
    spec: &MachineSpec,
    plan: &JailPlan,
) -> Result<(), StartFailure> {
    let new = run_dir.join(SCAFFOLD);
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|e| step("make mounts private")(e.into()))?;
    tmpfs(&new, MountFlags::NOSUID, "size=256k,mode=0755")?;
    bind_tree(&plan.root, &new)?;
    make_devices(&new, plan)?;
    for name in ["proc", "tmp", "disks", seat_name()] {
        directory(&new.join(name))?;
    }
    let strict = MountFlags::NOSUID | MountFlags::NODEV;
    let none: Option<&std::ffi::CStr> = None;
    mount("proc", new.join("proc"), "proc", strict | MountFlags::NOEXEC, none)
        .map_err(|e| step("mount /proc")(e.into()))?;
    tmpfs(&new.join("tmp"), strict, "size=16m,mode=1777")?;
    let shared = format!("size={},mode=1777", plan.shared_memory);
    // A VMM may map its guest's memory executable: no NOEXEC.
    tmpfs(&new.join("dev/shm"), strict, &shared)?;
    for (number, disk) in spec.disks.iter().enumerate() {
        let place = new.join("disks").join(number.to_string());
        let write = if disk.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        bind_file(&disk.path, &place, MountFlags::NOSUID | MountFlags::NOEXEC | write)?;
    }
    if !plan.files.is_empty() {
        directory(&new.join("boot"))?;
    }
    for (file, name) in &plan.files {
        let flags = strict | MountFlags::NOEXEC | MountFlags::RDONLY;
        bind_file(file, &new.join("boot").join(name), flags)?;
    }
    bind(&run_dir.join(seat_name()), &new.join(seat_name()), strict | MountFlags::NOEXEC)?;
    enter(&new)
}

/// Makes `new` the root, lets go of the old one and closes `new` for writing.
fn enter(new: &Path) -> Result<(), StartFailure> {
    let fault = |e: rustix::io::Errno| step("change the root")(e.into());
    chdir(new).map_err(fault)?;
    pivot_root(".", ".").map_err(fault)?;
    // The old root lies over the new one now: pivot_root(2), NOTES.
    unmount(".", UnmountFlags::DETACH).map_err(fault)?;
    chdir("/").map_err(fault)?;
    mount_remount("/", MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID, "")
        .map_err(|e| step("make the root read-only")(e.into()))
}

fn tmpfs(place: &Path, flags: MountFlags, options: &str) -> Result<(), StartFailure> {
    directory(place)?;
    let name = format!("mount a tmpfs on {}", place.display());
    let options = std::ffi::CString::new(options).map_err(|e| step(&name)(e.into()))?;
    mount("gridgate", place, "tmpfs", flags, options.as_c_str()).map_err(|e| step(name)(e.into()))
}

fn directory(place: &Path) -> Result<(), StartFailure> {
    std::fs::create_dir_all(place).map_err(|e| step(format!("make {}", place.display()))(e.into()))
}

fn bind_file(from: &Path, to: &Path, flags: MountFlags) -> Result<(), StartFailure> {
    std::fs::write(to, "")
        .map_err(|e| step(format!("make a place for {}", from.display()))(e.into()))?;
    bind(from, to, flags)
}

fn bind(from: &Path, to: &Path, flags: MountFlags) -> Result<(), StartFailure> {
    mount_bind(from, to)
        .and_then(|()| mount_remount(to, MountFlags::BIND | flags, ""))
        .map_err(|e| step(format!("show {}", from.display()))(e.into()))
}

/// Real directories are bound, links of a merged `/usr` are made anew.
fn bind_tree(tree: &Path, new: &Path) -> Result<(), StartFailure> {
    for name in TREE {
        let (from, to) = (tree.join(name), new.join(name));
        match std::fs::symlink_metadata(&from) {
            Ok(found) if found.is_dir() => {
                directory(&to)?;
                let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
                bind(&from, &to, flags)?;
            }
            _ if tree.join("usr").join(name).is_dir() => {
                symlink(PathBuf::from("usr").join(name), &to)
                    .map_err(|e| step(format!("link /{name}"))(e.into()))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Fresh nodes, so that their modes are the jail's own: the kernel's
/// `Documentation/admin-guide/devices.txt` has the numbers.
fn make_devices(new: &Path, plan: &JailPlan) -> Result<(), StartFailure> {
    let mut nodes = vec![("null", 1, 3), ("zero", 1, 5), ("random", 1, 8), ("urandom", 1, 9)];
    for device in &plan.devices {
        match device {
            Device::Tun => nodes.push(("net/tun", 10, 200)),
            Device::Kvm => nodes.push(("kvm", 10, 232)),
        }
    }
    for (name, major, minor) in nodes {
        let path = new.join("dev").join(name);
        if let Some(parent) = path.parent() {
            directory(parent)?;
        }
        let number = makedev(major, minor);
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), number)
            .map_err(std::io::Error::from)
            .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o666)))
            .map_err(|e| step(format!("make /dev/{name}"))(e.into()))?;
    }
    Ok(())
}
