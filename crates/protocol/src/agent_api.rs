//! Agent ↔ install server: HTTPS with a certificate of the site's CA on the
//! server's side and a bearer token bound to one node on the agent's.
//!
//! | method and path | request | answer |
//! |---|---|---|
//! | `GET /v1/node/profile` | – | [`PublishedProfile`] |
//! | `GET /v1/node/secrets/{name}` | – | the secret's bytes; 404 if this node's profile does not name it |
//! | `POST /v1/node/certificates/{name}` | PEM certificate request | PEM certificate |
//! | `GET /v1/node/packages` | – | [`PackageList`]: the locked closure of this node's packages |
//! | `GET /v1/node/packages/{sha256}` | – | the `.deb` |
//! | `POST /v1/node/report` | [`Report`] | 204 |
//! | `GET /v1/node/work?applied={version}&packages={fingerprint}` | – | [`Work`], held back up to 25 s while there is none |
//! | `POST /v1/node/runs/{id}` | [`RunResult`] | 204 |
//! | `POST /v1/node/drift/{id}` | [`DriftReport`](crate::drift::DriftReport) | 204 |
//!
//! Which node speaks is told by its token alone, so no path names a node.
//! Errors are `{"error": "…"}` with a 4xx or 5xx status.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::drift::{DriftRequest, PutBack};
use crate::node_profile::NodeProfile;

/// TCP port of the install server on the site network.
pub const PORT: u16 = 8140;

/// Name in the install server's certificate.
pub const SERVER_NAME: &str = "gridgate-server";

/// Label of the GPT partition that carries the seed (a tar archive from byte 0).
pub const SEED_PARTITION: &str = "gridgate-seed";

/// File in the seed: [`Identity`] as JSON.
pub const SEED_IDENTITY: &str = "identity.json";

/// File in the seed: the agent's static binary.
pub const SEED_AGENT: &str = "gridgate";

/// Who a node is and whom it trusts: given to it on its own disk, mode 0600.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Site name.
    pub site: String,
    /// Node name.
    pub node: String,
    /// DNS domain.
    pub domain: String,
    /// This node's Ethernet address: how it finds its interface.
    pub mac: String,
    /// This node's address.
    pub address: Ipv4Addr,
    /// Prefix length of the site network.
    pub prefix_length: u8,
    /// The install server's address.
    pub server: Ipv4Addr,
    /// The install server's port.
    pub port: u16,
    /// The site CA's certificate, PEM.
    pub ca: String,
    /// Bearer token, hex.
    pub token: String,
}

/// A node profile and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedProfile {
    /// [`NodeProfile::version`].
    pub version: String,
    /// The document.
    pub profile: NodeProfile,
    /// [`PackageList::fingerprint`] of the node's locked packages, where they are known.
    #[serde(default)]
    pub packages: Option<String>,
}

/// The packages a node must have, dependencies included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageList {
    /// Every package of the node, sorted by name.
    pub packages: Vec<LockedPackage>,
}

impl PackageList {
    /// Tells one list from another: the first 16 hex digits of the SHA-256 over names, versions and hashes.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for package in &self.packages {
            let LockedPackage { name, version, sha256, .. } = package;
            hash.update(format!("{name} {version} {sha256}\n"));
        }
        hex::encode(&hash.finalize()[..8])
    }
}

/// One package, pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedPackage {
    /// Debian package name.
    pub name: String,
    /// Full version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// SHA-256 of the `.deb`, hex.
    pub sha256: String,
    /// Size of the `.deb` in bytes.
    pub size: u64,
}

/// What the agent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentPhase {
    /// Started, has not fetched a profile in this boot.
    Starting,
    /// Working on `wanted`.
    Applying,
    /// `applied` is what the node is; health follows.
    Applied,
    /// At least one resource failed; the others were applied.
    Failed,
}

/// What an agent says of its node. Each report replaces the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The kernel's boot id: tells a report of this boot from an older one.
    pub boot_id: String,
    /// Version of the agent (crate version).
    pub agent: String,
    /// Seconds since the node booted, in milliseconds.
    pub uptime_ms: u64,
    /// What the agent is doing.
    pub phase: AgentPhase,
    /// Version being applied.
    pub wanted: Option<String>,
    /// Last version applied without a failure.
    pub applied: Option<String>,
    /// [`PublishedProfile::packages`] of the list that is installed.
    #[serde(default)]
    pub packages: Option<String>,
    /// Resources of the last application, but for the unchanged ones.
    pub resources: Vec<ResourceReport>,
    /// How many resources were as they should be.
    pub unchanged: u32,
    /// One entry per health check, in the profile's order.
    pub health: Vec<HealthReport>,
    /// What was put back without being asked, where the profile wants that.
    #[serde(default)]
    pub put_back: PutBack,
    /// Memory of the node in use (total minus available), bytes.
    pub memory_used: u64,
    /// Memory the node's kernel sees, bytes.
    pub memory_total: u64,
}

impl Report {
    /// Whether the node does what its profile says: applied, and all checks pass.
    pub fn healthy(&self) -> bool {
        self.phase == AgentPhase::Applied && self.health.iter().all(|check| check.ok)
    }
}

/// One resource that was changed or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceReport {
    /// E.g. `file`, `unit`, `user`, `certificate`, `package`, `command`.
    pub kind: String,
    /// Path or name.
    pub name: String,
    /// Component it belongs to.
    pub component: String,
    /// What happened.
    pub outcome: Outcome,
    /// How long it took, milliseconds.
    pub millis: u64,
}

/// What became of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was brought into the wanted state.
    Changed,
    /// It could not be; with the reason.
    Failed(String),
}

/// One health check's last result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// Name from the profile.
    pub name: String,
    /// Whether it passed.
    pub ok: bool,
    /// What was seen, e.g. `activating`, `port 2119 not open`.
    pub detail: String,
    /// Uptime at which it first passed in this boot, milliseconds.
    pub since_ms: Option<u64>,
}

/// What the server wants of the agent now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The published version; when it is not the applied one, fetch and apply.
    pub published: String,
    /// [`PublishedProfile::packages`] of what is published; another than the installed one: fetch and apply.
    #[serde(default)]
    pub packages: Option<String>,
    /// Apply again even though the version is the applied one.
    pub reapply: bool,
    /// Commands to run now, concurrently.
    pub runs: Vec<RunRequest>,
    /// Compare the node with its profile.
    #[serde(default)]
    pub drift: Vec<DriftRequest>,
    /// Power the node off in good order.
    pub power_off: bool,
}

/// A command that the server wants run in the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// Unique within the server's life; part of the answer's path.
    pub id: u64,
    /// Login name; it runs in a login-like environment (HOME, USER, PATH, `/etc/profile.d` read).
    pub user: String,
    /// A script for `/bin/sh`, given on standard input.
    pub script: String,
    /// Kill it (its whole process group) after this many seconds.
    pub limit_s: u32,
}

/// Kept of each output stream of a run, bytes.
pub const RUN_OUTPUT: usize = 64 << 10;

/// What came of a [`RunRequest`]. Output beyond [`RUN_OUTPUT`] a stream is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunResult {
    /// Exit code; 128+n when killed by signal n.
    pub exit_code: i32,
    /// Whether the time limit ended it.
    pub timed_out: bool,
    /// Standard output, lossy UTF-8.
    pub stdout: String,
    /// Standard error, lossy UTF-8.
    pub stderr: String,
    /// Duration, milliseconds.
    pub millis: u64,
}
