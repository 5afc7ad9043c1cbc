//! What a machine is. Data only; stored as `run_dir/spec.json`, from which the
//! shim and the jail read it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One machine, complete: nothing else is asked when it is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// Name shown to people and used as the jail's host name.
    pub name: String,
    /// The virtual machine monitor and what it needs.
    pub vmm: VmmSpec,
    /// User that the VMM process runs as; never 0.
    pub uid: u32,
    /// Group that the VMM process runs as; never 0.
    pub gid: u32,
    /// Guest memory, bytes.
    pub memory: u64,
    /// Guest CPUs. User-Mode Linux has one; more is an error there.
    pub cpus: u32,
    /// Disks in the guest's order.
    pub disks: Vec<Disk>,
    /// Network card; without one the machine has no network.
    pub nic: Option<Nic>,
    /// Kernel arguments such as `root=PARTLABEL=gridgate-root rw`.
    pub kernel_arguments: Vec<String>,
    /// What its clock shows when it starts, seconds since 1970; none: the host's time. QEMU only: to try what a
    /// machine does whose battery is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<i64>,
    /// Where sockets, state and the console log are kept. Created mode 0700.
    pub run_dir: PathBuf,
    /// Limits on the host's side.
    pub limits: Limits,
}

/// A disk: a file or block device of the host, raw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Where it is on the host, absolute.
    pub path: PathBuf,
    /// A disk that is written to is used by one machine at a time and is given to
    /// its user. A read-only one is shared by any number of machines and stays as it
    /// is; everybody must be allowed to read it.
    pub read_only: bool,
}

impl Disk {
    /// A disk of one machine's own.
    pub fn own(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), read_only: false }
    }

    /// A disk that several machines read.
    pub fn shared(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), read_only: true }
    }
}

/// A network card: a persistent tap owned by [`MachineSpec::uid`], or, of Xen, a card that is made when the
/// machine starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// The network namespace's file, such as `/run/netns/gg-dublin`.
    pub namespace: PathBuf,
    /// Name of the tap in it, or that the card gets.
    pub tap: String,
    /// Ethernet address, `02:00:00:00:00:01`.
    pub mac: String,
    /// For a card that is made at the start: what its guest may send, a program as tc-bpf(8) takes it after
    /// `bytecode`. A tap has its filter already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// Limits on the host's side, as a control group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Path of the control group below each hierarchy's root, such as
    /// `gridgate/ab12/dublin/ce`. It belongs to this machine alone.
    pub cgroup: String,
    /// Most memory, bytes: the guest's and the VMM's own.
    pub memory_max: Option<u64>,
    /// Most host processes. User-Mode Linux takes about one per guest process.
    pub pids_max: Option<u64>,
    /// Share of the CPU, 1 to 10000, 100 by default.
    pub cpu_weight: Option<u32>,
    /// Whether all of it runs on one of the host's processors at a time, to which its shim takes it. A User-Mode Linux
    /// guest goes back and forth between two processes; between idle processors each turn costs a wake-up.
    #[serde(default)]
    pub one_processor: bool,
}

/// Which VMM, and what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum VmmSpec {
    /// User-Mode Linux.
    Uml {
        /// Root tree on the host that holds the kernel and the libraries it needs.
        root: PathBuf,
        /// The kernel, inside `root`: `usr/bin/linux.uml`.
        kernel: PathBuf,
        /// Initial RAM file system: a file of the host that everybody may read, or none.
        #[serde(default)]
        initramfs: Option<PathBuf>,
        /// How guest processes are kept apart from the guest kernel.
        security: UmlSecurity,
    },
    /// QEMU.
    Qemu {
        /// Root tree on the host that holds the program, its libraries and firmware.
        root: PathBuf,
        /// The program, inside `root`: `usr/bin/qemu-system-x86_64`.
        program: PathBuf,
        /// The guest's kernel, a bzImage or, faster to boot, an ELF file with a PVH entry: a
        /// file of the host that everybody may read.
        kernel: PathBuf,
        /// Initial RAM file system: a file of the host that everybody may read, or none.
        #[serde(default)]
        initramfs: Option<PathBuf>,
        /// What runs the guest.
        accelerator: Accelerator,
        /// The computer around it.
        machine: QemuMachine,
    },
    /// Xen, on a host that is its privileged domain.
    Xen {
        /// The guest's kernel on the host; not used by [`XenBoot::Pygrub`].
        kernel: PathBuf,
        /// Initial RAM file system on the host, or none.
        #[serde(default)]
        initramfs: Option<PathBuf>,
        /// The bridge in the NIC's namespace that its card joins.
        bridge: String,
        /// How the guest is run.
        guest: XenGuest,
        /// Where its kernel comes from.
        boot: XenBoot,
        /// What is usually left to Xen.
        #[serde(default)]
        tuning: XenTuning,
    },
}

/// How Xen runs a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XenGuest {
    /// Paravirtual: needs nothing of the processor.
    Pv,
    /// In a hardware container, with paravirtual devices.
    Pvh,
}

/// Where a Xen guest's kernel comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XenBoot {
    /// From the host.
    Direct,
    /// From the first disk, by its own boot loader configuration (`grub.cfg`, `extlinux.conf`, `menu.lst`): read by
    /// Xen's pygrub, which has no rights then. The spec's kernel arguments come behind those of the disk.
    Pygrub,
}

/// What is usually left to Xen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct XenTuning {
    /// Most CPU time, percent of one CPU.
    pub cap: Option<u32>,
    /// The CPUs it may run on, as xl.cfg(5) writes them: `0-3,^1`.
    pub cpus: Option<String>,
    /// Most memory that it may be given while it runs, bytes.
    pub maximum_memory: Option<u64>,
}

/// What runs QEMU's guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The host's own CPU, through `/dev/kvm`.
    Kvm,
    /// An emulated CPU: slow, and works everywhere.
    Tcg,
}

/// The computer that QEMU makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QemuMachine {
    /// Little: no PCI, devices by ACPI. Its guests need the module `virtio_mmio`.
    Microvm,
    /// A PC with PCI Express and ACPI.
    Q35,
}

/// How User-Mode Linux runs its guest's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UmlSecurity {
    /// Faster; weaker between processes of the same guest.
    Seccomp,
    /// Slower; every system call is traced.
    Ptrace,
}

/// Files below a run directory, in one place.
#[derive(Clone, Debug)]
pub(crate) struct RunDir<'a>(pub &'a Path);

impl RunDir<'_> {
    pub(crate) fn spec(&self) -> PathBuf {
        self.0.join("spec.json")
    }
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("shim.sock")
    }
    pub(crate) fn console_log(&self) -> PathBuf {
        self.0.join("console.log")
    }
    pub(crate) fn old_console_log(&self) -> PathBuf {
        self.0.join("console.log.old")
    }
    pub(crate) fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }
}
