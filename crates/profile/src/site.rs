//! The site: what `site.toml` declares, with everything inherited and every
//! default filled in.
//!
//! This module holds data only; the reading stands in the modules beside it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use gridgate_protocol::node_profile::Reconcile;
use ipnet::Ipv4Net;
use serde::Serialize;

use crate::component::summary::{self, ComponentSummary};
use crate::component::{Library, Value};
use crate::fault::{Located, Spot};
use crate::template::filters::escape_path;

mod address;
mod declare;
pub(crate) mod layer;
mod layer_read;
mod publish;
mod read;
mod resolve;
mod roles;
mod users;
mod vmm;

pub use read::{parse_site, parse_site_with};
pub use vmm::{Accelerator, Guest, Hardware, Security, Vmm};

/// The files of one component folder: path within the folder → bytes.
pub type ComponentFiles = BTreeMap<String, Vec<u8>>;

/// A site's files as the caller read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteFiles {
    /// Name of the profile's file, for faults.
    pub name: String,
    /// Text of `site.toml`.
    pub text: String,
    /// The site's own components: what stands in `components/` beside it.
    pub components: BTreeMap<String, ComponentFiles>,
}

/// A port of a node made reachable from outside the site network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Publish {
    /// Where the host listens.
    pub listen: SocketAddr,
    /// TCP port of the node.
    pub port: u16,
}

/// A further disk of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataDisk {
    /// Name, unique within the node.
    pub name: String,
    /// Size in bytes, whole MiB.
    pub size: u64,
    /// Where the node mounts it.
    pub mount: String,
}

impl DataDisk {
    /// Label of its GPT partition.
    pub fn partition_label(&self) -> String {
        format!("gridgate-data-{}", self.name)
    }

    /// Name of the unit that mounts it.
    pub fn mount_unit(&self) -> String {
        format!("{}.mount", escape_path(&self.mount))
    }
}

/// A person who may use the grid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GridUser {
    /// Login name.
    pub name: String,
    /// Numeric id, the same on every node; the group has the same.
    pub uid: u32,
    /// Full name, as in the certificate's subject.
    pub full_name: String,
}

/// One node with everything it inherits.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name without the domain.
    pub name: String,
    /// Role name.
    pub role: String,
    /// Address on the site network.
    pub address: Ipv4Addr,
    /// Ethernet address, `02:…`, lower case.
    pub mac: String,
    /// Memory in bytes, whole MiB.
    pub memory: u64,
    /// Size of the root disk in bytes, whole MiB.
    pub disk: u64,
    /// Swap in bytes, whole MiB; 0 for none.
    pub swap: u64,
    /// Processors.
    pub cpus: u32,
    /// Virtual machine monitor.
    pub vmm: Vmm,
    /// How QEMU runs a guest's instructions.
    pub accelerator: Accelerator,
    /// The computer that QEMU shows to a guest.
    pub hardware: Hardware,
    /// The kind of Xen guest.
    pub guest: Guest,
    /// Security mode of a User-Mode-Linux machine.
    pub security: Security,
    /// Whether its agent puts back unasked what is changed by hand.
    pub reconcile: Reconcile,
    /// Published ports.
    pub publish: Vec<Publish>,
    /// Further disks.
    pub data: Vec<DataDisk>,
    /// The role and what it extends.
    pub(crate) roles: Vec<String>,
    /// In the order in which they are applied.
    pub(crate) components: Vec<NodeComponent>,
    /// Packages beyond the components'.
    pub(crate) packages: Vec<Located<String>>,
    /// Files of the administrator.
    pub(crate) files: Vec<layer::UserFile>,
    /// Where the profile names it.
    pub(crate) spot: Spot,
    /// Where the profile names its VMM, if it does.
    pub(crate) vmm_spot: Option<Spot>,
}

/// A component on a node with its parameters' values.
#[derive(Clone, Debug)]
pub(crate) struct NodeComponent {
    pub name: String,
    pub parameters: BTreeMap<String, Value>,
}

impl Node {
    /// Where the profile names this node's VMM: the field and `file:line`.
    pub fn vmm_named(&self) -> Option<(String, String)> {
        let spot = self.vmm_spot.as_ref()?;
        let (line, _) = spot.place.source.position(spot.place.span.start);
        Some((spot.field.clone(), format!("{}:{line}", spot.place.source.name)))
    }

    /// Names of the node's components in the order in which they are applied.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.components.iter().map(|component| component.name.as_str())
    }
}

/// A whole site.
#[derive(Clone, Debug)]
pub struct Site {
    /// Site name.
    pub name: String,
    /// DNS domain.
    pub domain: String,
    /// Mirror of the Debian archive, where the profile names one.
    pub mirror: Option<String>,
    /// Time zone, `UTC` when not given.
    pub time_zone: String,
    /// Site network.
    pub prefix: Ipv4Net,
    /// The install server's address on it.
    pub server: Ipv4Addr,
    /// Grid users, by name.
    pub users: Vec<GridUser>,
    /// Nodes, in the profile's order.
    pub nodes: Vec<Node>,
    /// All roles there are, used or not.
    pub(crate) role_names: Vec<String>,
    pub(crate) library: Arc<Library>,
}

impl Site {
    /// Subject of the site's CA, from the root down.
    pub fn ca_subject(&self) -> Vec<(String, String)> {
        vec![("O".into(), self.domain.clone()), ("CN".into(), format!("{} Test CA", self.name))]
    }

    /// Subject of a node's host certificate, from the root down.
    pub fn host_subject(&self, node: &str) -> Vec<(String, String)> {
        vec![("O".into(), self.domain.clone()), ("CN".into(), format!("{node}.{}", self.domain))]
    }

    /// Subject of a grid user's certificate, from the root down.
    pub fn user_subject(&self, user: &GridUser) -> Vec<(String, String)> {
        vec![
            ("O".into(), self.domain.clone()),
            ("OU".into(), "People".into()),
            ("CN".into(), user.full_name.clone()),
        ]
    }

    /// Every component the site can use, shipped or its own, by name.
    pub fn components(&self) -> Vec<ComponentSummary> {
        summary::summaries(&self.library)
    }

    /// Every role the site can use, by name.
    pub fn roles(&self) -> &[String] {
        &self.role_names
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }
}
