//! Installer ↔ install server: how a node installs itself from an empty disk. Same listener, certificate and
//! `{"error": "…"}` answers as [`crate::agent_api`].
//!
//! | method and path | bearer | request | answer |
//! |---|---|---|---|
//! | `POST /v1/install/begin` | one-time token | [`Begin`] | [`Order`]; 409 [`Held`] while another installation of this node runs |
//! | `POST /v1/install/progress` | session | [`Progress`] | 204; 410 when this installation was given up |
//! | `GET /v1/install/image` | session | – | [`ImageManifest`] |
//! | `GET /v1/install/image/pieces/{n}` | session | – | piece `n` as stored (zstd) |
//! | `GET /v1/install/packages/{sha256}` | session | – | the `.deb`; `Range` is understood |
//! | `GET /v1/install/seed` | session | – | the seed partition's content: a tar archive |
//! | `POST /v1/install/done` | session | [`Progress`] | 204; the machine may restart from its own disk |
//!
//! ```text
//! one-time token ──begin──▶ session ──done──▶ over
//!                    │         │ killed: the next launch gets a new one-time token, `begin` answers with
//!                    └─ spent  └─────── `resume` set to the stage after the last finished one
//! ```
//! A session token belongs to one node and one installation; the server keeps only its hash, so that an
//! installation outlives a restart of the server.

use serde::{Deserialize, Serialize};

use crate::agent_api::{LockedPackage, PublishedProfile};

/// On the kernel's command line when the machine is to install itself.
pub const INSTALL_ARGUMENT: &str = "gridgate.mode=install";

/// In the installer's initramfs: the [`crate::agent_api::Identity`], whose token is the one-time token.
pub const INSTALL_IDENTITY: &str = "/gridgate/identity.json";

/// The two ways to install a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The role image's used blocks, streamed.
    Image,
    /// Debian packages, one by one.
    Packages,
}

/// The stages of an installation, in their order. A stage that a method has not is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Kernel, installer, address, order: until the order is there.
    Start,
    /// The partition table.
    Partition,
    /// File systems and swap.
    FileSystems,
    /// Pieces or packages fetched, and written where that is one act (image).
    Fetch,
    /// Packages unpacked.
    Unpack,
    /// Packages configured.
    Configure,
    /// Seed, identity, the node's own files; flushed to the disk.
    NodeConfiguration,
    /// From the machine's launch in standard mode to the agent's first word.
    Boot,
    /// Until all health checks pass.
    Services,
}

/// Who begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// Kernel's boot id.
    pub boot_id: String,
    /// Kernel release.
    pub kernel: String,
    /// The disk's size, bytes.
    pub disk: u64,
    /// What is on the disk: names of its partitions, empty when it has no table that can be read.
    pub partitions: Vec<String>,
    /// The installer's clock, seconds since 1970.
    pub clock: i64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Number of this installation of this node, from 1.
    pub number: u32,
    /// Bearer token for the rest of it.
    pub session: String,
    /// How.
    pub method: Method,
    /// The disk.
    pub disk: DiskOrder,
    /// The node's profile.
    pub profile: PublishedProfile,
    /// Method `packages`: what is unpacked first, without dpkg; the base of every node.
    pub base: Vec<LockedPackage>,
    /// Method `packages`: the rest of the closure, each after what it depends on where that is possible.
    pub packages: Vec<LockedPackage>,
    /// Files, links and masks that a role image has beside its packages, as a tar archive in base64;
    /// laid over the packages by method `packages`.
    pub overlay: String,
    /// Where to go on; none: from the beginning.
    pub resume: Option<Resume>,
    /// The server's clock, seconds since 1970.
    pub clock: i64,
}

/// How the disk shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskOrder {
    /// Size of the seed partition, bytes.
    pub seed: u64,
    /// Size of the swap partition, bytes; 0: none.
    pub swap: u64,
    /// Data partitions.
    pub data: Vec<DataOrder>,
    /// The least size of the root partition, bytes.
    pub root_least: u64,
}

/// One data partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataOrder {
    /// Name.
    pub name: String,
    /// Size, bytes.
    pub size: u64,
    /// The administrator said by name that what is on it may be lost.
    pub wipe: bool,
}

/// Where an interrupted installation goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The first stage that is not finished.
    pub stage: Stage,
    /// Image: pieces that were reported as written and flushed, as a prefix of the manifest.
    pub pieces: u32,
}

/// How far it is. Sent at each stage's start and end, and at most twice a second in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Every stage that has begun, in order.
    pub stages: Vec<StageReport>,
    /// What it does just now, in words.
    pub doing: String,
    /// Image: pieces written and flushed.
    pub pieces: u32,
    /// Why it cannot go on, if so.
    pub failure: Option<InstallFailure>,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReport {
    /// Which.
    pub stage: Stage,
    /// Since the installer's start, milliseconds.
    pub start_ms: u64,
    /// Likewise; none while it goes on.
    pub end_ms: Option<u64>,
    /// Bytes done and to do.
    pub bytes: Option<(u64, u64)>,
    /// Packages (or pieces) done and to do.
    pub items: Option<(u32, u32)>,
}

/// An installation that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallFailure {
    /// In which stage.
    pub stage: Stage,
    /// What happened, to what, why.
    pub what: String,
    /// Package whose maintainer script failed.
    pub package: Option<String>,
    /// Last output of what failed, bounded.
    pub output: String,
    /// Whether trying the same again may help.
    pub again: bool,
}

/// Answer to `begin` while another installation of this node runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// In words: who holds it and since when.
    pub error: String,
}

/// A role image, cut into pieces of used blocks. What no piece covers reads as zeros in the image; the
/// installer sees to it that it does on the disk too (an earlier life's blocks are discarded or zeroed).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageManifest {
    /// Key of the role image.
    pub key: String,
    /// Apparent size of the file system, bytes.
    pub size: u64,
    /// The pieces, ascending.
    pub pieces: Vec<Piece>,
}

/// One piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Where in the file system it begins, bytes.
    pub offset: u64,
    /// Its length there, bytes; at most 4 MiB.
    pub length: u32,
    /// Its length as sent, bytes.
    pub stored: u32,
    /// SHA-256 of what is sent, hex.
    pub sha256: String,
}
