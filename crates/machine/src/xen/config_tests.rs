use std::path::Path;

use super::{domain, kernel_arguments};
use crate::spec::{Disk, Limits, MachineSpec, Nic, VmmSpec, XenBoot, XenGuest, XenTuning};
use crate::xen::Xen;
use crate::xen::bootloader::Boot;

fn spec(guest: XenGuest, boot: XenBoot, tuning: XenTuning) -> MachineSpec {
    MachineSpec {
        name: "ce".into(),
        vmm: VmmSpec::Xen {
            kernel: "/depot/vmlinuz".into(),
            initramfs: Some("/depot/initramfs".into()),
            bridge: "site".into(),
            guest,
            boot,
            tuning,
        },
        uid: 1_000_001,
        gid: 1_000_001,
        memory: 200 << 20,
        cpus: 2,
        disks: vec![
            Disk { path: "/home/ce/disk, one.img".into(), read_only: false },
            Disk { path: "/depot/modules.img".into(), read_only: true },
        ],
        nic: Some(Nic {
            namespace: "/run/netns/gg-dublin".into(),
            tap: "gg-ce".into(),
            mac: "02:00:00:00:00:0a".into(),
            filter: None,
        }),
        clock: None,
        kernel_arguments: vec!["root=PARTLABEL=gridgate-root".into(), "a=\"b\\c\"".into()],
        run_dir: "/home/ce/run".into(),
        limits: Limits { cgroup: "gridgate/ce".into(), cpu_weight: Some(50), ..Limits::default() },
    }
}

fn written(guest: XenGuest, boot: XenBoot, tuning: XenTuning) -> String {
    let spec = spec(guest, boot, tuning);
    let xen = Xen::of(&spec.vmm).unwrap();
    let boot = match boot {
        XenBoot::Direct => Boot {
            kernel: "/depot/vmlinuz".into(),
            initramfs: Some("/depot/initramfs".into()),
            arguments: kernel_arguments(&spec),
        },
        XenBoot::Pygrub => Boot {
            kernel: "/home/ce/run/vmm/boot/boot_kernel.x".into(),
            initramfs: None,
            arguments: "from=disk".into(),
        },
    };
    domain(&spec, &xen, &boot, Path::new("/home/ce/run/vmm"))
}

#[test]
fn a_paravirtual_guest_with_its_own_kernel() {
    let expected = r#"# Written by gridgate at each start.
name = "gg-ce-c0ffee00"
uuid = "UUID"
type = "pv"
memory = 200
maxmem = 200
vcpus = 2
cpu_weight = 128
kernel = "/depot/vmlinuz"
ramdisk = "/depot/initramfs"
extra = "root=PARTLABEL=gridgate-root a=\x22b\\c\x22 console=hvc0"
disk = ["format=raw,vdev=xvda,access=rw,script=/home/ce/run/vmm/block,target=/home/ce/disk, one.img", "format=raw,vdev=xvdb,access=ro,script=/home/ce/run/vmm/block,target=/depot/modules.img"]
vif = ["mac=02:00:00:00:00:0a,bridge=site,vifname=gg-ce,script=/home/ce/run/vmm/card"]
on_poweroff = "preserve"
on_reboot = "preserve"
on_crash = "preserve"
on_watchdog = "preserve"
"#;
    let identity =
        crate::xen::Identity::of(&spec(XenGuest::Pv, XenBoot::Direct, XenTuning::default()));
    let expected =
        expected.replace("gg-ce-c0ffee00", &identity.name).replace("UUID", &identity.uuid);
    assert_eq!(written(XenGuest::Pv, XenBoot::Direct, XenTuning::default()), expected);
}

#[test]
fn a_hardware_guest_that_boots_from_its_disk_with_limits() {
    let tuning =
        XenTuning { cap: Some(150), cpus: Some("1-3,^2".into()), maximum_memory: Some(400 << 20) };
    let text = written(XenGuest::Pvh, XenBoot::Pygrub, tuning);
    for line in [
        "type = \"pvh\"",
        "memory = 200",
        "maxmem = 400",
        "cap = 150",
        "cpus = \"1-3,^2\"",
        "kernel = \"/home/ce/run/vmm/boot/boot_kernel.x\"",
        "extra = \"from=disk\"",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("bootloader") && !text.contains("ramdisk"), "{text}");
}
