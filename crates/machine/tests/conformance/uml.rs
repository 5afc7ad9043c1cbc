//! User-Mode Linux under test.

use gridgate_machine::{UmlSecurity, VmmSpec};

use crate::archive;
use crate::lab::Backend;

fn uml(security: UmlSecurity) -> VmmSpec {
    let root = archive::tree().to_owned();
    VmmSpec::Uml { root, kernel: "usr/bin/linux.uml".into(), initramfs: None, security }
}

fn uml_with_bad_kernel(security: UmlSecurity) -> VmmSpec {
    let kernel = "etc/ld.so.conf.d/x86_64-linux-gnu.conf".into();
    VmmSpec::Uml { root: archive::tree().to_owned(), kernel, initramfs: None, security }
}

/// Guest processes kept apart by seccomp.
pub struct Seccomp;

impl Backend for Seccomp {
    const MEMORY: u64 = 64 << 20;
    const PROCESSES_ARE_THE_HOSTS: bool = true;

    fn vmm() -> VmmSpec {
        uml(UmlSecurity::Seccomp)
    }
    fn bad_kernel() -> VmmSpec {
        uml_with_bad_kernel(UmlSecurity::Seccomp)
    }
}

/// Guest processes kept apart by ptrace.
pub struct Ptrace;

impl Backend for Ptrace {
    const MEMORY: u64 = 64 << 20;
    const PROCESSES_ARE_THE_HOSTS: bool = true;

    fn vmm() -> VmmSpec {
        uml(UmlSecurity::Ptrace)
    }
    fn bad_kernel() -> VmmSpec {
        uml_with_bad_kernel(UmlSecurity::Ptrace)
    }
}
