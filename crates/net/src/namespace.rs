//! Named network namespaces: files in `/run/netns` with a namespace mounted on them, as
//! `ip netns` makes and finds them.
//!
//! A thread's namespace is changed only on a thread made for that, which ends with the work.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock, statfs};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, unmount,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::NetError;
use crate::error::io;
use crate::plan::check_namespace;

mod unshare;

const DIRECTORY: &str = "/run/netns";
/// `NSFS_MAGIC` of `linux/magic.h`: the file system that namespaces are files of.
const NSFS: u64 = 0x6e73_6673;

/// Whether something was made or was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    New,
    Present,
}

/// Where the namespace `name` is (or would be).
pub fn namespace_path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Whether there is a namespace of this name.
pub fn exists(name: &str) -> bool {
    is_namespace(&namespace_path(name))
}

fn is_namespace(path: &Path) -> bool {
    #[allow(clippy::unnecessary_cast, reason = "its type differs between architectures")]
    statfs(path).is_ok_and(|stat| stat.f_type as u64 == NSFS)
}

/// Makes the namespace unless it is there.
pub(crate) fn make(name: &str) -> Result<Made, NetError> {
    check_namespace(name)?;
    let directory = prepare_directory()?;
    // Held until the file is closed: two that make namespaces at once do not meet.
    flock(&directory, FlockOperation::LockExclusive).map_err(io("lock", DIRECTORY))?;
    share_directory()?;
    let path = namespace_path(name);
    if is_namespace(&path) {
        return Ok(Made::Present);
    }
    // A file without a namespace is what someone left who was ended in between.
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o400)
        .open(&path)
        .map_err(io("make", path.display()))?;
    let mount = || {
        unshare::network().map_err(io("make a network namespace for", path.display()))?;
        mount_bind("/proc/thread-self/ns/net", &path).map_err(io("mount", path.display()))
    };
    let made = on_own_thread(mount)?;
    if made.is_err() {
        let _ = std::fs::remove_file(&path);
    }
    made.map(|()| Made::New)
}

fn prepare_directory() -> Result<File, NetError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(DIRECTORY)
        .and_then(|()| File::open(DIRECTORY))
        .map_err(io("make", DIRECTORY))
}

/// Makes mounts in the directory seen in other mount namespaces too, and so that an
/// unmount here is one there: else a namespace would live on in them.
fn share_directory() -> Result<(), NetError> {
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    match mount_change(DIRECTORY, shared) {
        Err(Errno::INVAL) => {
            mount_bind_recursive(DIRECTORY, DIRECTORY).map_err(io("mount", DIRECTORY))?;
            mount_change(DIRECTORY, shared)
        }
        other => other,
    }
    .map_err(io("share mounts in", DIRECTORY))
}

/// Unmounts and removes the namespace; `false` when there was none. Its bridge, taps,
/// addresses and filters go with it once no process is left inside.
pub async fn remove(namespace: &str) -> Result<bool, NetError> {
    let name = namespace.to_owned();
    let work = tokio::task::spawn_blocking(move || remove_now(&name)).await;
    work.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn remove_now(name: &str) -> Result<bool, NetError> {
    check_namespace(name)?;
    let path = namespace_path(name);
    // More than one can lie on the same file; EINVAL says that none does any more.
    loop {
        match unmount(&path, UnmountFlags::DETACH) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(error) => return Err(io("unmount", path.display())(error)),
        }
    }
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io("remove", path.display())(error)),
    }
}

/// Runs `work` inside the namespace, on a thread of its own that ends with it, so that
/// no other code ever finds itself in there. A socket made by `work` stays in the
/// namespace wherever it is used.
pub fn in_namespace<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NetError> {
    let namespace = open(path)?;
    on_own_thread(|| {
        enter(namespace.as_fd()).map_err(io("enter", path.display()))?;
        Ok(work())
    })?
}

/// Makes the child that `command` starts enter the namespace before it executes.
/// (For `tokio::process::Command`: `as_std_mut`.)
pub fn enter_in_child(command: &mut Command, path: &Path) -> Result<(), NetError> {
    let namespace = open(path)?;
    unshare::before_exec(command, move || Ok(enter(namespace.as_fd())?));
    Ok(())
}

fn open(path: &Path) -> Result<File, NetError> {
    if !is_namespace(path) {
        return Err(NetError::NoNamespace { path: path.to_owned() });
    }
    File::open(path).map_err(io("open", path.display()))
}

fn enter(namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NetError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("namespace".to_owned())
            .spawn_scoped(scope, work)
            .map_err(io("start a thread for", "a network namespace"))?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
