//! What a machine can do beyond what every machine can: each VMM says what it
//! claims, and what it does not claim is told by its name, never passed over.

use std::collections::BTreeSet;
use std::io;

use serde::{Deserialize, Serialize};

use crate::spec::VmmSpec;
use crate::vmm::{Seat, Vmm};

/// A capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// The guest can be asked to shut down: [`crate::Machine::stop`].
    GracefulStop,
    /// The guest can be held and let go on.
    Pause,
    /// The guest's memory can be made smaller and larger again while it runs.
    Memory,
    /// The reads and writes of a disk can be slowed down while it runs.
    DiskLimit,
    /// What the guest sends and receives can be slowed down while it runs.
    NetworkLimit,
    /// Its share of the CPU can be changed while it runs.
    CpuShare,
}

impl Capability {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 6] = [
        Self::GracefulStop,
        Self::Pause,
        Self::Memory,
        Self::DiskLimit,
        Self::NetworkLimit,
        Self::CpuShare,
    ];

    /// In words for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::GracefulStop => "graceful stop",
            Self::Pause => "pause and resume",
            Self::Memory => "change of memory",
            Self::DiskLimit => "limits on disks",
            Self::NetworkLimit => "limits on the network",
            Self::CpuShare => "change of the CPU share",
        }
    }
}

/// A change to a running machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Hold the guest.
    Pause,
    /// Let it go on.
    Resume,
    /// Give the guest this much memory, at most that of its spec. The guest gives
    /// back the rest as fast as it can, or not at all when it needs it.
    Memory {
        /// Bytes.
        bytes: u64,
    },
    /// Slow a disk down.
    DiskLimit {
        /// Its number in the spec.
        disk: usize,
        /// How much; none for no limit.
        limit: Rate,
    },
    /// Slow the network card down. What is sent and received beyond the limit is dropped. A
    /// machine always starts without a limit.
    NetworkLimit {
        /// How much, in each direction; none for no limit.
        limit: Rate,
    },
    /// Change the share of the CPU.
    CpuShare {
        /// 1 to 10000, as [`crate::Limits::cpu_weight`].
        weight: u32,
    },
}

impl Change {
    /// What it needs.
    #[must_use]
    pub fn capability(&self) -> Capability {
        match self {
            Self::Pause | Self::Resume => Capability::Pause,
            Self::Memory { .. } => Capability::Memory,
            Self::DiskLimit { .. } => Capability::DiskLimit,
            Self::NetworkLimit { .. } => Capability::NetworkLimit,
            Self::CpuShare { .. } => Capability::CpuShare,
        }
    }
}

/// A limit on a flow: a disk's both directions together, each direction of a network card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Bytes in a second.
    pub bytes_per_second: Option<u64>,
    /// Operations in a second: a disk's reads and writes; frames of a network card, of which a
    /// guest may hand over those of one stream in one of up to 64 KiB.
    pub operations_per_second: Option<u64>,
}

/// Capability: changes a running machine.
pub trait Controls {
    /// What it can change. The CPU share of a jailed VMM is its control group's, a limit on the
    /// network the host's: one that claims them is not asked to do it.
    fn claims(&self) -> &'static [Capability];

    /// Makes a change that it claims. Must not take longer than about ten seconds: the shim does nothing else meanwhile.
    ///
    /// # Errors
    /// When the VMM does not do it, in its words.
    fn change(&self, seat: &Seat<'_>, change: &Change) -> io::Result<()>;
}

/// What a VMM claims.
pub(crate) fn of(vmm: &dyn Vmm) -> BTreeSet<Capability> {
    let button = vmm.power_button().map(|_| Capability::GracefulStop);
    button.into_iter().chain(vmm.controls().iter().flat_map(|c| c.claims()).copied()).collect()
}

impl VmmSpec {
    /// What machines of this VMM can do.
    #[must_use]
    pub fn capabilities(&self) -> BTreeSet<Capability> {
        of(&*self.vmm())
    }
}
