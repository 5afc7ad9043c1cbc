//! Roles: the shipped ones, the site's own, and what they inherit from each other.

use std::collections::BTreeMap;

use super::declare::DeclaredRole;
use super::layer::Layer;
use crate::fault::{FaultCode, FaultSink, Located};
use crate::suggestion;

/// A role with all it inherits.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub layer: Layer,
    /// The role itself, then what it extends, up to the root.
    pub chain: Vec<String>,
}

/// Puts each role together with those it extends. A role of the site with a
/// shipped one's name extends that, unless it names another.
pub(super) fn resolve(
    shipped: &[DeclaredRole],
    own: &[DeclaredRole],
    sink: &FaultSink,
) -> BTreeMap<String, Role> {
    let known = Known { shipped, own };
    let mut resolved = BTreeMap::new();
    for role in own.iter().chain(shipped) {
        resolve_one(&role.name.value, &known, &mut resolved, sink);
    }
    resolved
}

struct Known<'a> {
    shipped: &'a [DeclaredRole],
    own: &'a [DeclaredRole],
}

/// Which role a name stands for: the site's own hides the shipped one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Own,
    Shipped,
}

impl<'a> Known<'a> {
    fn find(&self, name: &str) -> Option<(Origin, &'a DeclaredRole)> {
        let named = |roles: &'a [DeclaredRole]| roles.iter().find(|role| role.name.value == name);
        let own = named(self.own).map(|role| (Origin::Own, role));
        own.or_else(|| named(self.shipped).map(|role| (Origin::Shipped, role)))
    }

    fn shipped(&self, name: &str) -> Option<&'a DeclaredRole> {
        self.shipped.iter().find(|role| role.name.value == name)
    }

    fn names(&self) -> Vec<&'a str> {
        let all = self.shipped.iter().chain(self.own);
        let mut names: Vec<&str> = all.map(|role| role.name.value.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Walks from a role to its root, then lays the layers on each other from the root up.
fn resolve_one(
    name: &str,
    known: &Known<'_>,
    resolved: &mut BTreeMap<String, Role>,
    sink: &FaultSink,
) {
    if resolved.contains_key(name) {
        return;
    }
    let Some((mut origin, mut role)) = known.find(name) else { return };
    let mut line = vec![(origin, role)];
    loop {
        let next = match (&role.extends, origin) {
            (Some(parent), _) => parent_of(parent, role, known, sink),
            (None, Origin::Own) => {
                known.shipped(&role.name.value).map(|role| (Origin::Shipped, role))
            }
            (None, Origin::Shipped) => None,
        };
        let Some(next) = next else { break };
        let again = |(origin, role): &(Origin, &DeclaredRole)| {
            *origin == next.0 && role.name.value == next.1.name.value
        };
        if line.iter().any(again) {
            if let Some(extends) = &role.extends {
                let way: Vec<&str> =
                    line.iter().map(|(_, role)| role.name.value.as_str()).collect();
                let rule = format!(
                    "roles cannot extend each other in a circle: {} → {}",
                    way.join(" → "),
                    next.1.name.value
                );
                sink.push(extends.spot.fault(FaultCode::Conflict, rule));
            }
            break;
        }
        line.push(next);
        (origin, role) = next;
    }
    let layers = line.iter().rev().map(|(_, role)| &role.layer);
    let layer = layers.fold(Layer::default(), |below, layer| below.under(layer));
    let mut chain: Vec<String> = line.iter().map(|(_, role)| role.name.value.clone()).collect();
    chain.dedup();
    resolved.insert(name.to_owned(), Role { layer, chain });
}

fn parent_of<'a>(
    parent: &Located<String>,
    role: &DeclaredRole,
    known: &Known<'a>,
    sink: &FaultSink,
) -> Option<(Origin, &'a DeclaredRole)> {
    // `[roles.wn] extends = "wn"` names the shipped one.
    if parent.value == role.name.value
        && let Some(shipped) = known.shipped(&parent.value)
    {
        return Some((Origin::Shipped, shipped));
    }
    let found = known.find(&parent.value);
    if found.is_none() {
        let fault = parent.spot.fault(FaultCode::UnknownName, "no such role");
        let hint = suggestion::did_you_mean_or_list(&parent.value, &known.names());
        sink.push(fault.suggest_some(hint));
    }
    found
}
