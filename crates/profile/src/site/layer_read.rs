//! Reading the settings that `[defaults]`, roles and nodes have in common.

use std::collections::BTreeMap;

use gridgate_protocol::node_profile::Reconcile;

use super::layer::{Layer, ParameterValues, UserFile};
use super::vmm;
use crate::component::Library;
use crate::component::parameter::read_size;
use crate::document::{Item, Table};
use crate::fault::{FaultCode, Located};
use crate::names;
use crate::size::{self, GIB, MIB};
use crate::suggestion;

/// Bounds of a node's memory in bytes.
const MEMORY: (u64, u64) = (64 * MIB, 1024 * GIB);
/// Bounds of a root disk in bytes.
const DISK: (u64, u64) = (GIB, 16 * 1024 * GIB);
/// Bounds of swap in bytes.
const SWAP: (u64, u64) = (0, 64 * GIB);
/// Most processors of a node.
const CPUS: i64 = 256;
/// Largest content of a file given in the profile.
const LARGEST_FILE: usize = 1 << 20;

const RECONCILES: &[(&str, Reconcile)] = &[("off", Reconcile::Off), ("watch", Reconcile::Watch)];

/// What a table of parameters does to the components that are in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mention {
    /// The components are added: roles and nodes.
    Adds,
    /// The parameters wait for whatever node has the component: site-wide.
    Waits,
}

/// Reads the settings of a table; the caller reads its other keys and finishes it.
pub(super) fn read(table: &Table<'_>, library: &Library, mention: Mention) -> Layer {
    let mut layer = Layer {
        memory: table.get("memory").and_then(|item| whole_mib(&item, MEMORY)),
        disk: table.get("disk").and_then(|item| whole_mib(&item, DISK)),
        swap: table.get("swap").and_then(|item| whole_mib(&item, SWAP)),
        cpus: table.get("cpus").and_then(|item| {
            let cpus = item.integer(1..=CPUS)?;
            Some(cpus.with(u32::try_from(cpus.value).ok()?))
        }),
        reconcile: table.get("reconcile").and_then(|item| reconcile(&item)),
        packages: packages(table),
        without: component_names(table, table.strings("without"), library),
        files: files(table),
        ..Layer::default()
    };
    vmm::read(table, &mut layer);
    match table.get("components") {
        Some(item) if item.is_table() => {
            if let Some(components) = item.table() {
                let (names, parameters) = parameters(&components, library);
                layer.parameters = parameters;
                if mention == Mention::Adds {
                    layer.components = names;
                }
            }
        }
        Some(item) => layer.components = component_names(table, item.strings(), library),
        None => {}
    }
    layer
}

/// Reads whether nodes put back unasked what is changed by hand.
pub(super) fn reconcile(item: &Item<'_>) -> Option<Located<Reconcile>> {
    item.choice(RECONCILES)
}

/// A size in whole MiB within bounds.
pub(super) fn whole_mib(item: &Item<'_>, (minimum, maximum): (u64, u64)) -> Option<Located<u64>> {
    let bytes = read_size(item)?;
    if bytes.value < minimum || bytes.value > maximum {
        let rule = format!("this must be from {} to {}", size::show(minimum), size::show(maximum));
        item.bad(rule, None);
        return None;
    }
    if bytes.value % MIB != 0 {
        let near = format!("write \"{} MiB\"", bytes.value.div_ceil(MIB));
        item.bad("this must be a whole number of MiB", Some(near));
        return None;
    }
    Some(bytes)
}

/// Reads a table whose keys are components and whose values are their parameters.
pub(super) fn parameters(
    table: &Table<'_>,
    library: &Library,
) -> (Vec<Located<String>>, BTreeMap<String, ParameterValues>) {
    let mut names = Vec::new();
    let mut parameters = BTreeMap::new();
    for (name, item) in table.entries() {
        let Some(component) = library.get(&name.value) else {
            let fault = name.spot.fault(FaultCode::UnknownName, "no such component");
            let hint = suggestion::did_you_mean_or_list(&name.value, &library.names());
            table.push(fault.suggest_some(hint));
            continue;
        };
        let Some(given) = item.table() else { continue };
        let known: Vec<&str> = component.parameters.keys().map(String::as_str).collect();
        let mut values = ParameterValues::new();
        for (parameter_name, value) in given.entries() {
            let Some(parameter) = component.parameters.get(&parameter_name.value) else {
                let rule = format!("component `{}` has no such parameter", name.value);
                let hint = match known.as_slice() {
                    [] => Some("it has no parameters".to_owned()),
                    _ => suggestion::did_you_mean_or_list(&parameter_name.value, &known),
                };
                let fault = parameter_name.spot.fault(FaultCode::UnknownName, rule);
                table.push(fault.suggest_some(hint));
                continue;
            };
            if let Some(value) = parameter.read(&value) {
                values.insert(parameter_name.value, value);
            }
        }
        names.push(name.clone());
        parameters.insert(name.value, values);
    }
    (names, parameters)
}

fn packages(table: &Table<'_>) -> Vec<Located<String>> {
    let mut packages = table.strings("packages");
    packages.retain(|package| match names::package(&package.value) {
        Ok(()) => true,
        Err(rule) => {
            table.push(package.spot.fault(FaultCode::BadValue, rule));
            false
        }
    });
    packages
}

fn component_names(
    table: &Table<'_>,
    mut list: Vec<Located<String>>,
    library: &Library,
) -> Vec<Located<String>> {
    list.retain(|name| {
        let known = library.get(&name.value).is_some();
        if !known {
            let fault = name.spot.fault(FaultCode::UnknownName, "no such component");
            let hint = suggestion::did_you_mean_or_list(&name.value, &library.names());
            table.push(fault.suggest_some(hint));
        }
        known
    });
    list
}

fn files(table: &Table<'_>) -> BTreeMap<String, UserFile> {
    let mut files: BTreeMap<String, UserFile> = BTreeMap::new();
    for entry in table.tables("files") {
        let file = file(&entry);
        entry.finish();
        let Some(file) = file else { continue };
        if let Some(first) = files.get(&file.path.value) {
            let fault = file.path.spot.fault(FaultCode::Conflict, "this path is given twice");
            table.push(fault.related(&first.path.spot, "first given at"));
            continue;
        }
        files.insert(file.path.value.clone(), file);
    }
    files
}

fn file(table: &Table<'_>) -> Option<UserFile> {
    let path = table.required("path", "path = \"/etc/…\"").and_then(|item| path(&item));
    let content = table.required("content", "content = \"…\"").and_then(|item| {
        let content = item.string()?;
        if content.value.len() > LARGEST_FILE {
            item.bad("a file given here has at most 1 MiB", None);
            return None;
        }
        Some(content.value)
    });
    let owner = account(table, "owner");
    let group = account(table, "group");
    let mode = match table.get("mode") {
        Some(item) => {
            let text = item.string()?;
            names::mode(&text.value).map_err(|rule| item.bad(rule, None)).ok()
        }
        None => Some(0o644),
    };
    Some(UserFile { path: path?, content: content?, owner: owner?, group: group?, mode: mode? })
}

/// Reads an absolute path.
fn path(item: &Item<'_>) -> Option<Located<String>> {
    let path = item.string()?;
    match names::path(&path.value) {
        Ok(()) => Some(path),
        Err(rule) => {
            item.bad(rule, None);
            None
        }
    }
}

fn account(table: &Table<'_>, key: &'static str) -> Option<String> {
    let Some(item) = table.get(key) else { return Some("root".to_owned()) };
    let name = item.string()?;
    names::account(&name.value).map_err(|rule| item.bad(rule, None)).ok()?;
    Some(name.value)
}
