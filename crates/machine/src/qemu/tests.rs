use super::*;
use crate::spec::{Disk, Limits, Nic, VmmSpec};

fn qemu(accelerator: Accelerator, machine: QemuMachine) -> Qemu {
    Qemu {
        root: "/depot/root".into(),
        program: "usr/bin/qemu-system-x86_64".into(),
        kernel: "/depot/vmlinux".into(),
        initramfs: Some("/depot/initramfs".into()),
        accelerator,
        machine,
    }
}

fn spec(qemu: &Qemu) -> MachineSpec {
    let Qemu { root, program, kernel, initramfs, accelerator, machine } = qemu.clone();
    MachineSpec {
        name: "ce".into(),
        vmm: VmmSpec::Qemu { root, program, kernel, initramfs, accelerator, machine },
        uid: 7,
        gid: 7,
        memory: 200 << 20,
        cpus: 2,
        disks: vec![Disk::own("/sites/a,b/disk.img"), Disk::shared("/depot/modules.ext4")],
        nic: Some(Nic {
            namespace: "/run/n".into(),
            tap: "t,0".into(),
            mac: "02::1".into(),
            filter: None,
        }),
        clock: None,
        kernel_arguments: vec!["root=PARTLABEL=gridgate-root".into(), "rw".into()],
        run_dir: "/run/ce".into(),
        limits: Limits::default(),
    }
}

#[test]
fn the_command_line_names_every_device_and_none_of_the_hosts_paths() {
    let qemu = qemu(Accelerator::Tcg, QemuMachine::Q35);
    let line = qemu.command(&spec(&qemu)).arguments.join(" ");
    for part in [
        "-kernel /boot/kernel -initrd /boot/initramfs -append console=ttyS0 console=hvc0 no_timer_check ",
        "trace_eval_init tsc=reliable root=PARTLABEL=gridgate-root rw -blockdev",
        "-m 204800K -smp 2",
        "filename=/disks/0,aio=threads,cache.direct=off,cache.no-flush=off,discard=unmap",
        "filename=/disks/1,aio=threads,cache.direct=off,cache.no-flush=off,read-only=on",
        "-netdev tap,id=net,ifname=t,,0,script=no",
        "-device virtio-net-pci,netdev=net,mac=02::1",
        "-device virtio-serial-pci,max_ports=1 -device virtconsole,chardev=console",
        "-sandbox on,",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!line.contains("/depot") && !line.contains("/sites"), "{line}");
    assert!(!line.contains("kvm"), "{line}");
}

#[test]
fn kvm_is_seen_by_those_alone_who_use_it() {
    let plan = |accelerator| {
        let qemu = qemu(accelerator, QemuMachine::Microvm);
        match qemu.confinement(&spec(&qemu)) {
            Confinement::Jail(plan) => plan,
            Confinement::Keeper => panic!("not jailed"),
        }
    };
    assert!(plan(Accelerator::Kvm).devices.contains(&Device::Kvm));
    assert_eq!(plan(Accelerator::Tcg).devices, [Device::Tun]);
}

#[test]
fn the_consoles_lines_are_understood() {
    let qemu = qemu(Accelerator::Tcg, QemuMachine::Q35);
    let sign = |line: &str| qemu.sign(line);
    let panic = "[    1.1] Kernel panic - not syncing: no init";
    assert_eq!(sign(panic), Some(Sign::Panic("no init".into())));
    assert_eq!(sign("---[ end Kernel panic - not syncing: no init ]---"), Some(Sign::Dead));
    assert_eq!(sign("[    1.2] Rebooting in 1 seconds.."), Some(Sign::Dead));
    assert_eq!(sign("reboot: Restarting system"), Some(Sign::Restarting));
    assert_eq!(sign("reboot: Power off not available: System halted instead"), Some(Sign::Halted));
    assert_eq!(sign("reboot: Power down"), None);
}

#[test]
fn what_it_cannot_do_is_said_before_a_start() {
    let qemu = qemu(Accelerator::Tcg, QemuMachine::Q35);
    let mut small = spec(&qemu);
    small.memory = 1 << 20;
    assert!(qemu.check(&small).unwrap_err().contains("at least 96 MiB"));
    let mut many = spec(&qemu);
    many.disks = vec![Disk::own("/d"); 17];
    assert!(qemu.check(&many).unwrap_err().contains("16 disks"));
    let odd = MachineSpec { clock: Some(i64::MAX), ..spec(&qemu) };
    assert!(qemu.check(&odd).unwrap_err().contains("a clock cannot show"));
    assert_eq!(qemu.check(&spec(&qemu)), Ok(()));
}

#[test]
fn a_microvm_has_the_firmware_that_leaves_its_tables_alone_and_is_told_its_clock() {
    let line = |accelerator| {
        let qemu = qemu(accelerator, QemuMachine::Microvm);
        qemu.command(&spec(&qemu)).arguments.join(" ")
    };
    let (emulated, kvm) = (line(Accelerator::Tcg), line(Accelerator::Kvm));
    for part in ["-machine microvm,acpi=on", "-bios qboot.rom", "virtio-blk-device,id=disk1"] {
        assert!(emulated.contains(part) && kvm.contains(part), "{part}: {emulated} {kvm}");
    }
    assert!(!emulated.contains("-pci"), "{emulated}");
    assert!(
        emulated.contains(" tsc_early_khz=") && emulated.contains(" tsc=reliable"),
        "{emulated}"
    );
    assert!(!kvm.contains("tsc"), "{kvm}");
}
