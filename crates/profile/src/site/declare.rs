//! What `site.toml` says itself, read and checked value by value; nothing is
//! inherited yet and nodes are not counted out.

use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::path::Path;

use super::layer::Layer;
use super::layer_read::{self, Mention};
use super::{Publish, publish, vmm};
use crate::component::Library;
use crate::document::{Item, Table};
use crate::fault::{FaultCode, Located};
use crate::names::{self, Rule};
use crate::size::{GIB, MIB};

/// Bounds of a data disk in bytes.
const DATA_DISK: (u64, u64) = (16 * MIB, 64 * 1024 * GIB);
/// Longest name of a data disk: its partition label has at most 36 characters.
const LONGEST_DISK_NAME: usize = 20;
/// Most data disks of a node.
const MOST_DISKS: usize = 8;
/// Most roles of a site.
const MOST_ROLES: usize = 200;
/// Most nodes one entry may stand for.
const LARGEST_COUNT: i64 = 500;

/// The profile as it stands.
#[derive(Debug, Default)]
pub(super) struct Declared {
    pub name: Option<Located<String>>,
    pub domain: Option<Located<String>>,
    pub mirror: Option<Located<String>>,
    pub time_zone: Option<Located<String>>,
    pub prefix: Option<Located<Ipv4Net>>,
    pub server: Option<Located<Ipv4Addr>>,
    /// `[site] vmm`, `[components]` and `[defaults]`, put together.
    pub defaults: Layer,
    pub users: Vec<DeclaredUser>,
    pub roles: Vec<DeclaredRole>,
    pub nodes: Vec<DeclaredNode>,
}

#[derive(Debug)]
pub(super) struct DeclaredUser {
    pub name: Located<String>,
    pub full_name: Located<String>,
    pub uid: Option<Located<u32>>,
}

#[derive(Debug)]
pub(super) struct DeclaredRole {
    pub name: Located<String>,
    pub extends: Option<Located<String>>,
    pub layer: Layer,
}

#[derive(Debug)]
pub(super) struct DeclaredNode {
    pub name: Located<String>,
    pub role: Option<Located<String>>,
    pub address: Option<Located<Ipv4Addr>>,
    pub count: Option<u32>,
    pub publish: Vec<Located<Publish>>,
    pub data: Vec<DeclaredDisk>,
    pub layer: Layer,
}

#[derive(Clone, Debug)]
pub(super) struct DeclaredDisk {
    pub name: Located<String>,
    pub size: u64,
    pub mount: Located<String>,
}

/// Reads the whole profile.
pub(super) fn read(root: &Table<'_>, library: &Library) -> Declared {
    let mut declared = Declared::default();
    site(root, &mut declared);
    network(root, &mut declared);
    if let Some(table) = root.table("components") {
        let (_, parameters) = layer_read::parameters(&table, library);
        let components = Layer { parameters, ..Layer::default() };
        declared.defaults = declared.defaults.under(&components);
    }
    if let Some(table) = root.table("defaults") {
        let layer = layer_read::read(&table, library, Mention::Waits);
        table.finish();
        declared.defaults = declared.defaults.under(&layer);
    }
    if let Some(table) = root.table("users") {
        declared.users =
            table.entries().iter().filter_map(|(name, item)| user(name, item)).collect();
    }
    declared.roles = roles(root, library);
    match root.required("nodes", "add [nodes.ce] with role = \"ce\"").and_then(|item| item.table())
    {
        Some(table) => {
            let entries = table.entries();
            if entries.is_empty() {
                table.missing("ce", "a site has at least one node: add [nodes.ce]");
            }
            declared.nodes =
                entries.iter().filter_map(|(name, item)| node(name, item, library)).collect();
        }
        None => declared.nodes = Vec::new(),
    }
    root.finish();
    declared
}

/// Reads `[roles]` of a text.
pub(super) fn roles(root: &Table<'_>, library: &Library) -> Vec<DeclaredRole> {
    let Some(table) = root.table("roles") else { return Vec::new() };
    let entries = table.entries();
    if let Some((extra, _)) = entries.get(MOST_ROLES) {
        let rule = format!("a site has at most {MOST_ROLES} roles");
        table.push(extra.spot.fault(FaultCode::BadValue, rule));
    }
    let entries = entries.iter().take(MOST_ROLES);
    entries.filter_map(|(name, item)| role(name, item, library)).collect()
}

fn site(root: &Table<'_>, declared: &mut Declared) {
    let Some(item) = root.get("site") else {
        root.missing("site", "add [site] with name and domain");
        return;
    };
    let Some(table) = item.table() else { return };
    declared.name =
        table.required("name", "name = \"dublin\"").and_then(|item| named(&item, names::site));
    declared.domain = table
        .required("domain", "domain = \"dublin.test\"")
        .and_then(|item| named(&item, names::domain));
    declared.mirror = table.get("mirror").and_then(|item| named(&item, mirror));
    declared.time_zone = table.get("time_zone").and_then(|item| named(&item, time_zone));
    declared.defaults.vmm = table.get("vmm").and_then(|item| vmm::name(&item));
    declared.defaults.reconcile =
        table.get("reconcile").and_then(|item| layer_read::reconcile(&item));
    table.finish();
}

fn network(root: &Table<'_>, declared: &mut Declared) {
    let Some(item) = root.get("network") else {
        root.missing("network", "add [network] with prefix = \"198.51.100.0/24\"");
        return;
    };
    let Some(table) = item.table() else { return };
    declared.prefix =
        table.required("prefix", "prefix = \"198.51.100.0/24\"").and_then(|item| prefix(&item));
    declared.server = table.get("server").and_then(|item| address(&item));
    table.finish();
}

fn user(name: &Located<String>, item: &Item<'_>) -> Option<DeclaredUser> {
    let table = item.table()?;
    let name_ok = keeps(&table, name, names::user);
    let full_name = table
        .required("full_name", "full_name = \"Alice Example\"")
        .and_then(|item| named(&item, names::full_name));
    let uid = table.get("uid").and_then(|item| {
        let uid = item.integer(1000..=59_999)?;
        Some(uid.with(u32::try_from(uid.value).ok()?))
    });
    table.finish();
    name_ok.then_some(DeclaredUser { name: name.clone(), full_name: full_name?, uid })
}

fn role(name: &Located<String>, item: &Item<'_>, library: &Library) -> Option<DeclaredRole> {
    let table = item.table()?;
    keeps(&table, name, names::hyphenated);
    let extends = table.string("extends");
    let layer = layer_read::read(&table, library, Mention::Adds);
    table.finish();
    Some(DeclaredRole { name: name.clone(), extends, layer })
}

fn node(name: &Located<String>, item: &Item<'_>, library: &Library) -> Option<DeclaredNode> {
    let table = item.table()?;
    let name_ok = keeps(&table, name, names::node);
    let role = table.required("role", "role = \"wn\"").and_then(|item| item.string());
    let address = table.get("address").and_then(|item| address(&item));
    let count = table
        .get("count")
        .and_then(|item| item.integer(1..=LARGEST_COUNT))
        .and_then(|count| u32::try_from(count.value).ok());
    let publish = publish::read(&table);
    let data = data(&table);
    let layer = layer_read::read(&table, library, Mention::Adds);
    table.finish();
    let node = DeclaredNode { name: name.clone(), role, address, count, publish, data, layer };
    name_ok.then_some(node)
}

fn data(table: &Table<'_>) -> Vec<DeclaredDisk> {
    let mut disks: Vec<DeclaredDisk> = Vec::new();
    let entries = table.tables("data");
    if let Some(extra) = entries.get(MOST_DISKS) {
        extra.push(extra.spot().fault(FaultCode::BadValue, "a node has at most 8 data disks"));
    }
    for entry in entries.iter().take(MOST_DISKS) {
        let name =
            entry.required("name", "name = \"data\"").and_then(|item| named(&item, disk_name));
        let size = entry
            .required("size", "size = \"10 GiB\"")
            .and_then(|item| layer_read::whole_mib(&item, DATA_DISK));
        let mount =
            entry.required("mount", "mount = \"/srv/data\"").and_then(|item| named(&item, mount));
        entry.finish();
        let (Some(name), Some(size), Some(mount)) = (name, size, mount) else { continue };
        let disk = DeclaredDisk { name, size: size.value, mount };
        for other in &disks {
            let pairs = [
                (&disk.name, &other.name, "two data disks of one node have this name"),
                (&disk.mount, &other.mount, "two data disks of one node are mounted here"),
            ];
            for (this, first, rule) in pairs.iter().filter(|(a, b, _)| a.value == b.value) {
                let fault = this.spot.fault(FaultCode::Conflict, *rule);
                entry.push(fault.related(&first.spot, "the other stands at"));
            }
        }
        disks.push(disk);
    }
    disks
}

fn disk_name(name: &str) -> Rule {
    if name.len() > LONGEST_DISK_NAME {
        return Err("a data disk's name has at most 20 characters");
    }
    names::hyphenated(name)
}

/// Folders that a node's system fills itself. A file system on one of them would hide what it, or the agent, has there.
const FILLED: [&str; 10] = [
    "/bin",
    "/boot",
    "/etc",
    "/lib",
    "/lib64",
    "/sbin",
    "/usr",
    "/var",
    "/var/lib",
    "/var/lib/dpkg",
];

/// Folders in which nothing is mounted but by the node's system.
const CLOSED: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/var/lib/gridgate"];

/// A mount point stands in a unit file, where some characters mean something.
fn mount(path: &str) -> Rule {
    names::path(path)?;
    let closed = CLOSED.iter().any(|folder| Path::new(path).starts_with(folder));
    if FILLED.contains(&path) || closed {
        return Err(
            "the node's system itself stands there; a folder of its own is good, such as /srv/data",
        );
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || b"/_.-".contains(&b);
    if path.bytes().all(good) {
        Ok(())
    } else {
        Err("a mount point has letters, digits and / _ . - only")
    }
}

fn mirror(text: &str) -> Rule {
    let rest = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let good = rest.is_some_and(|rest| {
        !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(|b| b.is_ascii_graphic())
    });
    if good { Ok(()) } else { Err("a mirror is an address such as http://mirror.example/debian") }
}

fn time_zone(text: &str) -> Rule {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b))
    };
    if text.len() <= 64 && text.split('/').all(part) {
        return Ok(());
    }
    Err("a time zone is a name such as Europe/Dublin or UTC")
}

fn prefix(item: &Item<'_>) -> Option<Located<Ipv4Net>> {
    let text = item.string()?;
    let Ok(net) = text.value.parse::<Ipv4Net>() else {
        item.bad(
            "this must be an IPv4 network and its prefix length",
            Some("write \"198.51.100.0/24\"".to_owned()),
        );
        return None;
    };
    if !(8..=29).contains(&net.prefix_len()) {
        item.bad("the prefix length must be from 8 to 29", None);
        return None;
    }
    if net.trunc() != net {
        let hint = format!("write \"{}\"", net.trunc());
        item.bad("a network's address has no bits beyond its prefix length", Some(hint));
        return None;
    }
    let first = net.network().octets()[0];
    if matches!(first, 0 | 127 | 224..) {
        item.bad("this range is not for hosts", Some("write \"198.51.100.0/24\"".to_owned()));
        return None;
    }
    Some(text.with(net))
}

fn address(item: &Item<'_>) -> Option<Located<Ipv4Addr>> {
    let text = item.string()?;
    match text.value.parse::<Ipv4Addr>() {
        Ok(address) => Some(text.with(address)),
        Err(_) => {
            let bare = text.value.split('/').next().unwrap_or_default();
            let hint = bare.parse::<Ipv4Addr>().ok().map(|address| format!("write \"{address}\""));
            item.bad("this must be an IPv4 address", hint);
            None
        }
    }
}

/// A string that keeps to a rule.
fn named(item: &Item<'_>, rule: fn(&str) -> Rule) -> Option<Located<String>> {
    let text = item.string()?;
    if let Err(rule) = rule(&text.value) {
        item.bad(rule, None);
        return None;
    }
    Some(text)
}

/// Whether a key keeps to a rule; a fault when not.
fn keeps(table: &Table<'_>, name: &Located<String>, rule: fn(&str) -> Rule) -> bool {
    let Err(broken) = rule(&name.value) else { return true };
    let better = name.value.to_lowercase().replace('_', "-");
    let hint =
        (better != name.value && rule(&better).is_ok()).then(|| format!("`{better}` would do"));
    table.push(name.spot.fault(FaultCode::BadValue, broken).suggest_some(hint));
    false
}
