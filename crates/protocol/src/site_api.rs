//! Command line ↔ site daemon: HTTP and JSON on a Unix socket (`$GRIDGATE_HOME/daemon.sock`, 0600).
//!
//! | method and path | request | answer |
//! |---|---|---|
//! | `GET /v1/daemon` | – | [`DaemonInfo`] |
//! | `POST /v1/daemon/stop` | – | 204; the daemon ends, machines run on |
//! | `GET /v1/sites` | – | list of [`SiteSummary`] |
//! | `POST /v1/sites/up` | [`UpRequest`] | events |
//! | `GET /v1/sites/{site}` | – | [`SiteStatus`] |
//! | `POST /v1/sites/{site}/down` | [`DownRequest`] | events |
//! | `POST /v1/sites/{site}/destroy` | – | events |
//! | `POST /v1/sites/{site}/check` | – | events |
//! | `POST /v1/sites/{site}/update` | [`crate::depot_api::UpdateRequest`] | events |
//! | `POST /v1/sites/{site}/nodes/{node}/{start,stop,restart,kill,rollback,discard}` | [`DownRequest`] | events |
//! | `POST /v1/sites/{site}/nodes/{node}/convert` | [`ConvertRequest`] | events |
//! | `POST /v1/sites/{site}/nodes/{node}/install` | [`InstallRequest`] | events |
//! | `GET /v1/sites/{site}/nodes/{node}/installations` | – | list of `install_api::InstallRecord` |
//! | `GET /v1/sites/{site}/nodes/{node}/profile` | – | `agent_api::PublishedProfile` |
//! | `GET /v1/sites/{site}/nodes/{node}/image` | – | [`ImageExplanation`] |
//! | `GET /v1/sites/{site}/nodes/{node}/access` | – | [`Access`] |
//! | `POST /v1/sites/{site}/nodes/{node}/drift` | `drift::DriftCommand` | `drift::DriftReport` |
//! | `POST /v1/sites/{site}/nodes/{node}/run` | [`RunCommand`] | `agent_api::RunResult` |
//!
//! Paths below `/v1/depot`: [`crate::depot_api`].
//!
//! "events" is a stream of [`Event`]s, one JSON document a line, that ends with [`Event::Done`] or [`Event::Failed`].
//! A client that goes away does not end the task: it goes on, and the next client that asks for the same joins it.
//! Errors before a stream has begun are an [`ApiError`] with status 400 (bad input), 404, 409 (busy) or 500.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::agent_api::{HealthReport, ResourceReport};
use crate::depot_api::{DepotReport, UpdateReport};
use crate::drift::Staying;
use crate::install_api::Method;

/// Who answers on the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonInfo {
    /// Crate version.
    pub version: String,
    /// Hash of the running executable: another one means that a restart is due.
    pub build: String,
    /// Process id.
    pub pid: u32,
    /// The daemon's `GRIDGATE_HOME`.
    pub home: PathBuf,
}

/// A site profile with all the files it may refer to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSource {
    /// Absolute path of `site.toml`, for messages.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The site's own components: name → file name → text, from `components/` beside it.
    pub components: BTreeMap<String, BTreeMap<String, String>>,
}

/// Bring a site to what its profile says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpRequest {
    /// The profile.
    pub source: SiteSource,
    /// Debian mirror given on the command line.
    pub mirror: Option<String>,
    /// What the client's environment says of mirror and proxies.
    pub environment: BTreeMap<String, String>,
    /// Only say what would be done.
    pub plan_only: bool,
    /// Run the site checks at the end.
    pub check: bool,
    /// Seconds that an updated node gets to become healthy before it is rolled back.
    #[serde(default)]
    pub patience_s: Option<u32>,
}

/// Stop machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownRequest {
    /// Seconds for a graceful stop before the machine is killed; default 30.
    pub limit_s: Option<u32>,
}

/// A virtual machine monitor, as a profile names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmmName {
    /// The best that works on the host.
    Auto,
    /// User-Mode Linux.
    Uml,
    /// QEMU.
    Qemu,
    /// Xen.
    Xen,
}

impl VmmName {
    /// As the profile has it.
    pub fn word(self) -> &'static str {
        match self {
            VmmName::Auto => "auto",
            VmmName::Uml => "uml",
            VmmName::Qemu => "qemu",
            VmmName::Xen => "xen",
        }
    }
}

/// How QEMU runs a guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorName {
    /// The processor, through Linux.
    Kvm,
    /// Emulation.
    Tcg,
}

impl AcceleratorName {
    /// As the profile has it.
    pub fn word(self) -> &'static str {
        match self {
            AcceleratorName::Kvm => "kvm",
            AcceleratorName::Tcg => "tcg",
        }
    }
}

/// Move a node to another VMM, with its disk as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvertRequest {
    /// Where to.
    pub vmm: VmmName,
    /// QEMU's accelerator; none: KVM where it was proven, else emulation.
    pub accelerator: Option<AcceleratorName>,
    /// Name the VMM in the profile too. The client changes the file, the daemon its own copy.
    pub write: bool,
    /// Seconds for a graceful stop before the machine is killed; default 30.
    pub limit_s: Option<u32>,
    /// Debian mirror given on the command line.
    pub mirror: Option<String>,
    /// What the client's environment says of mirror and proxies.
    pub environment: BTreeMap<String, String>,
}

/// Have a node install itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallRequest {
    /// How; none: by image, or as the installation that is resumed.
    pub method: Option<Method>,
    /// Data partitions whose content may be lost.
    pub wipe_data: Vec<String>,
    /// Go on with the one that is unfinished.
    pub resume: bool,
    /// What the machine's clock shows when the installer starts, seconds since 1970; none: the host's time. QEMU only.
    #[serde(default)]
    pub clock: Option<i64>,
    /// The site's profile; none: as it was last brought up.
    pub source: Option<SiteSource>,
    /// Debian mirror given on the command line.
    pub mirror: Option<String>,
    /// What the client's environment says of mirror and proxies.
    pub environment: BTreeMap<String, String>,
}

/// Run a script in a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCommand {
    /// Login name.
    pub user: String,
    /// Script for `/bin/sh`.
    pub script: String,
    /// Time limit, seconds.
    pub limit_s: u32,
}

/// One line of a site listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSummary {
    /// Site name.
    pub site: String,
    /// Where its profile came from.
    pub profile: PathBuf,
    /// How many nodes the site has.
    pub nodes: u32,
    /// How many are running.
    pub running: u32,
}

/// What a node is doing. "Running" means that all its health checks pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// No disk yet.
    Absent,
    /// Disk, but no machine.
    Stopped,
    /// The machine runs; its agent has not spoken in this boot.
    Booting,
    /// The agent applies the profile, or health checks have yet to pass for the first time.
    Starting,
    /// Applied and healthy.
    Running,
    /// Was running; a health check fails or the agent has gone silent.
    Degraded,
    /// A graceful stop is under way.
    Stopping,
    /// The machine ended by itself, or a resource could not be applied.
    Failed,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Node name.
    pub name: String,
    /// Full host name.
    pub fqdn: String,
    /// Role.
    pub role: String,
    /// Address on the site network.
    pub address: Ipv4Addr,
    /// VMM that runs it.
    pub vmm: String,
    /// State.
    pub state: NodeState,
    /// What it waits for or what is wrong, in words; empty when running.
    pub detail: String,
    /// Published profile version.
    pub published: Option<String>,
    /// Applied profile version.
    pub applied: Option<String>,
    /// Since the machine's launch, milliseconds.
    pub uptime_ms: Option<u64>,
    /// From launch to the first moment the node did what its profile says, milliseconds; when this daemon did not hear it, as the guest has
    /// counted it, from the start of its kernel.
    pub ready_ms: Option<u64>,
    /// From launch to the agent's first word, milliseconds; none when this daemon did not hear it.
    #[serde(default)]
    pub first_word_ms: Option<u64>,
    /// Guest memory in use, bytes.
    pub memory_used: Option<u64>,
    /// Memory the profile gives the node, bytes.
    pub memory: u64,
    /// Host memory of the machine's processes (PSS), bytes.
    pub host_memory: Option<u64>,
    /// Host memory of its shim (RSS), bytes.
    pub shim_memory: Option<u64>,
    /// CPU time used by the machine, milliseconds.
    pub cpu_ms: Option<u64>,
    /// Blocks in use by its disk, bytes.
    pub disk_used: Option<u64>,
    /// Size of its disk, bytes.
    pub disk: u64,
    /// Health checks.
    pub health: Vec<HealthReport>,
    /// Resources that could not be applied.
    pub failures: Vec<ResourceReport>,
    /// Last line on its console.
    pub last_line: Option<String>,
    /// Ports published on the host, `127.0.0.1:2811 -> 2811`.
    pub published_ports: Vec<String>,
    /// How it stays as its profile says.
    #[serde(default)]
    pub staying: Staying,
}

/// One site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteStatus {
    /// Site name.
    pub site: String,
    /// Domain.
    pub domain: String,
    /// Where its profile came from.
    pub profile: PathBuf,
    /// The task under way, e.g. `up`.
    pub task: Option<String>,
    /// Nodes in the profile's order.
    pub nodes: Vec<NodeStatus>,
    /// Result of the last site checks.
    pub checks: Option<CheckRun>,
}

/// A run of the site checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRun {
    /// When it ended, RFC 3339.
    pub at: String,
    /// Duration of the whole, milliseconds.
    pub millis: u64,
    /// One entry per check.
    pub results: Vec<CheckResult>,
}

impl CheckRun {
    /// Whether nothing failed.
    pub fn passed(&self) -> bool {
        self.results.iter().all(|result| {
            matches!(
                result.outcome,
                CheckOutcome::Passed { .. } | CheckOutcome::NotApplicable { .. }
            )
        })
    }
}

/// One site check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Stable name.
    pub id: String,
    /// For people.
    pub title: String,
    /// What came of it.
    pub outcome: CheckOutcome,
    /// Duration, milliseconds.
    pub millis: u64,
}

/// What came of a site check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// Passed, with what was seen.
    Passed {
        /// What the output proved.
        evidence: String,
    },
    /// Failed.
    Failed {
        /// What was seen instead.
        what: String,
        /// How to look further.
        hint: String,
    },
    /// Not run because one it needs failed.
    Skipped {
        /// The check it needs.
        because: String,
    },
    /// The site has nothing to try it on.
    NotApplicable {
        /// Why.
        why: String,
    },
}

/// What is to be done to bring a site to its profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Steps in no particular order; none: nothing to do.
    pub steps: Vec<PlanStep>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// Node, or empty for the site.
    pub node: String,
    /// What is done.
    pub action: PlanAction,
    /// Why, e.g. `memory 200 MiB → 256 MiB`.
    pub reason: String,
}

/// A kind of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanAction {
    /// Make the network as it must be.
    Network,
    /// Build or find the role image.
    Image,
    /// Make the disk.
    CreateDisk,
    /// Grow the disk.
    GrowDisk,
    /// Boot the machine.
    Start,
    /// Go over to the locked packages, with a way back.
    Update,
    /// Power off and boot again, since the machine itself changes.
    Restart,
    /// Publish a new node profile, applied while the node runs.
    Apply,
    /// Stop the machine of a node no longer in the profile; its disk is kept.
    Remove,
    /// Change published ports.
    Publish,
}

/// Something that happened in a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The client joined a task that was already under way.
    Joined {
        /// Its name.
        task: String,
    },
    /// What will be done.
    Plan(Plan),
    /// A stage began.
    Started {
        /// Node, role or `site`.
        subject: String,
        /// Name of the stage, unique within the subject.
        stage: String,
        /// Details.
        detail: String,
    },
    /// A stage goes on.
    Progress {
        /// As in `Started`.
        subject: String,
        /// As in `Started`.
        stage: String,
        /// How much is done.
        done: u64,
        /// Of how much; 0 when unknown.
        total: u64,
        /// `bytes`, `packages`, `nodes` …
        unit: String,
    },
    /// A stage waits, for what is said.
    Waiting {
        /// As in `Started`.
        subject: String,
        /// As in `Started`.
        stage: String,
        /// What for.
        what: String,
        /// The node's last console line, if it is about a node.
        last_line: Option<String>,
    },
    /// A stage is done.
    Finished {
        /// As in `Started`.
        subject: String,
        /// As in `Started`.
        stage: String,
        /// Duration, milliseconds.
        millis: u64,
        /// What came of it.
        detail: String,
    },
    /// A stage failed; others go on.
    StageFailed {
        /// As in `Started`.
        subject: String,
        /// As in `Started`.
        stage: String,
        /// Why.
        error: ApiError,
    },
    /// Worth knowing, not an error.
    Warning {
        /// Text.
        text: String,
    },
    /// A site check ended.
    Check(CheckResult),
    /// What came of work in the depot.
    Depot(DepotReport),
    /// What an update changes.
    Update(UpdateReport),
    /// The task is done.
    Done {
        /// The site now; none after `destroy`.
        status: Option<SiteStatus>,
        /// Duration of the whole task, milliseconds.
        millis: u64,
        /// Whether anything was changed.
        changed: bool,
    },
    /// The task failed.
    Failed(ApiError),
}

/// Kinds of failure; each has an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Anything not named below.
    Internal,
    /// The input is wrong; nothing was touched.
    Input,
    /// This host or its network cannot do it (mirror, disk, kernel).
    Host,
    /// A node did not do what it should.
    Node,
    /// A site check failed.
    Check,
    /// There is no such site or node.
    NotFound,
    /// Another task has the site.
    Busy,
}

impl ErrorKind {
    /// Exit code of the command line.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Internal => 1,
            ErrorKind::Input => 2,
            ErrorKind::Host => 3,
            ErrorKind::Node => 4,
            ErrorKind::Check => 5,
            ErrorKind::NotFound => 6,
            ErrorKind::Busy => 7,
        }
    }
}

/// A failure as a person needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// Kind.
    pub kind: ErrorKind,
    /// What happened, to what.
    pub what: String,
    /// Why; the causes, outermost first.
    pub why: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
    /// Located faults of an input, rendered for a terminal without colour.
    pub faults: Option<String>,
    /// The same faults for machines.
    pub faults_json: Option<serde_json::Value>,
}

/// Why a role image was or was not reused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageExplanation {
    /// Node.
    pub node: String,
    /// Role.
    pub role: String,
    /// Image key.
    pub key: String,
    /// Whether an image of this key exists.
    pub present: bool,
    /// In words, a line each.
    pub lines: Vec<String>,
}

/// How to reach a node from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Network namespace of the site.
    pub namespace: PathBuf,
    /// Node's address in it.
    pub address: Ipv4Addr,
    /// Node's full name.
    pub fqdn: String,
    /// Administrator's private ssh key.
    pub key: PathBuf,
    /// File of known host keys.
    pub known_hosts: PathBuf,
    /// Folder of the machine's shim socket and console log.
    pub run_dir: PathBuf,
    /// A root tree with an ssh client, for hosts that have none.
    pub tools: Option<PathBuf>,
}
