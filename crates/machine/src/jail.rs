//! What the VMM process may see and do. The shim runs this program again as
//! `jail RUN_DIR`, as first process of a new pid namespace; it builds the jail
//! around itself, starts the VMM in it and stays as that namespace's init.
//!
//! ```text
//! root, host's view ─▶ cgroup ─▶ site's network ─▶ new mount, ipc, uts namespaces ─▶ private root
//!       ─▶ resource limits ─▶ own uid, no capabilities, no new privileges, dies with its shim
//!       ─▶ spawn the VMM, reap, tell how it ended
//! ```
//! A VMM that is no process of this host has a keeper instead, which is put into the
//! control group and is otherwise not shut in: [`Confinement::Keeper`].
//!
//! The VMM is not init itself: the kernel spares an init the signals it sends
//! itself, so User-Mode Linux would spin in `abort()` after a panic: pid_namespaces(7).
//!
//! Standard input and output are the console's pipes, for the VMM. Standard error is
//! the pipe to the shim, on which [`Word`]s go, one JSON object a line.

mod privileges;
mod root;

pub(crate) use root::{SCAFFOLD, seat_name};

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, WaitOptions, setrlimit, wait};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::error::StartFailure;
use crate::namespace::{Namespace, enter_new};
use crate::spec::{MachineSpec, RunDir};
use crate::vmm::{Confinement, JailPlan};
use crate::{atomic, placement};

/// What the jail tells its shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "jail", rename_all = "kebab-case")]
pub(crate) enum Word {
    /// The VMM runs.
    Started,
    /// It does not.
    Failed { why: StartFailure },
    /// It has ended with this wait status, wait(2).
    Ended { status: i32 },
}

impl Word {
    fn send(&self, pipe: &mut File) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        pipe.write_all(&line)
    }
}

/// Hidden command `jail RUN_DIR`: runs the VMM of `RUN_DIR/spec.json` in its jail.
#[must_use]
pub fn jail_main(run_dir: &Path) -> i32 {
    let mut report = match take_report() {
        Ok(report) => report,
        Err(e) => {
            tracing::error!("jail: no standard error to report on: {e}");
            return 1;
        }
    };
    let last = match prepare(run_dir).and_then(|(command, kernel)| spawn(command, kernel)) {
        // A shim that is gone before the death signal was set is noticed here.
        Ok(vmm) => Word::Started.send(&mut report).and_then(|()| reap(vmm)),
        Err(why) => Ok(Word::Failed { why }),
    };
    // The shim is the only one to tell, and it may be gone.
    let told = last.and_then(|word| word.send(&mut report));
    i32::from(told.is_err())
}

/// Moves the pipe away from standard error, where the VMM's console goes.
fn take_report() -> std::io::Result<File> {
    let report = std::io::stderr().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stderr(rustix::stdio::stdout())?;
    Ok(report.into())
}

/// A step of building the jail, for the message.
fn step(name: impl Into<String>) -> impl FnOnce(Box<dyn std::error::Error>) -> StartFailure {
    let step = name.into();
    move |e| StartFailure::Jail { step, why: e.to_string() }
}

fn spawn(mut command: Command, kernel: PathBuf) -> Result<Pid, StartFailure> {
    let fault = |why: String| StartFailure::Kernel { kernel, why };
    match command.spawn() {
        Ok(child) => Pid::from_raw(child.id().cast_signed())
            .ok_or_else(|| fault("has no process number".into())),
        Err(e) => Err(fault(format!("cannot be executed: {e}"))),
    }
}

/// Waits for every process of the namespace until the VMM's own first one ends.
/// When this returns and the jail ends, the kernel ends what is left.
fn reap(vmm: Pid) -> std::io::Result<Word> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == vmm => {
                return Ok(Word::Ended { status: status.as_raw() });
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn prepare(run_dir: &Path) -> Result<(Command, PathBuf), StartFailure> {
    let spec: MachineSpec = atomic::read_json(&RunDir(run_dir).spec())
        .and_then(|found| found.ok_or_else(|| std::io::ErrorKind::NotFound.into()))
        .map_err(|e| step("read spec.json")(e.into()))?;
    let vmm = spec.vmm.vmm();
    vmm.examine()?;
    Group::of(&spec.limits.cgroup)
        .and_then(|group| group.join())
        .map_err(|e| step("join the control group")(e.into()))?;
    if spec.limits.one_processor {
        placement::stay_here().map_err(|e| step("choose a processor")(e.into()))?;
    }
    let root = match vmm.confinement(&spec) {
        Confinement::Jail(plan) => {
            shut_in(run_dir, &spec, &plan)?;
            plan.root
        }
        Confinement::Keeper => {
            privileges::die_with_the_shim()?;
            vmm.create(&spec)?;
            PathBuf::from("/")
        }
    };
    let line = vmm.command(&spec);
    let mut command = Command::new(&line.program);
    command.args(&line.arguments).env_clear().envs(line.environment);
    let kernel = root.join(line.program.strip_prefix("/").unwrap_or(&line.program));
    Ok((command, kernel))
}

/// Takes from the calling process what the VMM shall not have.
fn shut_in(run_dir: &Path, spec: &MachineSpec, plan: &JailPlan) -> Result<(), StartFailure> {
    enter_network(spec)?;
    enter_new(&[Namespace::Mount, Namespace::Ipc, Namespace::HostName])
        .map_err(|e| step("make namespaces")(e.into()))?;
    // A host name has 64 bytes at most: sethostname(2).
    let name = &spec.name.as_bytes()[..spec.name.len().min(64)];
    rustix::system::sethostname(name).map_err(|e| step("set the host name")(e.into()))?;
    // The VMM's user must be able to walk through what root makes here.
    let strict = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    root::build(run_dir, spec, plan)?;
    rustix::process::umask(strict);
    limit_resources(plan.open_files)?;
    privileges::drop_all(spec.uid, spec.gid)
}

/// The site's network, or a new one with nothing in it.
fn enter_network(spec: &MachineSpec) -> Result<(), StartFailure> {
    let Some(nic) = &spec.nic else {
        return enter_new(&[Namespace::Network])
            .map_err(|e| step("make a network namespace")(e.into()));
    };
    let name = format!("enter network namespace {}", nic.namespace.display());
    let entered = File::open(&nic.namespace).and_then(|namespace| {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    });
    entered.map_err(|e| step(name)(e.into()))
}

fn limit_resources(open_files: u64) -> Result<(), StartFailure> {
    let exactly = |value| Rlimit { current: Some(value), maximum: Some(value) };
    for (resource, value) in [(Resource::Core, 0), (Resource::Nofile, open_files)] {
        setrlimit(resource, exactly(value))
            .map_err(|e| step(format!("limit {resource:?}"))(e.into()))?;
    }
    Ok(())
}
