//! Which VMM runs a node and how, without the paths that a launch needs: what a profile asks for, what a
//! running machine has, and what is compared to know whether a restart is due.

use std::fmt;

use gridgate_machine::{Accelerator, QemuMachine, UmlSecurity, VmmSpec, XenGuest};
use gridgate_profile::{CompiledNode, Guest, Hardware, Security};

use crate::verdicts::Engine;

/// A VMM with its settings, as the profile has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// User-Mode Linux.
    Uml(Security),
    /// QEMU with KVM.
    Kvm(Hardware),
    /// QEMU's emulation.
    Tcg(Hardware),
    /// Xen.
    Xen(Guest),
}

impl Arrangement {
    /// What a node has on an engine.
    pub fn of_node(engine: Engine, node: &CompiledNode) -> Arrangement {
        match engine {
            Engine::Uml => Arrangement::Uml(node.security),
            Engine::Kvm => Arrangement::Kvm(node.hardware),
            Engine::Tcg => Arrangement::Tcg(node.hardware),
            Engine::Xen => Arrangement::Xen(node.guest),
        }
    }

    /// What an engine has when nothing is said.
    pub fn plain(engine: Engine) -> Arrangement {
        match engine {
            Engine::Uml => Arrangement::Uml(Security::default()),
            Engine::Kvm => Arrangement::Kvm(Hardware::default()),
            Engine::Tcg => Arrangement::Tcg(Hardware::default()),
            Engine::Xen => Arrangement::Xen(Guest::default()),
        }
    }

    /// What a machine was started with.
    pub fn of(vmm: &VmmSpec) -> Arrangement {
        match vmm {
            VmmSpec::Uml { security, .. } => Arrangement::Uml(match security {
                UmlSecurity::Seccomp => Security::Seccomp,
                UmlSecurity::Ptrace => Security::Ptrace,
            }),
            VmmSpec::Xen { guest, .. } => Arrangement::Xen(match guest {
                XenGuest::Pv => Guest::Pv,
                XenGuest::Pvh => Guest::Pvh,
            }),
            VmmSpec::Qemu { accelerator, machine, .. } => {
                let hardware = match machine {
                    QemuMachine::Microvm => Hardware::Microvm,
                    QemuMachine::Q35 => Hardware::Q35,
                };
                match accelerator {
                    Accelerator::Kvm => Arrangement::Kvm(hardware),
                    Accelerator::Tcg => Arrangement::Tcg(hardware),
                }
            }
        }
    }

    /// Its engine.
    pub fn engine(self) -> Engine {
        match self {
            Arrangement::Uml(_) => Engine::Uml,
            Arrangement::Kvm(_) => Engine::Kvm,
            Arrangement::Tcg(_) => Engine::Tcg,
            Arrangement::Xen(_) => Engine::Xen,
        }
    }
}

/// The VMM's word for the profile's.
pub fn security(security: Security) -> UmlSecurity {
    match security {
        Security::Seccomp => UmlSecurity::Seccomp,
        Security::Ptrace => UmlSecurity::Ptrace,
    }
}

/// The VMM's word for the profile's.
pub fn machine(hardware: Hardware) -> QemuMachine {
    match hardware {
        Hardware::Microvm => QemuMachine::Microvm,
        Hardware::Q35 => QemuMachine::Q35,
    }
}

/// The VMM's word for the profile's.
pub fn guest(guest: Guest) -> XenGuest {
    match guest {
        Guest::Pv => XenGuest::Pv,
        Guest::Pvh => XenGuest::Pvh,
    }
}

impl fmt::Display for Arrangement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setting = match self {
            Arrangement::Uml(Security::Seccomp) => "seccomp",
            Arrangement::Uml(Security::Ptrace) => "ptrace",
            Arrangement::Kvm(Hardware::Microvm) => "kvm, microvm",
            Arrangement::Kvm(Hardware::Q35) => "kvm, q35",
            Arrangement::Tcg(Hardware::Microvm) => "tcg, microvm",
            Arrangement::Tcg(Hardware::Q35) => "tcg, q35",
            Arrangement::Xen(Guest::Pv) => "pv",
            Arrangement::Xen(Guest::Pvh) => "pvh",
        };
        write!(f, "{} ({setting})", self.engine().vmm())
    }
}
