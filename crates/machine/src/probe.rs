//! Proving that a VMM works on this host: it boots its kernel, in the jail it will
//! have, up to the point where the kernel wants a root file system. Looking for a
//! file or a device would not do: `/dev/kvm` can be there and unable to run a kernel.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::MachineError;
use crate::machine::{Launcher, Machine};
use crate::spec::{Accelerator, Limits, MachineSpec, VmmSpec};
use crate::state::{Exit, MachineState};

/// A kernel asks for its root after a second or two, if at all; a slow host is given time.
const LIMIT: Duration = Duration::from_secs(60);

/// On the CPU itself it takes less than a second. Where the kernel is silent for as long as this, it will never boot: a
/// hypervisor that is itself a guest may run firmware and then stall in the kernel. One that goes on speaking is slow.
const KVM_SILENCE: Duration = Duration::from_secs(5);

/// Memory of the guest: what any of the kernels boots in.
const MEMORY: u64 = 128 << 20;

/// What a kernel says when it is up and has no root: `init/do_mounts.c`.
const WANTS_ROOT: &str = "Unable to mount root fs";

/// A VMM that has booted a kernel on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The kernel's release, as `uname -r`.
    pub release: String,
    /// From start to the kernel's asking for its root.
    pub boot: Duration,
}

/// Probes `vmm`. `scratch` is made and removed; `uid` is a user and group that
/// nothing else uses. Blocks: seconds where it works, at most a minute.
///
/// # Errors
/// Why the kernel did not boot.
pub fn probe(
    launcher: &Launcher,
    vmm: &VmmSpec,
    scratch: &Path,
    uid: u32,
) -> Result<Probe, MachineError> {
    let spec = MachineSpec {
        name: "probe".into(),
        vmm: without_initramfs(vmm),
        uid,
        gid: uid,
        memory: MEMORY,
        cpus: 1,
        disks: Vec::new(),
        nic: None,
        clock: None,
        kernel_arguments: vec!["panic=1".into(), "cryptomgr.notests".into()],
        run_dir: scratch.to_owned(),
        limits: Limits { cgroup: format!("gridgate/probe-{uid}"), ..Limits::default() },
    };
    let begin = Instant::now();
    let proven = launcher.start(&spec).and_then(|machine| {
        let seen = judge(&spec, &machine);
        machine.kill()?;
        seen.map(|release| Probe { release, boot: begin.elapsed() })
    });
    let removed = match std::fs::remove_dir_all(scratch) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(MachineError::io("remove", scratch)(e))
        }
        _ => Ok(()),
    };
    proven.and_then(|proof| removed.map(|()| proof))
}

/// An initramfs would be another root than the one that is waited for.
fn without_initramfs(vmm: &VmmSpec) -> VmmSpec {
    let mut vmm = vmm.clone();
    match &mut vmm {
        VmmSpec::Uml { initramfs, .. }
        | VmmSpec::Qemu { initramfs, .. }
        | VmmSpec::Xen { initramfs, .. } => *initramfs = None,
    }
    vmm
}

fn uses_kvm(vmm: &VmmSpec) -> bool {
    matches!(vmm, VmmSpec::Qemu { accelerator: Accelerator::Kvm, .. })
}

/// The release of the kernel that booted.
fn judge(spec: &MachineSpec, machine: &Machine) -> Result<String, MachineError> {
    let fault = |why: String| MachineError::Spec { machine: spec.name.clone(), why };
    let begin = Instant::now();
    let reason = match end(spec, machine)? {
        Some(MachineState::Stopped { exit: Exit::Crashed { reason }, .. })
            if reason.contains(WANTS_ROOT) =>
        {
            let log = machine.console_log();
            let text = std::fs::read(&log).map_err(MachineError::io("read", &log))?;
            return release(&String::from_utf8_lossy(&text))
                .ok_or_else(|| fault("its kernel does not tell its release".into()));
        }
        Some(MachineState::Stopped { exit, .. }) => exit.to_string(),
        Some(MachineState::Lost { .. }) => "its shim was killed".into(),
        Some(MachineState::Running { .. }) | None if uses_kvm(&spec.vmm) => format!(
            "the kernel stalls under KVM: no boot within {} s. On a host that is itself a virtual \
             machine, its hypervisor must offer nested virtualisation",
            begin.elapsed().as_secs()
        ),
        Some(MachineState::Running { .. }) | None => {
            format!("its kernel did not boot within {} s", LIMIT.as_secs())
        }
    };
    Err(fault(match machine.last_line() {
        Some(line) if !reason.contains(&line) => format!("{reason} (last line: {line})"),
        _ => reason,
    }))
}

/// How it ended, if within [`LIMIT`]; under KVM it is waited for only while its kernel speaks.
fn end(spec: &MachineSpec, machine: &Machine) -> Result<Option<MachineState>, MachineError> {
    if !uses_kvm(&spec.vmm) {
        return machine.wait_for(LIMIT);
    }
    let begin = Instant::now();
    let mut said = 0;
    loop {
        let ended = machine.wait_for(KVM_SILENCE)?;
        let now = std::fs::metadata(machine.console_log()).map_or(0, |log| log.len());
        if ended.is_some() || now == said || begin.elapsed() >= LIMIT {
            return Ok(ended);
        }
        said = now;
    }
}

fn release(console: &str) -> Option<String> {
    let (_, after) = console.split_once("Linux version ")?;
    after.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_release_is_read_from_the_kernels_first_line() {
        let console = "Checking\r\nLinux version 7.2.0 (builder@x) #1\r\n";
        assert_eq!(super::release(console).as_deref(), Some("7.2.0"));
        assert_eq!(super::release("Checking"), None);
    }
}
