//! QEMU under test, out of the depot, with Debian's cloud kernel: its emulation here, KVM inside the lab,
//! `cargo xtask kvm-lab test`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use gridgate_depot::{Depot, Mirrors, Silent};
use gridgate_machine::{Accelerator, QemuMachine, VmmSpec};

use crate::lab::Backend;
use crate::{archive, initramfs};

/// Out of the archive, and as it is taken from a host that has it installed: there the host is the first one's tree.
fn programs() -> &'static [gridgate_depot::Qemu; 2] {
    static QEMU: OnceLock<[gridgate_depot::Qemu; 2]> = OnceLock::new();
    QEMU.get_or_init(|| {
        let depot = Depot::open(&archive::fixtures().join("machine-depot")).unwrap();
        let own = depot.qemu(&Mirrors::discover(None, None).unwrap(), None, &Silent).unwrap();
        let host = depot.host_qemu(&own.root, &Silent).unwrap();
        [own, host.expect("a host that has it")]
    })
}

fn qemu(machine: QemuMachine, kernel: &Path) -> VmmSpec {
    let [own, host] = programs();
    let qemu = match machine {
        QemuMachine::Microvm => own,
        QemuMachine::Q35 => host,
    };
    VmmSpec::Qemu {
        root: qemu.root.clone(),
        program: qemu.program.clone(),
        kernel: kernel.to_owned(),
        initramfs: Some(initramfs::path().to_owned()),
        accelerator: Accelerator::Tcg,
        machine,
    }
}

/// The cloud kernel, unpacked: most of a second less at each of many boots.
fn kernel() -> &'static Path {
    static KERNEL: OnceLock<PathBuf> = OnceLock::new();
    KERNEL.get_or_init(|| {
        let boot = archive::cloud_kernel().join("boot");
        let target = archive::cloud_kernel().join("vmlinux");
        if !target.exists() {
            let entries = std::fs::read_dir(boot).unwrap().map(|entry| entry.unwrap().path());
            let is_kernel = |path: &PathBuf| path.to_string_lossy().contains("/vmlinuz-");
            let packed = std::fs::read(entries.into_iter().find(is_kernel).unwrap()).unwrap();
            let new = tempfile::NamedTempFile::new_in(archive::fixtures()).unwrap();
            std::fs::write(new.path(), gridgate_depot::unpacked_kernel(&packed).unwrap()).unwrap();
            let readable = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(new.path(), readable).unwrap();
            new.persist(&target).unwrap();
        }
        target
    })
}

fn no_kernel() -> PathBuf {
    archive::tree().join("etc/ld.so.conf.d/x86_64-linux-gnu.conf")
}

/// An emulated computer without PCI.
pub struct Microvm;

impl Backend for Microvm {
    const MEMORY: u64 = 128 << 20;
    const PROCESSES_ARE_THE_HOSTS: bool = false;

    fn vmm() -> VmmSpec {
        qemu(QemuMachine::Microvm, kernel())
    }
    fn bad_kernel() -> VmmSpec {
        qemu(QemuMachine::Microvm, &no_kernel())
    }
}

/// An emulated PC.
pub struct Q35;

impl Backend for Q35 {
    const MEMORY: u64 = 128 << 20;
    const PROCESSES_ARE_THE_HOSTS: bool = false;

    fn vmm() -> VmmSpec {
        qemu(QemuMachine::Q35, kernel())
    }
    fn bad_kernel() -> VmmSpec {
        qemu(QemuMachine::Q35, &no_kernel())
    }
}

/// QEMU and the kernel that the lab brought along.
fn on_kvm(machine: QemuMachine, kernel: &str) -> VmmSpec {
    VmmSpec::Qemu {
        root: archive::of_lab_guest("qemu"),
        program: "usr/bin/qemu-system-x86_64".into(),
        kernel: archive::of_lab_guest(kernel),
        initramfs: Some(archive::of_lab_guest("initramfs")),
        accelerator: Accelerator::Kvm,
        machine,
    }
}

/// The computer without PCI, on the host's processor.
pub struct KvmMicrovm;

impl Backend for KvmMicrovm {
    const MEMORY: u64 = 128 << 20;
    const PROCESSES_ARE_THE_HOSTS: bool = false;

    fn vmm() -> VmmSpec {
        on_kvm(QemuMachine::Microvm, "vmlinux")
    }
    fn bad_kernel() -> VmmSpec {
        on_kvm(QemuMachine::Microvm, "initramfs")
    }
}

/// The PC, on the host's processor.
pub struct KvmQ35;

impl Backend for KvmQ35 {
    const MEMORY: u64 = 128 << 20;
    const PROCESSES_ARE_THE_HOSTS: bool = false;

    fn vmm() -> VmmSpec {
        on_kvm(QemuMachine::Q35, "vmlinux")
    }
    fn bad_kernel() -> VmmSpec {
        on_kvm(QemuMachine::Q35, "initramfs")
    }
}
