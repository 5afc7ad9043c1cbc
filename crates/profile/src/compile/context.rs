//! What templates may read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minijinja::value::Serde;
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;

use super::Facts;
use crate::site::{Node, NodeComponent, Site};
use crate::size::MIB;
use crate::template::Context;

#[derive(Serialize)]
struct SiteRecord<'a> {
    name: &'a str,
    domain: &'a str,
    prefix: String,
    prefix_length: u8,
    network: String,
    netmask: String,
    broadcast: String,
    server: String,
    time_zone: &'a str,
    ca_certificate: &'a str,
    ca_hash: &'a str,
    ca_subject: String,
    admin_keys: &'a [String],
}

#[derive(Serialize)]
struct NodeRecord<'a> {
    name: &'a str,
    fqdn: String,
    role: &'a str,
    address: String,
    mac: &'a str,
    memory_mib: u64,
    swap_mib: u64,
    disk_mib: u64,
    cpus: u32,
    subject: String,
    components: Vec<&'a str>,
    data: Vec<DataRecord<'a>>,
}

#[derive(Serialize)]
struct DataRecord<'a> {
    name: &'a str,
    size_mib: u64,
    mount: &'a str,
}

#[derive(Serialize)]
struct UserRecord<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    full_name: &'a str,
    subject: String,
}

/// One value that a node publishes.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PublishedValue {
    pub node: String,
    pub address: String,
    pub value: String,
}

/// All that is published, by name.
pub(super) type Published = BTreeMap<String, Vec<PublishedValue>>;

/// What is the same for every node.
pub(super) struct SiteContext {
    context: Context,
    nodes: Vec<Value>,
    component_names: Arc<BTreeSet<String>>,
}

impl SiteContext {
    /// The context of a site.
    pub(super) fn new(site: &Site, facts: &Facts) -> Self {
        let nodes: Vec<Value> =
            site.nodes.iter().map(|node| from_serialize(record(site, node))).collect();
        let component_names: BTreeSet<String> =
            site.library.names().into_iter().map(str::to_owned).collect();
        let component_names = Arc::new(component_names);
        let context = Context::from([
            ("site".to_owned(), from_serialize(site_record(site, facts))),
            ("nodes".to_owned(), Value::from(nodes.clone())),
            ("users".to_owned(), Value::from(users(site))),
            ("role_nodes".to_owned(), role_nodes(site, &nodes)),
            ("component_nodes".to_owned(), component_nodes(site, &nodes, &component_names)),
        ]);
        Self { context, nodes, component_names }
    }

    /// The context of one component on one node. `published` is not there yet while
    /// the published values themselves are made.
    pub(super) fn of(
        &self,
        node: &Node,
        index: usize,
        component: &NodeComponent,
        published: Option<&Value>,
    ) -> Context {
        let mut context = self.context.clone();
        context.insert("node".to_owned(), self.nodes[index].clone());
        let parameters = from_serialize(&component.parameters);
        context.insert("parameters".to_owned(), parameters);
        let present: BTreeSet<String> = node.components().map(str::to_owned).collect();
        context.insert("has_component".to_owned(), self.has_component(present));
        if let Some(published) = published {
            context.insert("published".to_owned(), published.clone());
        }
        context
    }

    fn has_component(&self, present: BTreeSet<String>) -> Value {
        let known = Arc::clone(&self.component_names);
        Value::from_function(move |name: &str| {
            if !known.contains(name) {
                return Err(unknown("component", name));
            }
            Ok(present.contains(name))
        })
    }
}

/// `/O=…/CN=…`, as grid software writes subjects.
pub(super) fn subject_line(parts: &[(String, String)]) -> String {
    parts.iter().map(|(key, value)| format!("/{key}={value}")).collect()
}

fn site_record<'a>(site: &'a Site, facts: &'a Facts) -> SiteRecord<'a> {
    SiteRecord {
        name: &site.name,
        domain: &site.domain,
        prefix: site.prefix.to_string(),
        prefix_length: site.prefix.prefix_len(),
        network: site.prefix.network().to_string(),
        netmask: site.prefix.netmask().to_string(),
        broadcast: site.prefix.broadcast().to_string(),
        server: site.server.to_string(),
        time_zone: &site.time_zone,
        ca_certificate: &facts.ca_certificate,
        ca_hash: &facts.ca_hash,
        ca_subject: subject_line(&site.ca_subject()),
        admin_keys: &facts.admin_keys,
    }
}

fn record<'a>(site: &Site, node: &'a Node) -> NodeRecord<'a> {
    NodeRecord {
        name: &node.name,
        fqdn: format!("{}.{}", node.name, site.domain),
        role: &node.role,
        address: node.address.to_string(),
        mac: &node.mac,
        memory_mib: node.memory / MIB,
        swap_mib: node.swap / MIB,
        disk_mib: node.disk / MIB,
        cpus: node.cpus,
        subject: subject_line(&site.host_subject(&node.name)),
        components: node.components().collect(),
        data: node
            .data
            .iter()
            .map(|disk| DataRecord {
                name: &disk.name,
                size_mib: disk.size / MIB,
                mount: &disk.mount,
            })
            .collect(),
    }
}

fn users(site: &Site) -> Vec<Value> {
    let record = |user: &crate::site::GridUser| {
        from_serialize(UserRecord {
            name: &user.name,
            uid: user.uid,
            gid: user.uid,
            full_name: &user.full_name,
            subject: subject_line(&site.user_subject(user)),
        })
    };
    site.users.iter().map(record).collect()
}

/// `role_nodes("wn")`: the nodes of a role, or of one that extends it.
fn role_nodes(site: &Site, nodes: &[Value]) -> Value {
    let mut by_role: BTreeMap<String, Vec<Value>> =
        site.role_names.iter().map(|name| (name.clone(), Vec::new())).collect();
    for (node, value) in site.nodes.iter().zip(nodes) {
        for role in &node.roles {
            by_role.entry(role.clone()).or_default().push(value.clone());
        }
    }
    Value::from_function(move |name: &str| {
        by_role.get(name).cloned().ok_or_else(|| unknown("role", name))
    })
}

/// `component_nodes("munge")`: the nodes that have a component.
fn component_nodes(site: &Site, nodes: &[Value], known: &Arc<BTreeSet<String>>) -> Value {
    let mut by_component: BTreeMap<String, Vec<Value>> =
        known.iter().map(|name| (name.clone(), Vec::new())).collect();
    for (node, value) in site.nodes.iter().zip(nodes) {
        for component in node.components() {
            by_component.entry(component.to_owned()).or_default().push(value.clone());
        }
    }
    Value::from_function(move |name: &str| {
        by_component.get(name).cloned().ok_or_else(|| unknown("component", name))
    })
}

fn unknown(what: &str, name: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("there is no {what} `{name}`"))
}

/// A value that templates read.
pub(super) fn from_serialize<T: Serialize>(value: T) -> Value {
    Value::from(Serde(value))
}
