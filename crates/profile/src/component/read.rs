//! Reading one component folder.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Component, FileContent, Parameter, Resources, Text, resources};
use crate::document::{self, Table};
use crate::fault::{FaultCode, FaultSink, Located, Spot};
use crate::names;
use crate::site::ComponentFiles;
use crate::source::{Place, Source};
use crate::suggestion;
use crate::template;

/// The file every component folder has.
const MANIFEST: &str = "component.toml";

/// Reads a folder. `shown_as` is the folder's name in faults.
pub(super) fn read(
    name: &str,
    shown_as: &str,
    files: &ComponentFiles,
    sink: &FaultSink,
) -> Option<Component> {
    let manifest_name = format!("{shown_as}/{MANIFEST}");
    let nowhere = |file: &str| Spot {
        place: Place::new(&Source::new(file, ""), 0..0),
        field: name.to_owned(),
    };
    if let Err(rule) = check_name(name) {
        sink.push(nowhere(&manifest_name).fault(FaultCode::BadValue, rule).found(name));
    }
    let Some(bytes) = files.get(MANIFEST) else {
        let rule = "a component folder has a file component.toml";
        sink.push(nowhere(&manifest_name).fault(FaultCode::Missing, rule));
        return None;
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        let rule = "the file must be UTF-8 text";
        sink.push(nowhere(&manifest_name).fault(FaultCode::Syntax, rule));
        return None;
    };
    let source = Source::new(manifest_name, text);
    let templates: BTreeMap<String, Arc<Source>> = files
        .iter()
        .filter(|(path, _)| *path != MANIFEST)
        .filter_map(|(path, bytes)| {
            let text = std::str::from_utf8(bytes).ok()?;
            Some((path.clone(), Source::new(format!("{shown_as}/{path}"), text)))
        })
        .collect();
    let mut component = None;
    document::read(&source, sink, |root| {
        let read = manifest(name, root, templates);
        check_templates(&read, files, sink);
        component = Some(read);
    });
    component
}

fn check_name(name: &str) -> names::Rule {
    if name == "site" || name == "data" {
        return Err("this name is taken: the site's own files and data disks stand under it");
    }
    names::hyphenated(name)
}

fn manifest(name: &str, root: &Table<'_>, templates: BTreeMap<String, Arc<Source>>) -> Component {
    let description = root
        .required("description", "description = \"what it is, in a few words\"")
        .and_then(|item| item.string())
        .map(|text| text.value)
        .unwrap_or_default();
    let requires = root.strings("requires");
    let packages = root.strings("packages");
    for package in &packages {
        if let Err(rule) = names::package(&package.value) {
            root.push(package.spot.fault(FaultCode::BadValue, rule));
        }
    }
    let component = Component {
        name: name.to_owned(),
        description,
        requires,
        packages,
        parameters: parameters(root),
        publish: publish(root),
        resources: resources::read(root),
        templates,
    };
    root.finish();
    component
}

fn checked_identifier(root: &Table<'_>, name: &Located<String>) {
    if let Err(rule) = names::identifier(&name.value) {
        root.push(name.spot.fault(FaultCode::BadValue, rule));
    }
}

fn parameters(root: &Table<'_>) -> BTreeMap<String, Parameter> {
    let Some(table) = root.table("parameters") else { return BTreeMap::new() };
    let mut parameters = BTreeMap::new();
    for (name, item) in table.entries() {
        checked_identifier(root, &name);
        if let Some(parameter) = item.table().and_then(|table| Parameter::declare(&table)) {
            parameters.insert(name.value, parameter);
        }
    }
    parameters
}

fn publish(root: &Table<'_>) -> BTreeMap<String, Text> {
    let Some(table) = root.table("publish") else { return BTreeMap::new() };
    let mut published = BTreeMap::new();
    for (name, item) in table.entries() {
        checked_identifier(root, &name);
        if let Some(text) = item.string() {
            published.insert(name.value, text);
        }
    }
    published
}

/// Checks that the templates named are there and that every template, string and
/// expression can be parsed, used or not.
fn check_templates(component: &Component, files: &ComponentFiles, sink: &FaultSink) {
    for entry in &component.resources.files {
        if let FileContent::Template(name) = &entry.body.content
            && !component.templates.contains_key(&name.value)
        {
            let (rule, hint) = if files.contains_key(&name.value) {
                ("a template must be UTF-8 text", None)
            } else {
                let known: Vec<&str> = component.templates.keys().map(String::as_str).collect();
                let hint = suggestion::did_you_mean_or_list(&name.value, &known);
                ("this file must be in the component's folder", hint)
            };
            sink.push(name.spot.fault(FaultCode::UnknownName, rule).suggest_some(hint));
        }
    }
    for source in component.templates.values() {
        template::check_file(source, sink);
    }
    for text in component.publish.values() {
        template::check_text(text, sink);
    }
    texts(&component.resources, &mut |text| template::check_text(text, sink));
}

/// Shows every template string whose mistakes would stay hidden on nodes where
/// its entry does not count.
fn texts(resources: &Resources, show: &mut dyn FnMut(&Text)) {
    for entry in &resources.files {
        show(&entry.body.path);
        if let FileContent::Text(text) = &entry.body.content {
            show(text);
        }
    }
    for entry in &resources.commands {
        entry.body.run.iter().for_each(&mut *show);
    }
    for entry in &resources.users {
        [&entry.body.name, &entry.body.uid].into_iter().for_each(&mut *show);
    }
    for entry in &resources.units {
        show(&entry.body.name);
    }
    for entry in &resources.checks {
        show(&entry.body.name);
    }
}
