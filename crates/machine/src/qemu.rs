//! QEMU: a whole computer, on the host's CPU (KVM) or emulated (TCG).
//!
//! The guest boots the kernel that it is given; there is no boot loader. Console: virtio's, and
//! until that is there the first serial port, both on QEMU's standard input and output,
//! where also QEMU's own words come out. Options: qemu(1); live changes: [`qmp`].

mod arguments;
pub mod emulated;
mod qmp;
mod ticks;

use std::io;
use std::path::{Component, Path, PathBuf};

use serde_json::json;

use crate::capability::{Capability, Change, Controls, Rate};
use crate::error::StartFailure;
use crate::patience::{CHANGE, PRESS};
use crate::spec::{Accelerator, MachineSpec, QemuMachine};
use crate::state::Exit;
use crate::vmm::{
    Confinement, Device, End, JailPlan, PowerButton, Seat, Sign, Vmm, VmmCommand, VmmKind,
};

/// The least that Debian's kernel boots in, unpacked as it is and with an initramfs.
const LEAST_MEMORY: u64 = 96 << 20;

/// Most disks: each takes a slot of the bus that other devices share.
const MOST_DISKS: usize = 16;

/// Descriptors of disks, sockets and of an event for each queue.
const OPEN_FILES: u64 = 4096;

/// Files in the jail.
const KERNEL: &str = "kernel";
const INITRAMFS: &str = "initramfs";

/// QEMU's control socket below the seat.
const QMP: &str = "own/qmp";

/// The backend.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// See [`crate::VmmSpec::Qemu`].
    pub root: PathBuf,
    /// See [`crate::VmmSpec::Qemu`].
    pub program: PathBuf,
    /// See [`crate::VmmSpec::Qemu`].
    pub kernel: PathBuf,
    /// See [`crate::VmmSpec::Qemu`].
    pub initramfs: Option<PathBuf>,
    /// See [`crate::VmmSpec::Qemu`].
    pub accelerator: Accelerator,
    /// See [`crate::VmmSpec::Qemu`].
    pub machine: QemuMachine,
}

impl Vmm for Qemu {
    fn kind(&self) -> VmmKind {
        VmmKind::Qemu
    }

    fn check(&self, spec: &MachineSpec) -> Result<(), String> {
        if spec.cpus == 0 || spec.cpus > 255 {
            return Err(format!("QEMU has 1 to 255 CPUs, {} were asked for", spec.cpus));
        }
        if spec.memory < LEAST_MEMORY {
            return Err(format!(
                "QEMU's guests need at least {} MiB of memory, {} MiB were asked for",
                LEAST_MEMORY >> 20,
                spec.memory >> 20
            ));
        }
        if spec.disks.len() > MOST_DISKS {
            return Err(format!(
                "QEMU has {MOST_DISKS} disks here, {} were asked for",
                spec.disks.len()
            ));
        }
        if let Some(clock) = spec.clock
            && jiff::Timestamp::from_second(clock).is_err()
        {
            return Err(format!("a clock cannot show {clock} s since 1970"));
        }
        if self.program.components().any(|part| part == Component::ParentDir) {
            return Err(format!("program {} leads out of its root", self.program.display()));
        }
        Ok(())
    }

    /// The kernel is told from something else by its first bytes: QEMU would start a
    /// computer with nothing to run.
    fn examine(&self) -> Result<(), StartFailure> {
        let fault = |why: String| StartFailure::Kernel { kernel: self.kernel.clone(), why };
        let mut head = Vec::new();
        std::fs::File::open(&self.kernel)
            .and_then(|file| io::Read::read_to_end(&mut io::Read::take(file, 0x206), &mut head))
            .map_err(|e| fault(e.to_string()))?;
        let is_kernel = head.starts_with(b"\x7fELF") || head.get(0x202..0x206) == Some(b"HdrS");
        if is_kernel {
            Ok(())
        } else {
            Err(fault("it is no kernel: neither bzImage nor ELF".into()))
        }
    }

    fn confinement(&self, spec: &MachineSpec) -> Confinement {
        let mut devices = Vec::new();
        devices.extend(spec.nic.as_ref().map(|_| Device::Tun));
        devices.extend((self.accelerator == Accelerator::Kvm).then_some(Device::Kvm));
        let initramfs = self.initramfs.clone().map(|file| (file, INITRAMFS));
        Confinement::Jail(JailPlan {
            root: self.root.clone(),
            files: initramfs.into_iter().chain([(self.kernel.clone(), KERNEL)]).collect(),
            devices,
            shared_memory: 1 << 20,
            open_files: OPEN_FILES,
        })
    }

    fn command(&self, spec: &MachineSpec) -> VmmCommand {
        VmmCommand {
            program: Path::new("/").join(self.program.strip_prefix("/").unwrap_or(&self.program)),
            arguments: arguments::of(self, spec),
            environment: Vec::new(),
        }
    }

    fn sign(&self, line: &str) -> Option<Sign> {
        if let Some((_, words)) = line.split_once("Kernel panic - not syncing: ") {
            // The last line of a panic repeats its first.
            return Some(match line.contains("---[ end ") {
                true => Sign::Dead,
                false => Sign::Panic(words.trim().to_owned()),
            });
        }
        // "Rebooting in 1 seconds.." is a panic's last line when the kernel was told `panic=1`.
        let signs = [
            ("reboot: Restarting system", Sign::Restarting),
            ("Rebooting in ", Sign::Dead),
            ("reboot: System halted", Sign::Halted),
            ("reboot: Power off not available: System halted", Sign::Halted),
        ];
        signs.into_iter().find(|(words, _)| line.contains(words)).map(|(_, sign)| sign)
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

impl PowerButton for Qemu {
    /// Ctrl-Alt-Del on the keyboard. The ACPI button would need a driver, a device node
    /// and a daemon in the guest; for these keys the kernel alone signals init.
    fn press(&self, seat: &Seat<'_>) -> io::Result<()> {
        let key = |name: &str| json!({"type": "qcode", "data": name});
        let keys = json!({"keys": [key("ctrl"), key("alt"), key("delete")]});
        qmp::command(seat, Path::new(QMP), "send-key", &keys, PRESS).map(drop)
    }
}

impl Controls for Qemu {
    fn claims(&self) -> &'static [Capability] {
        &[
            Capability::Pause,
            Capability::Memory,
            Capability::DiskLimit,
            Capability::NetworkLimit,
            Capability::CpuShare,
        ]
    }

    fn change(&self, seat: &Seat<'_>, change: &Change) -> io::Result<()> {
        let (command, arguments) = match change {
            Change::Pause => ("stop", json!({})),
            Change::Resume => ("cont", json!({})),
            Change::Memory { bytes } => ("balloon", json!({"value": bytes})),
            Change::DiskLimit { disk, limit } => ("block_set_io_throttle", throttle(*disk, limit)),
            Change::NetworkLimit { .. } | Change::CpuShare { .. } => {
                return Err(io::ErrorKind::Unsupported.into());
            }
        };
        qmp::command(seat, Path::new(QMP), command, &arguments, CHANGE).map(drop)
    }
}

/// Zero is QEMU's word for no limit.
fn throttle(disk: usize, limit: &Rate) -> serde_json::Value {
    json!({
        "id": arguments::disk_id(disk),
        "bps": limit.bytes_per_second.unwrap_or(0), "bps_rd": 0, "bps_wr": 0,
        "iops": limit.operations_per_second.unwrap_or(0), "iops_rd": 0, "iops_wr": 0,
    })
}

#[cfg(test)]
mod tests;
