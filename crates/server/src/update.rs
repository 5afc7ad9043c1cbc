//! `update`: moves a site's lock to what the archive has now. Images, disks and nodes are not touched: the
//! next `up` rolls it out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use gridgate_depot::Change;
use gridgate_protocol::depot_api::{PackageChange, UpdateReport, UpdateRequest};
use gridgate_protocol::site_api::{ErrorKind, Event};

use crate::failure::{Failure, Hint, caused, failure};
use crate::home::{SiteDir, write_atomic};
use crate::images::{self, Reporter};
use crate::site::Site;
use crate::task::Task;
use crate::vmms::Vmms;
use crate::wanted::Wanted;

/// Resolves anew, says what changes, and writes the new lock unless it is only asked for. Blocking. Says
/// whether the lock was changed.
pub fn run(
    site: &Site,
    wanted: &Wanted,
    request: &UpdateRequest,
    task: &Arc<Task>,
) -> Result<bool, Failure> {
    let old = images::lock(&site.dir)?.ok_or_else(|| {
        failure(ErrorKind::NotFound, format!("{} has no lock yet", site.name))
            .hint("`gridgate up` makes it with the first images")
    })?;
    let depot = images::depot(&site.home.depot())?;
    let flag = request.mirror.as_deref();
    let mirrors = images::mirrors(flag, wanted.site.mirror.as_deref(), &request.environment)?;
    let (requests, nodes) = images::requests(wanted, &Vmms::default());
    let updated = depot
        .update(&mirrors, &requests, &old, &Reporter::new(task.clone()))
        .map_err(|e| images::build_failure(&e, wanted))?;
    let mut report = UpdateReport {
        changes: updated.changes.into_iter().map(|change| told(change, &nodes)).collect(),
        kept: None,
        written: false,
    };
    if !request.plan_only && updated.lock != old {
        report.kept = Some(keep(&site.dir)?);
        write(&site.dir.lock(), updated.lock.to_text().as_bytes())?;
        report.written = true;
    }
    let written = report.written;
    task.emit(Event::Update(report));
    Ok(written)
}

/// A change with the nodes that it is for; a kernel's is for whoever is started with it.
fn told(change: Change, nodes: &BTreeMap<String, Vec<String>>) -> PackageChange {
    let Change { name, from, to, security, sets } = change;
    let of = |set: &String| nodes.get(set).cloned().unwrap_or_default();
    let tools = sets.iter().filter(|set| !nodes.contains_key(*set)).cloned().collect();
    let nodes: BTreeSet<String> = sets.iter().flat_map(of).collect();
    PackageChange { name, from, to, security, nodes: nodes.into_iter().collect(), tools }
}

/// Keeps the present lock beside the earlier ones; gives its new path.
fn keep(dir: &SiteDir) -> Result<PathBuf, Failure> {
    let text = std::fs::read(dir.lock())
        .map_err(|e| caused(ErrorKind::Host, "the site's lock could not be read", &e))?;
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ");
    let path = dir.earlier_locks().join(format!("{now}.lock"));
    write(&path, &text)?;
    Ok(path)
}

fn write(path: &std::path::Path, bytes: &[u8]) -> Result<(), Failure> {
    write_atomic(path, bytes).map_err(|e| {
        caused(ErrorKind::Host, format!("{} could not be written", path.display()), &e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_nodes_a_change_is_for() {
        let nodes = BTreeMap::from([
            ("wn".to_owned(), vec!["wn1".to_owned(), "wn2".to_owned()]),
            ("ce".to_owned(), vec!["ce".to_owned()]),
        ]);
        let change = Change {
            name: "libc6".into(),
            from: Some("1".into()),
            to: Some("2".into()),
            security: true,
            sets: ["wn", "ce", "uml"].map(str::to_owned).into(),
        };
        let told = told(change, &nodes);
        assert_eq!(told.nodes, ["ce", "wn1", "wn2"]);
        assert_eq!(told.tools, ["uml"]);
    }
}
