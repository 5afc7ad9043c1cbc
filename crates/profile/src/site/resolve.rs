//! From what the profile says to the site: roles inherited, nodes counted out,
//! addresses given, components put in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::address::{self, Wish};
use super::declare::{Declared, DeclaredNode};
use super::layer::Layer;
use super::roles::Role;
use super::{DataDisk, Node, NodeComponent, Site, publish, users, vmm};
use crate::component::{Library, Value, order};
use crate::fault::{FaultCode, FaultSink, Located, Spot};
use crate::size::{GIB, MIB};
use crate::suggestion;

/// Most nodes of a site.
const MOST_NODES: usize = 1000;
/// Memory of a node where nothing else is said.
const DEFAULT_MEMORY: u64 = 200 * MIB;
/// Root disk of a node where nothing else is said.
const DEFAULT_DISK: u64 = 4 * GIB;
/// Swap of a node where nothing else is said.
const DEFAULT_SWAP: u64 = 128 * MIB;

/// One node of a declared entry.
struct Counted<'a> {
    name: String,
    /// How many of the entry come before it.
    index: u32,
    declared: &'a DeclaredNode,
}

/// The site, or `None` where something without which there is none is missing or wrong.
pub(super) fn resolve(
    declared: &Declared,
    roles: BTreeMap<String, Role>,
    library: Arc<Library>,
    sink: &FaultSink,
) -> Option<Site> {
    let counted = count_out(&declared.nodes, sink);
    let users = users::resolve(&declared.users, sink);
    let published = counted
        .iter()
        .flat_map(|node| node.declared.publish.iter().map(|publish| (node.name.as_str(), publish)));
    publish::check_distinct(published, sink);
    check_host_names(declared, &counted, sink);
    let layers: Vec<Layer> =
        counted.iter().map(|node| layer(declared, &roles, node.declared, &library, sink)).collect();
    check_site_wide_parameters(&declared.defaults, &layers, &library, sink);
    let network = declared.prefix.as_ref().map(|prefix| {
        let server = address::server(&prefix.value, declared.server.as_ref(), sink);
        (prefix.value, server, addresses(&prefix.value, server, &counted, sink))
    });
    let site_name = declared.name.as_ref().map(|name| name.value.clone());
    let mut nodes = Vec::new();
    for (index, (counted, layer)) in counted.iter().zip(layers).enumerate() {
        let address = network.as_ref().map(|(_, _, addresses)| addresses[index]);
        let site = site_name.as_deref().unwrap_or_default();
        let role = counted.declared.role.as_ref().and_then(|name| roles.get(&name.value));
        nodes.extend(node(site, counted, address, role, layer, &library, sink));
    }
    let (prefix, server, _) = network?;
    Some(Site {
        name: site_name?,
        domain: declared.domain.as_ref()?.value.clone(),
        mirror: declared.mirror.as_ref().map(|mirror| mirror.value.clone()),
        time_zone: declared.time_zone.as_ref().map_or("UTC", |zone| &zone.value).to_owned(),
        prefix,
        server,
        users,
        nodes,
        role_names: roles.into_keys().collect(),
        library,
    })
}

/// Repeats entries with a `count`; every name once.
fn count_out<'a>(declared: &'a [DeclaredNode], sink: &FaultSink) -> Vec<Counted<'a>> {
    let mut taken: HashMap<String, &'a Spot> = HashMap::new();
    let mut counted = Vec::new();
    for entry in declared {
        let names: Vec<String> = match entry.count {
            None => vec![entry.name.value.clone()],
            Some(count) => (1..=count).map(|n| format!("{}{n}", entry.name.value)).collect(),
        };
        for (index, name) in (0u32..).zip(names) {
            if counted.len() == MOST_NODES {
                let rule = format!("a site has at most {MOST_NODES} nodes");
                sink.push(entry.name.spot.fault(FaultCode::BadValue, rule));
                return counted;
            }
            if name.len() > 32 {
                let rule = format!("with its number the name has more than 32 characters: {name}");
                sink.push(entry.name.spot.fault(FaultCode::BadValue, rule));
                break;
            }
            if let Some(first) = taken.get(&name) {
                let rule = format!("two nodes would be called {name}");
                let fault =
                    entry.name.spot.fault(FaultCode::Conflict, rule).found(&entry.name.value);
                sink.push(fault.related(first, "the other comes from"));
                continue;
            }
            taken.insert(name.clone(), &entry.name.spot);
            counted.push(Counted { name, index, declared: entry });
        }
    }
    counted
}

/// A host name stands in certificates and in the kernel: 64 characters at most.
fn check_host_names(declared: &Declared, counted: &[Counted<'_>], sink: &FaultSink) {
    let Some(domain) = &declared.domain else { return };
    let longest = counted.iter().max_by_key(|node| node.name.len());
    if let Some(node) = longest.filter(|node| node.name.len() + 1 + domain.value.len() > 64) {
        let rule =
            format!("the host name {}.{} has more than 64 characters", node.name, domain.value);
        sink.push(domain.spot.fault(FaultCode::BadValue, rule));
    }
}

/// Site, role and node laid on each other.
fn layer(
    declared: &Declared,
    roles: &BTreeMap<String, Role>,
    node: &DeclaredNode,
    library: &Library,
    sink: &FaultSink,
) -> Layer {
    let mut layer = declared.defaults.clone();
    if let Some(name) = &node.role {
        match roles.get(&name.value) {
            Some(role) => layer = layer.under(&role.layer),
            None => {
                let known: Vec<&str> = roles.keys().map(String::as_str).collect();
                let fault = name.spot.fault(FaultCode::UnknownName, "no such role");
                let hint = suggestion::did_you_mean_or_list(&name.value, &known);
                sink.push(fault.suggest_some(hint));
                return layer.under(&node.layer);
            }
        }
    }
    let below: Vec<String> = ordered(&layer, library);
    for dropped in node.layer.without.iter().filter(|name| !below.contains(&name.value)) {
        let rule = format!("{} has no component `{}` to drop", node.name.value, dropped.value);
        sink.push(dropped.spot.fault(FaultCode::BadValue, rule));
    }
    layer.under(&node.layer)
}

/// Parameters given site-wide must reach some node.
fn check_site_wide_parameters(
    defaults: &Layer,
    layers: &[Layer],
    library: &Library,
    sink: &FaultSink,
) {
    let used: BTreeSet<String> = layers.iter().flat_map(|layer| ordered(layer, library)).collect();
    for (component, values) in &defaults.parameters {
        if let Some(value) = values.values().next().filter(|_| !used.contains(component)) {
            let rule =
                format!("no node has the component `{component}`: this would change nothing");
            sink.push(value.spot.fault(FaultCode::BadValue, rule));
        }
    }
}

fn addresses(
    prefix: &ipnet::Ipv4Net,
    server: std::net::Ipv4Addr,
    counted: &[Counted<'_>],
    sink: &FaultSink,
) -> Vec<std::net::Ipv4Addr> {
    let wishes: Vec<Wish<'_>> = counted
        .iter()
        .map(|node| Wish {
            node: &node.name,
            spot: &node.declared.name.spot,
            given: node.declared.address.as_ref().map(|address| (address, node.index)),
        })
        .collect();
    address::assign(prefix, server, &wishes, sink)
}

fn ordered(layer: &Layer, library: &Library) -> Vec<String> {
    let wanted: Vec<String> = layer.components.iter().map(|name| name.value.clone()).collect();
    order::closure(library, &wanted)
}

fn node(
    site: &str,
    counted: &Counted<'_>,
    address: Option<std::net::Ipv4Addr>,
    role: Option<&Role>,
    layer: Layer,
    library: &Library,
    sink: &FaultSink,
) -> Option<Node> {
    let declared = counted.declared;
    let names = ordered(&layer, library);
    check_dropped(declared, &layer, &names, library, sink);
    let components = names
        .iter()
        .map(|name| NodeComponent {
            name: name.clone(),
            parameters: parameters(name, &layer, library, &declared.name, sink),
        })
        .collect();
    if let Some(fault) = vmm::check_uml(&counted.name, &layer) {
        sink.push(fault);
    }
    let value =
        |setting: &Option<Located<u64>>, default| setting.as_ref().map_or(default, |s| s.value);
    Some(Node {
        name: counted.name.clone(),
        role: declared.role.as_ref()?.value.clone(),
        roles: role?.chain.clone(),
        address: address?,
        mac: address::mac(site, &counted.name),
        memory: value(&layer.memory, DEFAULT_MEMORY),
        disk: value(&layer.disk, DEFAULT_DISK),
        swap: value(&layer.swap, DEFAULT_SWAP),
        cpus: layer.cpus.as_ref().map_or(1, |cpus| cpus.value),
        vmm: chosen(&layer.vmm),
        accelerator: chosen(&layer.accelerator),
        hardware: chosen(&layer.hardware),
        guest: chosen(&layer.guest),
        security: chosen(&layer.security),
        reconcile: chosen(&layer.reconcile),
        publish: declared.publish.iter().map(|publish| publish.value).collect(),
        data: declared
            .data
            .iter()
            .map(|disk| DataDisk {
                name: disk.name.value.clone(),
                size: disk.size,
                mount: disk.mount.value.clone(),
            })
            .collect(),
        components,
        packages: layer.packages,
        files: layer.files.into_values().collect(),
        spot: declared.name.spot.clone(),
        vmm_spot: layer.vmm.map(|vmm| vmm.spot),
    })
}

/// What a layer says of a setting, or its default.
fn chosen<T: Copy + Default>(setting: &Option<Located<T>>) -> T {
    setting.as_ref().map(|setting| setting.value).unwrap_or_default()
}

/// A component that was dropped must not come back through another's requirement.
fn check_dropped(
    node: &DeclaredNode,
    layer: &Layer,
    ordered: &[String],
    library: &Library,
    sink: &FaultSink,
) {
    let listed = |name: &str| layer.components.iter().any(|component| component.value == name);
    for dropped in &layer.without {
        if listed(&dropped.value) || !ordered.contains(&dropped.value) {
            continue;
        }
        let needs = ordered.iter().filter_map(|name| library.get(name)).find(|component| {
            component.requires.iter().any(|required| required.value == dropped.value)
        });
        if let Some(needs) = needs {
            let rule = format!(
                "`{}` cannot be dropped from {}: `{}` requires it",
                dropped.value, node.name.value, needs.name
            );
            sink.push(dropped.spot.fault(FaultCode::Conflict, rule));
        }
    }
}

/// A component's parameters on a node, defaults filled in.
fn parameters(
    name: &str,
    layer: &Layer,
    library: &Library,
    node: &Located<String>,
    sink: &FaultSink,
) -> BTreeMap<String, Value> {
    let given = layer.parameters.get(name);
    let mut values = BTreeMap::new();
    for (key, parameter) in library.get(name).into_iter().flat_map(|c| &c.parameters) {
        let value = given.and_then(|given| given.get(key)).map(|value| value.value.clone());
        match value.or_else(|| parameter.default.clone()) {
            Some(value) => {
                values.insert(key.clone(), value);
            }
            None => {
                let mut spot = node.spot.clone();
                spot.field = format!("{}.components.{name}.{key}", node.spot.field);
                let rule = format!("component `{name}` needs the parameter `{key}`");
                let hint = format!("[{}.components.{name}] {key} = …", node.spot.field);
                sink.push(spot.fault(FaultCode::Missing, rule).found_nothing().suggest(hint));
            }
        }
    }
    values
}
