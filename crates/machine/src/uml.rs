//! User-Mode Linux: a Linux kernel that is an ordinary process.
//!
//! It is one process per guest process besides the kernel itself, and keeps guest
//! memory in an unlinked file in `/dev/shm`. Options: `linux --help`, and the
//! kernel's `Documentation/virt/uml/user_mode_linux_howto_v2.rst`.

mod mconsole;

use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::capability::{Capability, Change, Controls};
use crate::patience::{CHANGE, PRESS};
use crate::spec::{MachineSpec, UmlSecurity};
use crate::state::Exit;
use crate::vmm::{
    Confinement, Device, End, JailPlan, PowerButton, SEAT, Seat, Sign, Vmm, VmmCommand, VmmKind,
};

/// What the memory file's directory must hold besides guest memory.
const MEMORY_SLACK: u64 = 16 << 20;

/// The least that a UML kernel with its built-in drivers boots in.
const LEAST_MEMORY: u64 = 32 << 20;

/// A descriptor for each guest process in seccomp mode, and some.
const OPEN_FILES: u64 = 16384;

/// The initial RAM file system's name in the jail.
const INITRAMFS: &str = "initramfs";

/// UML's directory in the [`SEAT`], and its name there.
const OWN: &str = "own/uml";
const UMID: &str = "m";

/// The backend.
#[derive(Clone, Debug)]
pub struct Uml {
    root: PathBuf,
    kernel: PathBuf,
    initramfs: Option<PathBuf>,
    security: UmlSecurity,
}

impl Uml {
    /// See [`crate::VmmSpec::Uml`].
    #[must_use]
    pub fn new(
        root: PathBuf,
        kernel: PathBuf,
        initramfs: Option<PathBuf>,
        security: UmlSecurity,
    ) -> Self {
        Self { root, kernel, initramfs, security }
    }

    /// The kernel as named in the jail.
    fn program(&self) -> PathBuf {
        Path::new("/").join(self.kernel.strip_prefix("/").unwrap_or(&self.kernel))
    }
}

impl Vmm for Uml {
    fn kind(&self) -> VmmKind {
        VmmKind::Uml
    }

    fn check(&self, spec: &MachineSpec) -> Result<(), String> {
        if spec.cpus != 1 {
            return Err(format!("User-Mode Linux has one CPU, {} were asked for", spec.cpus));
        }
        if spec.clock.is_some() {
            return Err("User-Mode Linux has the host's clock, another time was asked for".into());
        }
        if spec.memory < LEAST_MEMORY {
            return Err(format!(
                "User-Mode Linux needs at least {} MiB of memory, {} MiB were asked for",
                LEAST_MEMORY >> 20,
                spec.memory >> 20
            ));
        }
        if spec.disks.len() > 16 {
            return Err(format!(
                "User-Mode Linux has 16 disks, {} were asked for",
                spec.disks.len()
            ));
        }
        if self.kernel.components().any(|part| part == Component::ParentDir) {
            return Err(format!("kernel {} leads out of its root", self.kernel.display()));
        }
        Ok(())
    }

    fn confinement(&self, spec: &MachineSpec) -> Confinement {
        Confinement::Jail(JailPlan {
            root: self.root.clone(),
            files: self.initramfs.iter().map(|file| (file.clone(), INITRAMFS)).collect(),
            devices: if spec.nic.is_some() { vec![Device::Tun] } else { Vec::new() },
            shared_memory: spec.memory + MEMORY_SLACK,
            open_files: OPEN_FILES,
        })
    }

    fn command(&self, spec: &MachineSpec) -> VmmCommand {
        let mut arguments = vec![format!("mem={}K", spec.memory >> 10)];
        arguments.extend(spec.disks.iter().enumerate().map(|(n, disk)| {
            // "r": read-only, `arch/um/drivers/ubd_kern.c`.
            format!("ubd{n:x}{}=/disks/{n}", if disk.read_only { "r" } else { "" })
        }));
        if self.initramfs.is_some() {
            arguments.push(format!("initrd=/boot/{INITRAMFS}"));
        }
        if let Some(nic) = &spec.nic {
            arguments.push(format!(
                "vec0:transport=tap,ifname={},mac={},depth=128,gro=1",
                nic.tap, nic.mac
            ));
        }
        // "con" and "ssl" set all terminals at once: con0 comes after them.
        let fixed = ["con=null", "ssl=null", "con0=fd:0,fd:1"];
        arguments.extend(fixed.map(String::from));
        arguments.push(match self.security {
            UmlSecurity::Seccomp => "seccomp=on".into(),
            UmlSecurity::Ptrace => "seccomp=off".into(),
        });
        arguments.push(format!("umid={UMID}"));
        arguments.push(format!("uml_dir={SEAT}/{OWN}"));
        arguments.extend(spec.kernel_arguments.iter().cloned());
        VmmCommand {
            program: self.program(),
            arguments,
            environment: vec![("TMPDIR", "/dev/shm".into())],
        }
    }

    fn sign(&self, line: &str) -> Option<Sign> {
        if let Some((_, words)) = line.split_once("Kernel panic - not syncing: ") {
            return Some(Sign::Panic(words.trim().to_owned()));
        }
        line.contains("reboot: Restarting system").then_some(Sign::Restarting)
    }

    fn judge(&self, end: &End) -> Exit {
        match &end.panic {
            Some(words) => Exit::Crashed { reason: format!("kernel panic: {words}") },
            None if end.status.success() => Exit::PoweredOff,
            None => Exit::VmmFailed {
                reason: match &end.last_line {
                    Some(line) => format!("{}; its last line: {line}", end.status),
                    None => format!("{}, without a word", end.status),
                },
            },
        }
    }

    fn power_button(&self) -> Option<&dyn PowerButton> {
        Some(self)
    }

    fn controls(&self) -> Option<&dyn Controls> {
        Some(self)
    }
}

impl PowerButton for Uml {
    /// Ctrl-Alt-Del: init gets SIGINT, see reboot(2). Whether it then powers off or
    /// restarts, the shim takes it as the stop that was asked for.
    fn press(&self, seat: &Seat<'_>) -> io::Result<()> {
        ask(seat, "cad", PRESS).map(drop)
    }
}

impl Controls for Uml {
    fn claims(&self) -> &'static [Capability] {
        &[Capability::Pause, Capability::NetworkLimit, Capability::CpuShare]
    }

    fn change(&self, seat: &Seat<'_>, change: &Change) -> io::Result<()> {
        match change {
            Change::Pause => ask(seat, "stop", CHANGE),
            Change::Resume => ask(seat, "go", CHANGE),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        .map(drop)
    }
}

fn ask(seat: &Seat<'_>, command: &str, patience: Duration) -> io::Result<String> {
    mconsole::command(seat, &Path::new(OWN).join(UMID).join("mconsole"), command, patience)
}
