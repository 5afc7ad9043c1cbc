//! Becoming a user between `fork` and `exec`. The only module with `unsafe`
//! about processes; it does nothing else.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Gid, Uid};

/// A user to run a program as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group's id.
    pub gid: u32,
    /// All groups' ids.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// Makes `command` run as `login`, with its groups and nothing of the agent's.
pub(crate) fn run_as(command: &mut Command, login: &Login) {
    let groups: Vec<Gid> = login.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(login.uid), Gid::from_raw(login.gid));
    let become_user = move || {
        // The child has one thread, so the per-thread calls change all of it.
        // Groups and group first: the user may not change them any more.
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    };
    // SAFETY: the closure runs in the forked child of a process with threads, so
    // it may only do what is async-signal-safe. It makes three plain system calls
    // (rustix issues them directly, libc's wrappers included at most) on memory
    // that was allocated before the fork, and it neither allocates nor locks.
    unsafe {
        command.pre_exec(become_user);
    }
}
