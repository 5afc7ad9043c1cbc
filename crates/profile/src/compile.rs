//! From the site to what each node must be.

use std::collections::BTreeSet;

use gridgate_protocol::node_profile::NodeProfile;
use serde::Serialize;

use crate::fault::Faults;
use crate::site::{DataDisk, Publish, Security, Site, Vmm};

/// What only the running site knows and templates may read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The site CA's certificate, PEM.
    pub ca_certificate: String,
    /// OpenSSL's hash of the CA's subject: eight hex digits.
    pub ca_hash: String,
    /// OpenSSH public keys that may log in as root, one a line.
    pub admin_keys: Vec<String>,
}

/// How a secret is written into a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretFormat {
    /// The bytes themselves.
    #[default]
    Raw,
    /// Lower-case hex digits.
    Hex,
    /// Standard base64 on one line.
    Base64,
}

/// A secret made once per site on the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SecretSpec {
    /// Name, unique within the site.
    pub name: String,
    /// Random bytes.
    pub bytes: u32,
    /// How they are written.
    pub format: SecretFormat,
}

/// Transport of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A port a node serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Port {
    /// Number.
    pub number: u16,
    /// Transport.
    pub protocol: Protocol,
    /// What it is for.
    pub description: String,
    /// Component that serves it.
    pub component: String,
}

/// One node, compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CompiledNode {
    /// Name without the domain.
    pub name: String,
    /// Role name.
    pub role: String,
    /// What the node must be; given to its agent.
    pub profile: NodeProfile,
    /// Memory in bytes.
    pub memory: u64,
    /// Size of the root disk in bytes.
    pub disk: u64,
    /// Swap in bytes; 0 for none.
    pub swap: u64,
    /// Processors.
    pub cpus: u32,
    /// Virtual machine monitor.
    pub vmm: Vmm,
    /// Security mode of a User-Mode-Linux machine.
    pub security: Security,
    /// Published ports.
    pub publish: Vec<Publish>,
    /// Further disks.
    pub data: Vec<DataDisk>,
    /// Secrets this node may fetch, by name.
    pub secrets: Vec<SecretSpec>,
    /// Debian packages wanted by name (dependencies are apt's).
    pub packages: BTreeSet<String>,
    /// Ports the node serves, by number.
    pub ports: Vec<Port>,
}

/// A whole site, compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compiled {
    /// Nodes, in the profile's order.
    pub nodes: Vec<CompiledNode>,
    /// Every secret of the site, by name.
    pub secrets: Vec<SecretSpec>,
}

/// Compiles a site.
///
/// # Errors
/// Template errors and conflicts between components, all at once.
pub fn compile(_site: &Site, _facts: &Facts) -> Result<Compiled, Faults> {
    Err(Faults::default())
}
