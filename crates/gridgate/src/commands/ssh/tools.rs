//! An ssh client from a Debian root tree, for hosts that have none.
//!
//! The tree belongs to the depot and is shared, so nothing is written to it: this process gets a mount namespace
//! of its own, in which a small memory file system on the tree's `/run` holds the key and shows the list of
//! known hosts. All of it is gone when the process ends.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gridgate_protocol::site_api::Access;
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::Files;

/// The client in the tree.
pub const PROGRAM: &str = "/usr/bin/ssh";

/// Folder in the tree that every Debian root has and that holds nothing we need.
const PLACE: &str = "run";

/// Key and known hosts as the client sees them.
pub fn files() -> Files {
    let place = Path::new("/").join(PLACE);
    Files { key: place.join("key"), known_hosts: place.join("known_hosts") }
}

/// Makes `root` this process's root directory, with devices, key and known hosts in place.
pub fn enter(root: &Path, access: &Access) -> io::Result<()> {
    // SAFETY: this process has one thread (the runtime is gone), so no other thread can be surprised by a
    // mount namespace or working directory that it does not share.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    for shared in ["dev", "proc"] {
        mount_bind_recursive(Path::new("/").join(shared), root.join(shared))?;
    }
    // Read before /run is covered: with the host's own root as the tree they may be the same folder.
    let key = fs::read(&access.key)?;
    let known_hosts = open_known_hosts(&access.known_hosts)?;
    let place = root.join(PLACE);
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", &place, "tmpfs", flags, Some(c"size=1m,mode=0700"))?;
    let private = || {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options
    };
    io::Write::write_all(&mut private().open(place.join("key"))?, &key)?;
    private().open(place.join("known_hosts"))?;
    mount_bind(known_hosts, place.join("known_hosts"))?;
    rustix::process::chroot(root)?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// The list of known hosts, made when it is missing.
fn open_known_hosts(path: &Path) -> io::Result<PathBuf> {
    fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    Ok(path.to_owned())
}
