//! What one node must be: the compiler's output, the agent's input.
//!
//! A node profile is a plain JSON document. It holds final file contents, no
//! templates, and no secrets: those are named ([`Content::Secret`]) and fetched
//! by the agent over its own authenticated connection. Its version is the hash
//! of its canonical JSON, so equal profiles have equal versions.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The `schema` that this build writes and understands.
pub const SCHEMA: u32 = 1;

/// Everything one node must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProfile {
    /// Format of this document; see [`SCHEMA`].
    pub schema: u32,
    /// Site name, as in `site.name`.
    pub site: String,
    /// DNS domain of the site.
    pub domain: String,
    /// Node name, without the domain.
    pub node: String,
    /// Role name.
    pub role: String,
    /// The node's address on the site network.
    pub address: Ipv4Addr,
    /// Prefix length of the site network, 0–32.
    pub prefix_length: u8,
    /// Ethernet address, `02:…`, lower case.
    pub mac: String,
    /// Address of the install server.
    pub server: Ipv4Addr,
    /// Components in the order in which they were applied.
    pub components: Vec<String>,
    /// Debian packages wanted by name, sorted, each once.
    pub packages: Vec<String>,
    /// Groups with fixed ids.
    pub groups: Vec<Group>,
    /// Users with fixed ids.
    pub users: Vec<User>,
    /// Directories, parents before children.
    pub directories: Vec<Directory>,
    /// Files, sorted by path.
    pub files: Vec<File>,
    /// Symbolic links, sorted by path.
    pub links: Vec<Link>,
    /// Key pairs made in the node and signed by the site's CA.
    pub certificates: Vec<Certificate>,
    /// Commands to run, in order, each guarded.
    pub commands: Vec<Command>,
    /// systemd units and the state they must be in.
    pub units: Vec<Unit>,
    /// When the node counts as healthy.
    pub checks: Vec<HealthCheck>,
    /// Whether the agent puts back by itself what is changed by hand. Left out when off, so that profiles
    /// without it keep their versions.
    #[serde(default, skip_serializing_if = "Reconcile::is_off")]
    pub reconcile: Reconcile,
}

impl NodeProfile {
    /// The profile's version: the first 16 hex digits of the SHA-256 of its
    /// compact JSON, whose field order is this type's.
    pub fn version(&self) -> String {
        let json = serde_json::to_vec(self).expect("a node profile has no maps or floats");
        hex::encode(&Sha256::digest(&json)[..8])
    }

    /// Full host name.
    pub fn fqdn(&self) -> String {
        format!("{}.{}", self.node, self.domain)
    }
}

/// Whether the agent puts back by itself what is changed by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reconcile {
    /// Only when asked.
    #[default]
    Off,
    /// As soon as it is seen.
    Watch,
}

impl Reconcile {
    /// Whether nothing is done unasked.
    pub fn is_off(&self) -> bool {
        *self == Reconcile::Off
    }
}

/// A group with a fixed id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Group name.
    pub name: String,
    /// Numeric id.
    pub gid: u32,
    /// Component that asked for it.
    pub component: String,
}

/// A user with a fixed id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Numeric id.
    pub uid: u32,
    /// Primary group's name.
    pub group: String,
    /// Supplementary groups by name.
    pub groups: Vec<String>,
    /// Home directory.
    pub home: String,
    /// Whether the agent makes the home directory (mode 0750) when it is missing.
    pub create_home: bool,
    /// Login shell.
    pub shell: String,
    /// GECOS field.
    pub full_name: String,
    /// Component that asked for it.
    pub component: String,
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Absolute path.
    pub path: String,
    /// Owner by name.
    pub owner: String,
    /// Group by name.
    pub group: String,
    /// Permission bits, e.g. 0o755.
    pub mode: u32,
    /// Component that asked for it.
    pub component: String,
}

/// A file with its whole content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// What stands in it.
    pub content: Content,
    /// Owner by name.
    pub owner: String,
    /// Group by name.
    pub group: String,
    /// Permission bits, e.g. 0o644.
    pub mode: u32,
    /// Component that asked for it.
    pub component: String,
}

/// A file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// UTF-8 text.
    Text(String),
    /// Bytes, in standard base64.
    Base64(String),
    /// A secret of the site, by name; see `agent_api::secret_path`.
    Secret(String),
}

/// A symbolic link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Absolute path of the link itself.
    pub path: String,
    /// What it points at.
    pub target: String,
    /// Component that asked for it.
    pub component: String,
}

/// Whose identity a certificate states; decides the extensions the CA puts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateKind {
    /// A host or service: server and client authentication, DNS names.
    Host,
    /// A person: client authentication only.
    User,
}

/// A key pair that the node makes itself (RSA 2048) and has signed by the site's
/// CA. The key never leaves the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Name unique within the node; part of the request's path.
    pub name: String,
    /// Host or person.
    pub kind: CertificateKind,
    /// Subject as its parts from the root down, e.g.
    /// `[("O","dublin.test"),("OU","People"),("CN","Alice Example")]`.
    pub subject: Vec<(String, String)>,
    /// DNS names for the subject alternative name; empty for persons.
    pub dns: Vec<String>,
    /// Where the PEM certificate goes (mode 0644).
    pub certificate_path: String,
    /// Where the PEM key goes (mode 0400).
    pub key_path: String,
    /// Owner of both files, by name.
    pub owner: String,
    /// Group of both files, by name.
    pub group: String,
    /// Further places that get the same pair (a service running as another user).
    pub copies: Vec<CertificateCopy>,
    /// Component that asked for it.
    pub component: String,
}

/// A further place for a key pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateCopy {
    /// Where the PEM certificate goes (mode 0644).
    pub certificate_path: String,
    /// Where the PEM key goes (mode 0400).
    pub key_path: String,
    /// Owner of both files.
    pub owner: String,
    /// Group of both files.
    pub group: String,
}

/// A command with a guard, so that applying a profile twice does it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Name unique within the node.
    pub name: String,
    /// Program and arguments; no shell unless named here.
    pub run: Vec<String>,
    /// Do not run when this path exists.
    pub creates: Option<String>,
    /// Run when one of these files, links or certificates (by path) changed, or
    /// when the command has never succeeded on this node. With neither this nor
    /// `creates`, it runs once.
    pub on_change: Vec<String>,
    /// Component that asked for it.
    pub component: String,
}

/// The state a unit must be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitState {
    /// Enabled at boot and running now.
    Running,
    /// Enabled at boot, nothing said about now (oneshots, timers' targets).
    Enabled,
    /// Not enabled, not running.
    Stopped,
    /// Masked, not running.
    Masked,
}

/// A systemd unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Full unit name, e.g. `slurmd.service`.
    pub name: String,
    /// Wanted state.
    pub state: UnitState,
    /// Restart it when one of these paths (files, links, certificates) changed.
    pub restart_on: Vec<String>,
    /// `reload` instead of restart where the unit can.
    pub reload: bool,
    /// Component that asked for it.
    pub component: String,
}

/// How to see that the node does its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Name unique within the node, shown to people.
    pub name: String,
    /// What is looked at.
    pub test: HealthTest,
    /// Component that asked for it.
    pub component: String,
}

/// One health test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// The unit is `active`.
    Unit(String),
    /// A TCP listener exists on this port of the node (read from the kernel's
    /// socket table; nothing is connected, so no server logs a failed handshake).
    Listening(u16),
    /// The command exits 0 within five seconds and, where given, its output
    /// contains the text.
    Command {
        /// Program and arguments.
        run: Vec<String>,
        /// User to run as, by name.
        user: String,
        /// Text that must stand in the output.
        expect: Option<String>,
    },
    /// The path is a mount point of this file system type.
    Mounted {
        /// Absolute path.
        path: String,
        /// E.g. `nfs4`, `ext4`.
        filesystem: String,
    },
}
