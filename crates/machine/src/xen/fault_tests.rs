//! The samples were printed by Xen 4.20 in the lab.

use super::of_create;
use crate::spec::{Limits, MachineSpec, VmmSpec, XenBoot, XenGuest, XenTuning};
use crate::xen::Xen;

fn told(said: &str) -> String {
    let spec = MachineSpec {
        name: "ce".into(),
        vmm: VmmSpec::Xen {
            kernel: "/depot/vmlinuz".into(),
            initramfs: None,
            bridge: "site".into(),
            guest: XenGuest::Pv,
            boot: XenBoot::Direct,
            tuning: XenTuning::default(),
        },
        uid: 1,
        gid: 1,
        memory: 4000 << 20,
        cpus: 1,
        disks: Vec::new(),
        nic: None,
        clock: None,
        kernel_arguments: Vec::new(),
        run_dir: "/run".into(),
        limits: Limits::default(),
    };
    of_create(said, &spec, &Xen::of(&spec.vmm).unwrap(), Some(530)).to_string()
}

#[test]
fn a_name_that_is_taken() {
    let said = "libxl: error: libxl_domain.c:81:libxl__domain_rename: Domain 5:Domain with name \"g1\" already exists.\n\
                libxl: error: libxl_create.c:1351:initiate_domain_create: Domain 5:cannot make domain: -6\n";
    let told = told(said);
    assert!(told.contains("is there and is not this machine's; it was left alone"), "{told}");
}

#[test]
fn no_memory() {
    let said = "xc: error: panic: xg_dom_boot.c:119: xc_dom_boot_mem_init: can't allocate low memory for domain: Out of memory\n\
                libxl: error: libxl_dom.c:581:libxl__build_dom: xc_dom_boot_mem_init failed: Cannot allocate memory\n";
    let told = told(said);
    assert!(told.contains("Xen has no 4000 MiB for it, 530 MiB are free; stop a domain"), "{told}");
}

#[test]
fn a_kernel_that_is_none_and_one_that_is_not_there() {
    let said = "xc: error: panic: xg_dom_core.c:689: xc_dom_find_loader: no loader found: Invalid kernel\n";
    assert_eq!(told(said), "kernel /depot/vmlinuz: is not a kernel that Xen can load");
    let said = "xc: error: panic: xg_dom_core.c:205: failed to open file '/nope': No such file or directory: Internal error\n";
    assert_eq!(told(said), "kernel /nope: cannot be opened");
}

#[test]
fn a_disk_that_is_not_there() {
    let said = "libxl: error: libxl_device.c:468:libxl__device_disk_set_backend: Disk vdev=xvda failed to stat: /nodisk.img: No such file or directory\n";
    assert_eq!(told(said), "disk /nodisk.img: is not there");
}

#[test]
fn what_a_script_says_and_what_nobody_knows() {
    let said = "libxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: /etc/xen/scripts/vif-bridge online [741] exited with error status 1\n\
                libxl: error: libxl_device.c:1351:device_hotplug_child_death_cb: script: Could not find bridge device nobr\n";
    assert_eq!(told(said), "cannot create its domain: Could not find bridge device nobr");
    let said = "libxl: error: libxl_create.c:1373:initiate_domain_create: Domain 9:Unable to set disk defaults for disk 0\n";
    assert_eq!(told(said), "cannot create its domain: Unable to set disk defaults for disk 0");
    assert!(told("").ends_with("xl says nothing of the reason"));
}
