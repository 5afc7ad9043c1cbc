//! Xen under test, inside the lab: `cargo xtask xen-lab test`. The suite's own list of
//! promises, but for those about a jail, which a keeper does not have.

use gridgate_machine::{VmmSpec, XenBoot, XenGuest, XenTuning};

use crate::archive::of_lab_guest;
use crate::lab::Backend;

/// The bridge in a test's network.
pub const BRIDGE: &str = "site";

fn domain(kernel: &str, guest_type: XenGuest) -> VmmSpec {
    VmmSpec::Xen {
        kernel: of_lab_guest(kernel),
        initramfs: Some(of_lab_guest("initramfs")),
        bridge: BRIDGE.into(),
        guest: guest_type,
        boot: XenBoot::Direct,
        tuning: XenTuning { maximum_memory: Some(160 << 20), ..XenTuning::default() },
    }
}

/// Paravirtual guests.
pub struct Pv;

impl Backend for Pv {
    const MEMORY: u64 = 96 << 20;
    const PROCESSES_ARE_THE_HOSTS: bool = false;

    fn vmm() -> VmmSpec {
        domain("vmlinux", XenGuest::Pv)
    }
    fn bad_kernel() -> VmmSpec {
        domain("busybox", XenGuest::Pv)
    }
}

/// Guests in a hardware container.
pub struct Pvh;

impl Backend for Pvh {
    const MEMORY: u64 = 128 << 20;
    const PROCESSES_ARE_THE_HOSTS: bool = false;

    fn vmm() -> VmmSpec {
        domain("vmlinux", XenGuest::Pvh)
    }
    fn bad_kernel() -> VmmSpec {
        domain("busybox", XenGuest::Pvh)
    }
}
