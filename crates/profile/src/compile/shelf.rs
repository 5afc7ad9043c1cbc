//! Resources of one kind, and what happens when two components want the same one:
//! equal wishes are one, different ones a fault that names both.

use std::collections::BTreeMap;

use gridgate_protocol::node_profile as protocol;
use serde::Serialize;

use super::{Port, SecretSpec};
use crate::fault::{FaultCode, FaultSink, Spot};

/// A resource that a component asks for.
pub(super) trait Resource: Clone + Serialize {
    /// The component that asks.
    fn component(&self) -> &str;
}

macro_rules! resources {
    ($($type:ty),*) => {$(
        impl Resource for $type {
            fn component(&self) -> &str {
                &self.component
            }
        }
    )*};
}

resources!(
    protocol::Group,
    protocol::User,
    protocol::Directory,
    protocol::File,
    protocol::Link,
    protocol::Certificate,
    protocol::Command,
    protocol::Unit,
    protocol::HealthCheck,
    Port
);

/// Resources of one kind in the order they came, each key once.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    items: Vec<(T, Spot)>,
    index: BTreeMap<String, usize>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { items: Vec::new(), index: BTreeMap::new() }
    }
}

impl<T: Resource> Shelf<T> {
    /// What stands under a key.
    pub(super) fn get(&self, key: &str) -> Option<&(T, Spot)> {
        self.items.get(*self.index.get(key)?)
    }

    /// What stands under a key, to be changed.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut T> {
        self.items.get_mut(*self.index.get(key)?).map(|(item, _)| item)
    }

    /// Puts a resource under a new key.
    pub(super) fn push(&mut self, key: String, item: T, spot: &Spot) {
        self.index.insert(key, self.items.len());
        self.items.push((item, spot.clone()));
    }

    /// The resources in the order they came.
    pub(super) fn into_items(self) -> Vec<T> {
        self.items.into_iter().map(|(item, _)| item).collect()
    }

    /// The resources by key.
    pub(super) fn into_sorted(self) -> Vec<T> {
        let mut items: Vec<Option<T>> =
            self.items.into_iter().map(|(item, _)| Some(item)).collect();
        self.index.into_values().filter_map(|at| items[at].take()).collect()
    }
}

/// Secrets by name, each with the component that declares it and where.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    by_name: BTreeMap<String, (SecretSpec, String, Spot)>,
}

impl Secrets {
    /// Takes a secret; a second declaration must agree with the first.
    pub(super) fn add(
        &mut self,
        spec: &SecretSpec,
        component: &str,
        spot: &Spot,
        sink: &FaultSink,
    ) {
        let new = || (spec.clone(), component.to_owned(), spot.clone());
        let (first, by, first_spot) = self.by_name.entry(spec.name.clone()).or_insert_with(new);
        if first != spec {
            let rule = format!(
                "{} and {} declare the secret {} differently",
                who(by),
                who(component),
                spec.name
            );
            let fault = spot.fault(FaultCode::Conflict, rule).found_nothing();
            sink.push(fault.related(first_spot, "the other stands at"));
        }
    }

    /// Takes all of another's.
    pub(super) fn add_all(&mut self, others: &Secrets, sink: &FaultSink) {
        for (spec, component, spot) in others.by_name.values() {
            self.add(spec, component, spot, sink);
        }
    }

    /// Whether a secret of this name is declared.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The secrets, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &SecretSpec> {
        self.by_name.values().map(|(spec, _, _)| spec)
    }
}

/// Takes a resource under a key: the first stays; a second must agree with it.
pub(super) fn add<T: Resource>(
    shelf: &mut Shelf<T>,
    key: String,
    item: T,
    spot: &Spot,
    what: &str,
    (node, sink): (&str, &FaultSink),
) {
    let Some((first, first_spot)) = shelf.get(&key) else {
        shelf.push(key, item, spot);
        return;
    };
    let differences = differences(first, &item);
    if differences.is_empty() {
        return;
    }
    let rule = format!(
        "{} and {} both set {what}, and differ in: {}",
        who(first.component()),
        who(item.component()),
        differences.join(", ")
    );
    let fault = spot.fault(FaultCode::Conflict, rule).found_nothing();
    sink.push(fault.related(first_spot, "the other stands at").on_node(node));
}

/// A component as faults name it.
pub(super) fn who(component: &str) -> String {
    if component == "site" {
        "the site profile".to_owned()
    } else {
        format!("component `{component}`")
    }
}

/// The fields in which two resources differ, with short values.
fn differences<T: Serialize>(a: &T, b: &T) -> Vec<String> {
    let (Ok(serde_json::Value::Object(a)), Ok(serde_json::Value::Object(b))) =
        (serde_json::to_value(a), serde_json::to_value(b))
    else {
        return Vec::new();
    };
    let different = |key: &&String| *key != "component" && a.get(*key) != b.get(*key);
    let show = |key: &String| {
        let value = |side: &serde_json::Map<String, serde_json::Value>| match side.get(key) {
            Some(serde_json::Value::Number(mode)) if key == "mode" => {
                format!("{:04o}", mode.as_u64().unwrap_or_default())
            }
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let (a, b) = (value(&a), value(&b));
        if a.len() + b.len() > 60 { key.clone() } else { format!("{key} ({a}, {b})") }
    };
    a.keys().filter(different).map(show).collect()
}
