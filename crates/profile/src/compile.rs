//! From the site to what each node must be.

use std::collections::{BTreeMap, BTreeSet};

use gridgate_protocol::node_profile::{Content, NodeProfile, SCHEMA};
use minijinja::Value;
use serde::Serialize;

use crate::fault::{FaultSink, Faults};
use crate::site::{Accelerator, DataDisk, Guest, Hardware, Node, Publish, Security, Site, Vmm};
use crate::template::Renderer;

mod context;
mod draft;
mod expand;
mod shelf;
mod site_files;

use context::{Published, PublishedValue, SiteContext, from_serialize};
use draft::Draft;
use expand::Expansion;
use shelf::Secrets;

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
    /// How QEMU runs a guest's instructions.
    pub accelerator: Accelerator,
    /// The computer that QEMU shows to a guest.
    pub hardware: Hardware,
    /// The kind of Xen guest.
    pub guest: Guest,
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

/// Compiles a site. Equal sites and facts give equal results.
///
/// # Errors
/// Template errors and conflicts between components, all at once.
pub fn compile(site: &Site, facts: &Facts) -> Result<Compiled, Faults> {
    let sink = FaultSink::default();
    let context = SiteContext::new(site, facts);
    let renderers: BTreeMap<&str, Renderer<'_>> = site
        .nodes
        .iter()
        .flat_map(Node::components)
        .filter_map(|name| Some((name, Renderer::new(site.library.get(name)?))))
        .collect();
    let published = published(site, &context, &renderers, &sink);
    let mut secrets = Secrets::default();
    let mut nodes = Vec::new();
    if sink.is_clean() {
        let published = from_serialize(&published);
        for (index, node) in site.nodes.iter().enumerate() {
            let draft = draft(site, (index, node), &context, &renderers, &published, &sink);
            // A secret is one for the whole site.
            secrets.add_all(&draft.secrets, &sink);
            nodes.push(finish(site, node, draft));
        }
    }
    let secrets = secrets.iter().cloned().collect();
    sink.finish(Some(Compiled { nodes, secrets }))
}

/// The values nodes publish. Every name that some component publishes is there, if
/// only as an empty list.
fn published(
    site: &Site,
    context: &SiteContext,
    renderers: &BTreeMap<&str, Renderer<'_>>,
    sink: &FaultSink,
) -> Published {
    let names = site.library.iter().flat_map(|component| component.publish.keys());
    let mut published: Published = names.map(|name| (name.clone(), Vec::new())).collect();
    for (index, node) in site.nodes.iter().enumerate() {
        for on_node in &node.components {
            let name = on_node.name.as_str();
            let (Some(component), Some(renderer)) = (site.library.get(name), renderers.get(name))
            else {
                continue;
            };
            if component.publish.is_empty() {
                continue;
            }
            let context = context.of(node, index, on_node, None);
            for (name, text) in &component.publish {
                match renderer.text(text, &context) {
                    Ok(value) => published.entry(name.clone()).or_default().push(PublishedValue {
                        node: node.name.clone(),
                        address: node.address.to_string(),
                        value,
                    }),
                    Err(fault) => sink.push((*fault).on_node(&node.name)),
                }
            }
        }
    }
    published
}

/// All components of one node.
fn draft<'a>(
    site: &'a Site,
    (index, node): (usize, &'a Node),
    context: &SiteContext,
    renderers: &BTreeMap<&str, Renderer<'_>>,
    published: &Value,
    sink: &'a FaultSink,
) -> Draft<'a> {
    let mut draft = Draft::new(&node.name, sink);
    let expansions: Vec<Expansion<'_>> = node
        .components
        .iter()
        .filter_map(|on_node| {
            Some(Expansion {
                node: &node.name,
                component: site.library.get(&on_node.name)?,
                renderer: renderers.get(on_node.name.as_str())?,
                context: context.of(node, index, on_node, Some(published)),
                sink,
            })
        })
        .collect();
    for expansion in &expansions {
        expansion.expand(&mut draft);
    }
    for expansion in &expansions {
        expansion.expand_files(&mut draft);
    }
    site_files::add(node, &mut draft);
    draft.check_parents();
    draft
}

fn finish(site: &Site, node: &Node, draft: Draft<'_>) -> CompiledNode {
    let own = node.packages.iter().map(|package| package.value.as_str());
    let components = node.components().filter_map(|name| site.library.get(name));
    let wanted = components.flat_map(|component| &component.packages).map(|p| p.value.as_str());
    let data = site_files::packages(node).iter().copied();
    let packages: BTreeSet<String> = own.chain(wanted).chain(data).map(str::to_owned).collect();
    let files = draft.files.into_sorted();
    let named: BTreeSet<&String> = files
        .iter()
        .filter_map(|file| match &file.content {
            Content::Secret(name) => Some(name),
            _ => None,
        })
        .collect();
    let secrets = draft.secrets.iter().filter(|spec| named.contains(&spec.name)).cloned().collect();
    let profile = NodeProfile {
        schema: SCHEMA,
        site: site.name.clone(),
        domain: site.domain.clone(),
        node: node.name.clone(),
        role: node.role.clone(),
        address: node.address,
        prefix_length: site.prefix.prefix_len(),
        mac: node.mac.clone(),
        server: site.server,
        components: node.components().map(str::to_owned).collect(),
        packages: packages.iter().cloned().collect(),
        groups: draft.groups.into_items(),
        users: draft.users.into_items(),
        directories: draft.directories.into_sorted(),
        files,
        links: draft.links.into_sorted(),
        certificates: draft.certificates.into_items(),
        commands: draft.commands.into_items(),
        units: draft.units.into_items(),
        checks: draft.checks.into_items(),
        reconcile: node.reconcile,
    };
    CompiledNode {
        name: node.name.clone(),
        role: node.role.clone(),
        profile,
        memory: node.memory,
        disk: node.disk,
        swap: node.swap,
        cpus: node.cpus,
        vmm: node.vmm,
        accelerator: node.accelerator,
        hardware: node.hardware,
        guest: node.guest,
        security: node.security,
        publish: node.publish.clone(),
        data: node.data.clone(),
        secrets,
        packages,
        ports: draft.ports.into_sorted(),
    }
}
