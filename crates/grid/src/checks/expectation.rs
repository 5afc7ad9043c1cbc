//! What the output of a check must show, and where to look when it does not.

use super::Host;

/// How a check's transcript is judged; see [`super::judge`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expectation {
    pub(crate) claim: Claim,
    /// How to look further.
    pub(crate) hint: String,
}

/// What a transcript must show. The step names are those of [`super::plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// A proxy of this identity that lasts a while.
    Proxy { identity: String },
    /// The gatekeeper lets the user in.
    Authenticated,
    /// A job told the CE's host name.
    RanOn { host: Host },
    /// A job told the host name of a worker, and its Slurm job's number.
    RanOnWorker { workers: Vec<String>, domain: String },
    /// A listing of this URL has this entry.
    Listed { url: String, entry: String },
    /// A file that was put can be seen.
    Put,
    /// What came back has the checksum of what was sent.
    SameContent { what: &'static str },
    /// A file is gone, and another is not.
    Deleted { what: &'static str },
    /// A copy had the right content, and could be deleted without the original.
    Replica,
    /// Services turn away a person whom they do not map.
    Refused { identity: String, services: Vec<Service> },
}

/// A service that refuses strangers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// The gatekeeper on the CE.
    Gram,
    /// The GridFTP server on the SE.
    GridFtp {
        /// What a listing shows to those who may see it.
        entry: String,
    },
}
