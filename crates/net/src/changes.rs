//! What bringing a network into its planned state did and could not do.

use std::fmt;

/// What [`ensure`](crate::ensure) did and what it could not do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What was changed, in order; empty when all was as planned.
    pub made: Vec<Change>,
    /// What this kernel cannot do.
    pub warnings: Vec<Warning>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The namespace was made.
    NamespaceMade,
    /// The loopback interface was brought up.
    LoopbackUp,
    /// The bridge was made.
    BridgeMade,
    /// The bridge was down or had another Ethernet address, and was corrected.
    BridgeCorrected,
    /// The server's address was set on the bridge, others were removed.
    AddressSet,
    /// A tap was made.
    TapMade {
        /// Its name.
        tap: String,
        /// The node it is for.
        node: String,
    },
    /// A tap had other settings than planned and was corrected.
    TapCorrected {
        /// Its name.
        tap: String,
        /// The node it is for.
        node: String,
    },
    /// A tap that is no longer in the plan was removed.
    TapRemoved {
        /// Its name.
        tap: String,
    },
    /// An interface that a VMM has made was given its filter and its place on the bridge.
    CardGuarded {
        /// Its name.
        card: String,
        /// The node it is for.
        node: String,
    },
}

/// Something that the kernel cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The node could use others' IP addresses (its Ethernet address is bound to its
    /// port all the same, where the kernel's bridge can lock ports).
    NoAntiSpoofing {
        /// The tap.
        tap: String,
        /// The node.
        node: String,
        /// The kernel's answer.
        reason: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NamespaceMade => write!(f, "network namespace made"),
            Self::LoopbackUp => write!(f, "loopback brought up"),
            Self::BridgeMade => write!(f, "bridge made"),
            Self::BridgeCorrected => write!(f, "bridge corrected"),
            Self::AddressSet => write!(f, "server's address set"),
            Self::TapMade { tap, node } => write!(f, "tap {tap} made for {node}"),
            Self::TapCorrected { tap, node } => write!(f, "tap {tap} of {node} corrected"),
            Self::TapRemoved { tap } => write!(f, "tap {tap} removed"),
            Self::CardGuarded { card, node } => write!(f, "card {card} of {node} guarded"),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAntiSpoofing { tap, node, reason } => write!(
                f,
                "{node} could use other nodes' addresses: the kernel takes no filter on {tap}: \
                 {reason}"
            ),
        }
    }
}
