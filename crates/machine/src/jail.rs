//! What the VMM process may see and do. The shim runs this program again as
//! `jail RUN_DIR`, as first process of a new pid namespace; it builds the jail
//! around itself and then becomes the VMM. Nothing of it stays.
//!
//! ```text
//! root, host's view ─▶ cgroup ─▶ site's network ─▶ new mount, ipc, uts namespaces ─▶ private root
//!       ─▶ resource limits ─▶ own uid, no capabilities, no new privileges, dies with its shim ─▶ exec
//! ```
//! Standard input and output are the console's pty. Standard error is, until the
//! exec, the pipe on which a [`StartFailure`] goes to the shim; its end means success.

mod privileges;
mod root;

pub(crate) use root::{SCAFFOLD, seat_name};

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::atomic;
use crate::cgroup::Group;
use crate::error::StartFailure;
use crate::namespace::{Namespace, enter_new};
use crate::spec::{MachineSpec, RunDir};

/// Written to the pipe just before the exec: fails when the shim is gone, which
/// the death signal, set a moment before, would then never tell.
pub(crate) const ALIVE: u8 = b'.';

/// Hidden command `jail RUN_DIR`: becomes the VMM. Returns only on failure.
#[must_use]
pub fn jail_main(run_dir: &Path) -> i32 {
    let mut report = match take_report() {
        Ok(report) => report,
        Err(e) => {
            tracing::error!("jail: no standard error to report on: {e}");
            return 1;
        }
    };
    let failure = enter(run_dir, &mut report);
    // The shim is the only one to tell, and it may be gone.
    let _ = serde_json::to_writer(&mut report, &failure);
    1
}

/// Moves the pipe away from standard error, where the VMM's console goes.
fn take_report() -> std::io::Result<File> {
    let report = std::io::stderr().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stderr(rustix::stdio::stdin())?;
    Ok(report.into())
}

/// A step of building the jail, for the message.
fn step(name: impl Into<String>) -> impl FnOnce(Box<dyn std::error::Error>) -> StartFailure {
    let step = name.into();
    move |e| StartFailure::Jail { step, why: e.to_string() }
}

fn enter(run_dir: &Path, report: &mut File) -> StartFailure {
    match prepare(run_dir, report) {
        Ok((mut command, kernel)) => {
            let e = command.exec();
            StartFailure::Kernel { kernel, why: format!("cannot be executed: {e}") }
        }
        Err(failure) => failure,
    }
}

fn prepare(
    run_dir: &Path,
    report: &mut File,
) -> Result<(Command, std::path::PathBuf), StartFailure> {
    let spec: MachineSpec = atomic::read_json(&RunDir(run_dir).spec())
        .and_then(|found| found.ok_or_else(|| std::io::ErrorKind::NotFound.into()))
        .map_err(|e| step("read spec.json")(e.into()))?;
    let vmm = spec.vmm.vmm();
    let plan = vmm.jail(&spec);
    Group::of(&spec.limits.cgroup)
        .and_then(|group| group.join())
        .map_err(|e| step("join the control group")(e.into()))?;
    enter_network(&spec)?;
    enter_new(&[Namespace::Mount, Namespace::Ipc, Namespace::HostName])
        .map_err(|e| step("make namespaces")(e.into()))?;
    // A host name has 64 bytes at most: sethostname(2).
    let name = &spec.name.as_bytes()[..spec.name.len().min(64)];
    rustix::system::sethostname(name)
        .map_err(|e| step("set the host name")(e.into()))?;
    root::build(run_dir, &spec, &plan)?;
    limit_resources(plan.open_files)?;
    privileges::drop_all(spec.uid, spec.gid)?;
    report.write_all(&[ALIVE]).map_err(|e| step("reach the shim")(e.into()))?;

    let line = vmm.command(&spec);
    let mut command = Command::new(&line.program);
    command.args(&line.arguments).env_clear().envs(line.environment);
    let kernel = plan.root.join(line.program.strip_prefix("/").unwrap_or(&line.program));
    Ok((command, kernel))
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
