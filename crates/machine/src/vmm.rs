//! What a virtual machine monitor must be able to do to run a machine: a small
//! required part, and capabilities that it may have.
//!
//! A backend only describes: command line, jail, the meaning of console lines and
//! of the way the process ended. The shim and the jail do everything else, so that
//! they are the same for every VMM.
//!
//! The rule is that a machine is one process with its children, in a jail: when the
//! process ends the machine has ended, and killing it is killing the machine. A VMM
//! whose machines live elsewhere (in a hypervisor) bends it in two places:
//!
//! - [`Vmm::confinement`] is [`Confinement::Keeper`]: the command is run as root in the
//!   host's own view and must stay for as long as the machine lives, with the guest's
//!   console on its standard input and output, and end with status 0 when the guest has
//!   powered off.
//! - [`Vmm::undertaker`] ends and removes what SIGKILL of the keeper leaves. The shim calls it
//!   before each start, before it kills the keeper, and after each end; a machine
//!   whose shim was killed is ended through it by [`crate::Machine::kill`].

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::capability::Controls;
use crate::error::{MachineError, StartFailure};
use crate::qemu::Qemu;
use crate::spec::{MachineSpec, VmmSpec};
use crate::state::Exit;
use crate::uml::Uml;
use crate::xen::Xen;

/// The kinds of VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmmKind {
    /// User-Mode Linux.
    Uml,
    /// Xen.
    Xen,
    /// QEMU, with KVM or TCG.
    Qemu,
}

impl std::fmt::Display for VmmKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Uml => "uml",
            Self::Xen => "xen",
            Self::Qemu => "qemu",
        })
    }
}

/// A virtual machine monitor.
pub trait Vmm {
    /// Which one.
    fn kind(&self) -> VmmKind;

    /// Finds what this VMM cannot do of `spec`, without starting anything.
    ///
    /// # Errors
    /// The first thing it cannot do, as a sentence without the machine's name.
    fn check(&self, spec: &MachineSpec) -> Result<(), String>;

    /// Looks closely at the files it would use, just before a start.
    ///
    /// # Errors
    /// What is wrong with one of them.
    fn examine(&self) -> Result<(), StartFailure> {
        Ok(())
    }

    /// How its process is shut in.
    fn confinement(&self, spec: &MachineSpec) -> Confinement;

    /// For a keeper: makes the machine up to its first instruction, before the keeper is
    /// run. What fails here is told by [`crate::start`].
    ///
    /// # Errors
    /// Why it cannot be made; nothing of it is left then.
    fn create(&self, _spec: &MachineSpec) -> Result<(), StartFailure> {
        Ok(())
    }

    /// Its command line, with paths as seen in the jail; a keeper's with paths of the host.
    fn command(&self, spec: &MachineSpec) -> VmmCommand;

    /// What a line of the console means.
    fn sign(&self, line: &str) -> Option<Sign>;

    /// What it means that the process ended like this, unless the shim ended it.
    fn judge(&self, end: &End) -> Exit;

    /// Capability: a way to ask the guest to shut down. Without it a stop waits
    /// for the limit and kills.
    fn power_button(&self) -> Option<&dyn PowerButton> {
        None
    }

    /// Capability: changes while the machine runs. Without it there are none.
    fn controls(&self) -> Option<&dyn Controls> {
        None
    }

    /// Capability: a way to end what does not end with its process. Without it SIGKILL
    /// of the process is the machine's end.
    fn undertaker(&self) -> Option<&dyn Undertaker> {
        None
    }
}

/// How a VMM's process is shut in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// Own user, own root, own namespaces.
    Jail(JailPlan),
    /// None: the process runs as root and sees what the host sees, but for a process
    /// namespace of its own, so that nothing that it starts outlives it.
    Keeper,
}

/// Capability: ends what of a machine does not end with its process.
pub trait Undertaker {
    /// Ends the machine of `spec`, wherever it lives, and removes what is left of it.
    /// Without anything to end it does nothing. May take some seconds: the shim waits.
    /// It touches nothing that it cannot tell to be this very machine's.
    ///
    /// # Errors
    /// When something of it is still there.
    fn end(&self, spec: &MachineSpec) -> io::Result<()>;
}

/// Capability: asks the guest to shut down.
pub trait PowerButton {
    /// Presses it. Must not take longer than about half a second.
    ///
    /// # Errors
    /// When the VMM does not listen (yet): the shim tries again.
    fn press(&self, seat: &Seat<'_>) -> io::Result<()>;

    /// After how long it is pressed again while the guest goes on; the pause then doubles a few times. Init may not
    /// have listened yet: a kernel drops a signal that init has no handler for, and tells nobody.
    fn again(&self) -> Duration {
        Duration::from_secs(2)
    }
}

/// The VMM's own directory, as seen from the shim: how to reach its control socket.
#[derive(Clone, Copy, Debug)]
pub struct Seat<'a> {
    /// [`SEAT`] on the host. The VMM's user may write to `own` below it, and to nothing else.
    pub directory: &'a Path,
    /// The machine.
    pub spec: &'a MachineSpec,
}

/// Where the jail shows the [`Seat`].
pub const SEAT: &str = "/vmm";

/// What a VMM process needs to see, besides `/proc`, `/tmp` and its disks at `/disks/N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JailPlan {
    /// Host tree whose `usr`, `lib`, `lib64`, `bin` and `sbin` it sees read-only.
    pub root: PathBuf,
    /// Files of the host, shown read-only as `/boot/NAME` in the jail.
    pub files: Vec<(PathBuf, &'static str)>,
    /// Devices beyond null, zero, random and urandom.
    pub devices: Vec<Device>,
    /// Size limit of `/dev/shm`, bytes.
    pub shared_memory: u64,
    /// Most open files.
    pub open_files: u64,
}

/// A device of the host that a VMM may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// `/dev/net/tun`
    Tun,
    /// `/dev/kvm`
    Kvm,
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmmCommand {
    /// Program, absolute, in the jail.
    pub program: PathBuf,
    /// Arguments after the program's name.
    pub arguments: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(&'static str, String)>,
}

/// What a console line tells about the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The guest's kernel panics; its words.
    Panic(String),
    /// The guest has shut down and is about to start again.
    Restarting,
    /// The guest has shut down and cannot switch its computer off.
    Halted,
    /// The guest's kernel has said its last word after a panic.
    Dead,
}

/// How a VMM process ended on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The process's status.
    pub status: std::process::ExitStatus,
    /// The panic that was seen on the console since the guest's last start.
    pub panic: Option<String>,
    /// The last line on the console.
    pub last_line: Option<String>,
}

impl VmmSpec {
    /// The VMM that this describes.
    #[must_use]
    pub fn vmm(&self) -> Box<dyn Vmm> {
        match self {
            Self::Uml { root, kernel, initramfs, security } => {
                Box::new(Uml::new(root.clone(), kernel.clone(), initramfs.clone(), *security))
            }
            Self::Xen { kernel, initramfs, bridge, guest, boot, tuning } => Box::new(Xen::new(
                (kernel.clone(), initramfs.clone()),
                bridge.clone(),
                (*guest, *boot),
                tuning.clone(),
            )),
            Self::Qemu { root, program, kernel, initramfs, accelerator, machine } => {
                Box::new(Qemu {
                    root: root.clone(),
                    program: program.clone(),
                    kernel: kernel.clone(),
                    initramfs: initramfs.clone(),
                    accelerator: *accelerator,
                    machine: *machine,
                })
            }
        }
    }
}

/// What every VMM asks of a spec, and then what this one asks.
pub(crate) fn check(spec: &MachineSpec) -> Result<(), MachineError> {
    let fault = |why: String| MachineError::Spec { machine: spec.name.clone(), why };
    if spec.uid == 0 || spec.gid == 0 {
        return Err(fault("its VMM must not run as root (uid or gid is 0)".into()));
    }
    if !spec.run_dir.is_absolute() {
        return Err(fault(format!("run directory {} is not absolute", spec.run_dir.display())));
    }
    let normal =
        |path: &Path| path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if spec.limits.cgroup.is_empty() || !normal(Path::new(&spec.limits.cgroup)) {
        return Err(fault(format!("control group {:?} is not a plain path", spec.limits.cgroup)));
    }
    if let Some(disk) = spec.disks.iter().find(|disk| !disk.path.is_absolute()) {
        return Err(fault(format!("disk {} is not absolute", disk.path.display())));
    }
    if let Some(argument) = spec.kernel_arguments.iter().find(|a| a.contains(['\0', '\n'])) {
        return Err(fault(format!("kernel argument {argument:?} contains a control character")));
    }
    spec.vmm.vmm().check(spec).map_err(fault)
}
