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
//! | `GET /v1/install/overlay` | session | – | method `packages`: what a role image has beside its packages (kernel modules, files, links, masks): a tar archive, laid over them after they are configured |
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The role image's used blocks, streamed.
    #[default]
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

impl Stage {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Start => "start",
            Stage::Partition => "partition",
            Stage::FileSystems => "file systems",
            Stage::Fetch => "fetch",
            Stage::Unpack => "unpack",
            Stage::Configure => "configure",
            Stage::NodeConfiguration => "node configuration",
            Stage::Boot => "boot",
            Stage::Services => "services",
        }
    }
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
    /// Method `packages`: what is configured before the next of `packages` is unpacked by dpkg.
    pub early: Option<Vec<Early>>,
    /// Method `packages`: how they become a system.
    pub recipe: Option<Recipe>,
    /// Where to go on; none: from the beginning.
    pub resume: Option<Resume>,
    /// The server's clock, seconds since 1970.
    pub clock: i64,
}

/// Packages that others need already when they are unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Early {
    /// The package that is unpacked only then.
    pub before: String,
    /// What is configured, with all that it needs itself.
    pub names: Vec<String>,
}

/// How packages become a system: what the depot itself does when it makes a role image, so that the two
/// methods cannot differ.
///
/// ```text
/// folders, links, before ─> base unpacked without dpkg ─> prepare ─> first, one by one ─> all other packages
///     ─> overlay ─> finish ─> emptied, removed, after
/// ```
/// Paths are absolute in the new root; links in it are followed as they would be inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Arguments of mke2fs(8) for the root's file system, before the device.
    #[serde(default)]
    pub mke2fs: Vec<String>,
    /// Folders made first, with their modes.
    pub folders: Vec<(String, u32)>,
    /// Symbolic links made next: path and target.
    pub links: Vec<(String, String)>,
    /// Files written before any package.
    pub before: Vec<RecipeFile>,
    /// Paths of packages that begin with one of these (without a leading slash) are not unpacked; dpkg's own
    /// settings among `before` say the same.
    pub left_out: Vec<String>,
    /// Those of them that end in one of these are unpacked all the same.
    pub kept: Vec<String>,
    /// A script for the root's `/bin/sh`, when the base is unpacked.
    pub prepare: String,
    /// Packages that dpkg installs (`--force-depends`) before all others, in this order, one by one.
    pub first: Vec<String>,
    /// Options of dpkg.
    pub dpkg: Vec<String>,
    /// Empty files that are there while a package is configured: package and path.
    pub markers: Vec<(String, String)>,
    /// A script for the root's `/bin/sh`, after the overlay; `RELEASE` in its environment is [`Recipe::release`].
    pub finish: String,
    /// Release of the kernel whose modules the overlay brings; empty when it brings none.
    pub release: String,
    /// Folders that are emptied in the end, where they are.
    pub emptied: Vec<String>,
    /// Files that are removed in the end; one that ends in `*` stands for all that begin so.
    pub removed: Vec<String>,
    /// Files written in the end.
    pub after: Vec<RecipeFile>,
}

/// A file of a [`Recipe`], owned by root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeFile {
    /// Where.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Whole content.
    pub text: String,
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
    /// Names of data partitions that the node is not to have any more and that the administrator gave up.
    #[serde(default)]
    pub abandoned: Vec<String>,
    /// The least size of the root partition, bytes.
    pub root_least: u64,
}

impl DiskOrder {
    /// Names of all data partitions whose content may be lost.
    pub fn given_up(&self) -> Vec<String> {
        let wiped = self.data.iter().filter(|data| data.wipe).map(|data| &data.name);
        wiped.chain(&self.abandoned).cloned().collect()
    }
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

/// The record of one installation, kept on the host beside the node (`log/install-N.json`), written anew at every
/// change, so that one that failed a week ago can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallRecord {
    /// Number of this installation of this node, from 1.
    pub number: u32,
    /// Site.
    pub site: String,
    /// Node.
    pub node: String,
    /// How.
    pub method: Method,
    /// Version of the node profile that is installed.
    pub profile: String,
    /// Key of the role image; none with method `packages`.
    pub image: Option<String>,
    /// When it began, RFC 3339.
    pub begun: String,
    /// When it ended.
    pub ended: Option<String>,
    /// What came of it.
    pub outcome: InstallOutcome,
    /// How often the installer's machine was launched for it.
    pub launches: u32,
    /// The stages in their order; of one that was begun again the last time counts.
    pub stages: Vec<StageRecord>,
    /// What it was last doing.
    pub doing: String,
    /// Image: pieces reported as written and flushed.
    pub pieces: u32,
    /// The disk's size as the installer saw it, bytes.
    pub disk: Option<u64>,
    /// Kernel release of the installer.
    pub kernel: Option<String>,
    /// How far the installer's clock was off, seconds; positive: ahead.
    pub clock_off_s: Option<i64>,
    /// The console's last line when something was last heard.
    pub last_line: Option<String>,
}

/// What came of an installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstallOutcome {
    /// It has not ended.
    UnderWay,
    /// The node runs from its disk and all its checks pass.
    Done,
    /// It did not.
    Failed(InstallFailure),
}

/// One stage of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Which.
    pub stage: Stage,
    /// Since the installation began, milliseconds, by the host's clock.
    pub start_ms: u64,
    /// How long it took, milliseconds; none while it goes on or when it was cut short.
    pub millis: Option<u64>,
    /// Bytes done and to do.
    pub bytes: Option<(u64, u64)>,
    /// Packages (or pieces) done and to do.
    pub items: Option<(u32, u32)>,
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
