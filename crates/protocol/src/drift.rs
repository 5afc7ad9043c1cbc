//! How a node differs from its profile, and the request to look or to put it back.
//!
//! ```text
//! command line ──DriftCommand──> daemon ──DriftRequest, in Work──> agent
//!              <──DriftReport───        <──POST /v1/node/drift/{id}──
//! ```
//!
//! A secret is never in here: of a file or key that is one, only that it differs.

use serde::{Deserialize, Serialize};

use crate::agent_api::ResourceReport;
use crate::node_profile::Reconcile;

/// Exit code of the command line when a look found a difference and nothing was put back.
pub const DRIFT_EXIT_CODE: u8 = 8;

/// Most resources in a report; more are only counted.
pub const MOST_DRIFTS: usize = 500;

/// Longest textual difference of one file, bytes.
pub const LONGEST_DIFF: usize = 8 * 1024;

/// All textual differences of a report together, bytes.
pub const ALL_DIFFS: usize = 256 * 1024;

/// What the command line asks of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftCommand {
    /// Put back what differs.
    #[serde(default)]
    pub put_back: bool,
    /// Also compare the files of all packages with the sums that their packages brought.
    #[serde(default)]
    pub package_files: bool,
}

/// What the server wants compared now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftRequest {
    /// Unique within the server's life; part of the answer's path.
    pub id: u64,
    /// As in [`DriftCommand`].
    pub command: DriftCommand,
}

/// What a look found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftReport {
    /// Version of the profile that was compared with; none: nothing was applied yet.
    pub version: Option<String>,
    /// Resources that differ, at most [`MOST_DRIFTS`].
    pub drifts: Vec<Drift>,
    /// How many more differ.
    pub left_out: u32,
    /// How many are as the profile says.
    pub unchanged: u32,
    /// What was changed to put it back, and what could not be; empty when only looked at.
    pub put_back: Vec<ResourceReport>,
    /// Duration, milliseconds.
    pub millis: u64,
}

/// One resource that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// As in `ResourceReport`: `file`, `link`, `directory`, `user`, `unit`, `package` …
    pub kind: String,
    /// Path or name.
    pub name: String,
    /// Component that asked for it; empty for what nobody asked for.
    pub component: String,
    /// What differs.
    pub differences: Vec<Difference>,
    /// For a text file whose content differs: unified, wanted (`-`) against found (`+`).
    pub diff: Option<String>,
}

/// One property that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// `presence`, `content`, `mode`, `owner`, `group`, `target`, `state`, `enabled`, `version`, `problem` …
    pub what: String,
    /// As it is; none where that may not or cannot be said.
    pub found: Option<String>,
    /// As the profile says.
    pub wanted: Option<String>,
}

impl Difference {
    /// A property with both sides.
    pub fn new(what: &str, found: impl Into<String>, wanted: impl Into<String>) -> Difference {
        Difference { what: what.to_owned(), found: Some(found.into()), wanted: Some(wanted.into()) }
    }

    /// A property of which only is said that it differs.
    pub fn hidden(what: &str) -> Difference {
        Difference { what: what.to_owned(), found: None, wanted: None }
    }
}

/// What an agent put back by itself since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBack {
    /// How many resources.
    pub count: u64,
    /// The last ones, oldest first, at most 16.
    pub last: Vec<PutBackEntry>,
}

/// How a node stays as its profile says; part of its status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Staying {
    /// Whether its profile wants it put back unasked.
    pub reconcile: Reconcile,
    /// What its agent put back unasked since it started.
    pub put_back: PutBack,
    /// Fingerprint of the package list that is published for it.
    pub published_packages: Option<String>,
    /// Fingerprint of the package list that it has.
    pub applied_packages: Option<String>,
    /// Its disk from before the last update, which `gridgate rollback` puts back.
    pub earlier: Option<EarlierDisk>,
    /// Why it is held at its earlier packages, if it is.
    pub held: Option<String>,
}

/// A node's disk from before an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierDisk {
    /// Fingerprint of the package list on it.
    pub packages: String,
    /// When it was kept, RFC 3339.
    pub at: String,
    /// Blocks in use by it, bytes.
    pub used: u64,
}

/// One resource that was put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBackEntry {
    /// When, seconds since 1970 by the node's clock.
    pub at: i64,
    /// Kind of resource.
    pub kind: String,
    /// Path or name.
    pub name: String,
    /// What differed, in a few words.
    pub what: String,
    /// Why it could not be put back, if so.
    pub failed: Option<String>,
}
