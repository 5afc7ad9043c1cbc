//! Moves a lock to what the archive has now, and says package by package what that changes.
//!
//! ```text
//! archive ─index→ base, roles (apt chooses), kernel ─→ new lock ─compare→ changes
//!                                                      old lock ─┘
//! ```
//!
//! No package of a role is fetched and no image is built: a lock is cheap to make and to throw away.

use std::collections::{BTreeMap, BTreeSet};

use crate::archive::control::paragraphs;
use crate::lock::{Lock, PinnedPackage};

/// What an update comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    /// The new lock.
    pub lock: Lock,
    /// What it changes; empty when the old one is as new as the archive.
    pub changes: Vec<Change>,
}

/// One package in another version, come or gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Debian package name.
    pub name: String,
    /// The version before; none when it is added.
    pub from: Option<String>,
    /// The version after; none when it is removed.
    pub to: Option<String>,
    /// Whether the new version comes from the security archive.
    pub security: bool,
    /// The sets that it changes: roles, `uml`, `linux`, `qemu`.
    pub sets: BTreeSet<String>,
}

/// A package by name, before and after.
type Step<'l> = (&'l str, Option<&'l PinnedPackage>, Option<&'l PinnedPackage>);

/// What differs between two locks. `security` holds the SHA-256 of every package in the security archive.
pub fn compare(old: &Lock, new: &Lock, security: &BTreeSet<String>) -> Vec<Change> {
    let mut changes: BTreeMap<Step<'_>, BTreeSet<String>> = BTreeMap::new();
    let (before, after) = (sets(old), sets(new));
    for set in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        let (before, after) = (before.get(set), after.get(set));
        let names = before.iter().chain(&after).flat_map(|packages| packages.keys());
        for name in names.collect::<BTreeSet<_>>() {
            let find = |packages: Option<&BTreeMap<&'_ str, _>>| packages?.get(*name).copied();
            let (from, to) = (find(before), find(after));
            if from != to {
                changes.entry((*name, from, to)).or_default().insert((*set).to_owned());
            }
        }
    }
    let change = |((name, from, to), sets): (Step<'_>, _)| Change {
        name: name.to_owned(),
        from: from.map(|package| package.version.clone()),
        to: to.map(|package| package.version.clone()),
        security: to.is_some_and(|package| security.contains(&package.sha256)),
        sets,
    };
    changes.into_iter().map(change).collect()
}

/// The packages of each set by name.
fn sets(lock: &Lock) -> BTreeMap<&str, BTreeMap<&str, &PinnedPackage>> {
    fn by_name(packages: &[PinnedPackage]) -> BTreeMap<&str, &PinnedPackage> {
        packages.iter().map(|package| (package.name.as_str(), package)).collect()
    }
    let roles = lock.roles.iter().map(|(name, role)| (name.as_str(), by_name(&role.packages)));
    let tools = [("uml", &lock.uml), ("linux", &lock.linux), ("qemu", &lock.qemu)];
    roles.chain(tools.map(|(name, packages)| (name, by_name(packages)))).collect()
}

/// The SHA-256 of every package in an index's text.
pub(crate) fn hashes(index: &str) -> BTreeSet<String> {
    paragraphs(index).filter_map(|p| p.get("SHA256").map(str::to_ascii_lowercase)).collect()
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
