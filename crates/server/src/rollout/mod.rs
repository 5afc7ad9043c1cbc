//! Rolling out what the lock holds, node by node, with a way back.
//!
//! One node after the other: worker nodes, user interfaces, whatever else there is, storage, computing elements,
//! since a node that others need goes after those that only need. Before the next node begins, the updated one and
//! every other that was healthy must be healthy. One that is not within its patience is rolled back, and the
//! roll-out ends there.
//!
//! ```text
//!              stop, copy the disk      publish, start, wait         healthy
//! (no journal) ──▶ Saving ────────────▶ Applying ───────────────────▶ Updated ──next update──▶ (earlier disk goes)
//!                    ▲  │ killed           │  │ killed: goes on          │
//!                    └──┘ begins anew      │  └──▶ Applying              │ `gridgate rollback`
//!                                          │ failed, not healthy         │
//!                                          ▼                             │
//!                                      Restoring ◀───────────────────────┘
//!                                          │ stop, disk back, packages and profile back, start, wait
//!                                          ▼
//!                                        Held: not updated to the same again; another lock or profile ends it
//! ```
//!
//! The journal is written before each arrow is gone along, and each arrow can be gone along twice.

mod back;
mod forward;
mod journal;

pub use back::{discard, rollback};
pub use forward::{run, tell_held};
pub use journal::{Journal, State};

use gridgate_profile::CompiledNode;
use gridgate_protocol::agent_api::PackageList;

use gridgate_protocol::site_api::ErrorKind;

use crate::failure::{Failure, caused};
use crate::home::NodeDir;
use crate::images::Installed;

/// What the lock wants of a node that has other packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Why the node must be updated, in words; none when it need not.
    pub update: Option<String>,
    /// Why it is held at what it was before this very change, if it is.
    pub held: Option<String>,
}

/// Compares a node with the lock and its journal. Blocking.
pub fn due(
    dir: &NodeDir,
    node: &CompiledNode,
    locked: Option<&PackageList>,
) -> Result<Due, Failure> {
    let journal = Journal::load(dir)?;
    if journal.as_ref().is_some_and(Journal::unfinished) {
        return Ok(Due { update: Some("an update was interrupted".into()), held: None });
    }
    let had = Installed::load(dir).filter(|had| had.fits(node));
    let Some((had, locked)) = had.as_ref().zip(locked) else { return Ok(Due::default()) };
    let same = |journal: &Journal| {
        journal.to.packages == locked.fingerprint() && journal.to.profile == node.profile.version()
    };
    let held = journal.filter(|journal| journal.state == State::Held && same(journal));
    if let Some(held) = held {
        return Ok(Due { update: None, held: Some(held.why.unwrap_or_default()) });
    }
    Ok(Due { update: changes(&had.list, locked), held: None })
}

/// Ends that a node is held, when something else is wanted of it, and forgets a way back that a new disk has made
/// useless. Blocking, but short.
pub fn obsolete(dir: &NodeDir) -> Result<(), Failure> {
    let gone = match Journal::load(dir)? {
        Some(journal) => journal.state == State::Held || !dir.disk().exists(),
        None => false,
    };
    if !gone {
        return Ok(());
    }
    std::fs::remove_file(dir.update())
        .map_err(|e| caused(ErrorKind::Host, "the journal of an update could not be removed", &e))
}

/// Changes named in a plan's reason; more are only counted.
const NAMED: usize = 4;

/// What one list has that another has not, in words; none when they are equal.
fn changes(from: &PackageList, to: &PackageList) -> Option<String> {
    let version = |list: &PackageList, name: &str| {
        let found = list.packages.iter().find(|package| package.name == name);
        found.map(|package| (package.version.clone(), package.sha256.clone()))
    };
    let mut words = Vec::new();
    for package in &to.packages {
        let now = (package.version.clone(), package.sha256.clone());
        match version(from, &package.name) {
            None => words.push(format!("+{} {}", package.name, package.version)),
            Some(before) if before != now => {
                words.push(format!("{} {} → {}", package.name, before.0, package.version));
            }
            Some(_) => {}
        }
    }
    let gone = from.packages.iter().filter(|package| version(to, &package.name).is_none());
    words.extend(gone.map(|package| format!("−{}", package.name)));
    let more = words.len().saturating_sub(NAMED);
    words.truncate(NAMED);
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    (!words.is_empty()).then(|| words.join(", "))
}

#[cfg(test)]
mod tests;
