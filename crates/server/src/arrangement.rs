//! Which VMM runs a node and how, without the paths that a launch needs: what a profile asks for, what a
//! running machine has, and what is compared to know whether a restart is due.

use std::fmt;

use gridgate_machine::{UmlSecurity, VmmSpec};
use gridgate_profile::{CompiledNode, Security};

/// A VMM with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arrangement {
    /// User-Mode Linux.
    Uml(Isolation),
}

/// How User-Mode Linux keeps its guest's processes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// Faster.
    Seccomp,
    /// Stricter.
    Ptrace,
}

impl Arrangement {
    /// What a node's profile asks for on this host.
    pub fn wanted(node: &CompiledNode) -> Arrangement {
        Arrangement::Uml(match node.security {
            Security::Seccomp => Isolation::Seccomp,
            Security::Ptrace => Isolation::Ptrace,
        })
    }

    /// What a machine was started with.
    pub fn of(vmm: &VmmSpec) -> Arrangement {
        match vmm {
            VmmSpec::Uml { security, .. } => Arrangement::Uml(match security {
                UmlSecurity::Seccomp => Isolation::Seccomp,
                UmlSecurity::Ptrace => Isolation::Ptrace,
            }),
        }
    }
}

impl From<Isolation> for UmlSecurity {
    fn from(isolation: Isolation) -> UmlSecurity {
        match isolation {
            Isolation::Seccomp => UmlSecurity::Seccomp,
            Isolation::Ptrace => UmlSecurity::Ptrace,
        }
    }
}

impl Arrangement {
    /// The VMM alone, as the profile names it.
    pub fn vmm(self) -> &'static str {
        match self {
            Arrangement::Uml(_) => "uml",
        }
    }
}

impl fmt::Display for Arrangement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = match self {
            Arrangement::Uml(Isolation::Seccomp) => "seccomp",
            Arrangement::Uml(Isolation::Ptrace) => "ptrace",
        };
        write!(f, "{} ({settings})", self.vmm())
    }
}
