//! What is mounted before anything else, and the root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use super::{InitError, io};

/// Where the machine's own root is mounted before it becomes the root.
pub(crate) const NEW_ROOT: &str = "/new";

/// Kernel file systems: type, place, flags. They move along into the new root.
pub(crate) const BASIC: [(&str, &str, MountFlags); 4] = [
    ("devtmpfs", "/dev", MountFlags::NOSUID),
    ("proc", "/proc", HARDENED),
    ("sysfs", "/sys", HARDENED),
    ("tmpfs", "/run", MountFlags::NOSUID.union(MountFlags::NODEV)),
];

const HARDENED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// `RAMFS_MAGIC` and `TMPFS_MAGIC` of the kernel's `include/uapi/linux/magic.h`.
const IN_MEMORY: [i64; 2] = [0x8584_58f6, 0x0102_1994];

/// Whether the root is an initial RAM file system: anything else must never be emptied.
pub(crate) fn root_is_in_memory() -> bool {
    rustix::fs::statfs("/").is_ok_and(|root| IN_MEMORY.contains(&root.f_type))
}

/// Mounts them.
pub(crate) fn basic() -> Result<(), InitError> {
    for (kind, place, flags) in BASIC {
        make_folder(place)?;
        let data = (place == "/run").then_some(c"mode=0755");
        mount(kind, place, kind, flags, data).map_err(io("mount", place))?;
    }
    // Programs expect these links of whoever mounts /dev.
    for (link, target) in [("/dev/fd", "/proc/self/fd"), ("/dev/stdin", "fd/0")] {
        if !Path::new(link).exists() {
            symlink(target, link).map_err(io("make", link))?;
        }
    }
    Ok(())
}

/// Mounts a file system.
pub(crate) fn file_system(
    device: &str,
    place: &str,
    kind: &str,
    writable: bool,
) -> Result<(), InitError> {
    make_folder(place)?;
    let flags = if writable { MountFlags::empty() } else { MountFlags::RDONLY };
    mount(device, place, kind, flags, None)
        .map_err(io("mount", format_args!("{device} on {place}")))
}

/// Tells systemd to leave a mount alone, by its unit's name, systemd.unit(5). At a stop it would unmount it while the
/// device manager still reads there, and say on the console that this failed; what is left is unmounted when all
/// processes have ended. In `/run`, so that nothing on the machine's disk depends on its VMM.
pub(crate) fn left_to_the_end(unit: &str) -> Result<(), InitError> {
    let folder = format!("/run/systemd/system/{unit}.mount.d");
    let file = format!("{folder}/gridgate.conf");
    make_folder(&folder)?;
    fs::write(&file, "[Unit]\nDefaultDependencies=no\n").map_err(io("write", file))
}

/// Makes a folder and those above it, unless it is there.
pub(super) fn make_folder(place: &str) -> Result<(), InitError> {
    if Path::new(place).is_dir() {
        return Ok(());
    }
    fs::create_dir_all(place).map_err(io("make", place))
}
