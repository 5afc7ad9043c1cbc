//! What the sites of a home need of its depot, so that a sweep leaves it there.
//!
//! A node that was rolled back, or can be, has packages that no lock may name any more: they stand in the node's own
//! list and in the journal of its update. What cannot be read stops a sweep, since what it needs is not known.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use gridgate_depot::{Depot, Lock, References};
use gridgate_protocol::site_api::ErrorKind;

use crate::failure::{Failure, Hint, caused, failure};
use crate::home::{Home, NodeDir, SiteDir};
use crate::images::{self, Installed};
use crate::observe::{self, Found};
use crate::rollout::Journal;
use crate::site::Site;
use crate::vmms::Vmms;

/// What all sites of this home need. Blocking.
///
/// # Errors
/// When it cannot be told of a site.
pub fn all(home: &Home) -> Result<References, Failure> {
    let mut needed = References::default();
    for folder in [home.sites(), home.imports()] {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            of_site(&home.site(&name), &mut needed)?;
        }
    }
    Ok(needed)
}

fn of_site(dir: &SiteDir, needed: &mut References) -> Result<(), Failure> {
    needed.locks.extend(images::lock(dir)?);
    let earlier = fs::read_dir(dir.earlier_locks()).into_iter().flatten().flatten();
    for path in earlier.map(|entry| entry.path()) {
        let text = fs::read_to_string(&path)
            .map_err(|e| caused(ErrorKind::Host, "an earlier lock could not be read", &e))?;
        let lock = Lock::parse(&text).map_err(|e| {
            caused(ErrorKind::Input, format!("{} is damaged", path.display()), &e)
                .hint("restore or remove it: what it needs is not known")
        })?;
        needed.locks.push(lock);
    }
    for entry in fs::read_dir(dir.nodes()).into_iter().flatten().flatten() {
        of_node(&dir.node(&entry.file_name().to_string_lossy()), needed)?;
    }
    Ok(())
}

fn of_node(node: &NodeDir, needed: &mut References) -> Result<(), Failure> {
    let now = Installed::load(node);
    if now.is_none() && node.packages().exists() {
        let what = format!("{} cannot be read", node.packages().display());
        return Err(failure(ErrorKind::Host, what)
            .hint("`gridgate up` writes it anew; what the node needs is not known until then"));
    }
    needed.images.extend(now.iter().map(|installed| installed.image.clone()));
    // Its disk is its own way back: the image that it was made of is not needed for it.
    let before = Journal::load(node)?.map(|journal| journal.from.installed);
    let lists = now.into_iter().chain(before).map(|installed| installed.list);
    needed.packages.extend(lists.flat_map(|list| list.packages).map(|package| package.sha256));
    let Found::Running(machine, _) = observe::machine(node) else { return Ok(()) };
    let spec = machine
        .spec()
        .map_err(|e| caused(ErrorKind::Node, "a running machine's files are not known", &e))?;
    // Every path that stands in it counts, whatever the VMM calls it.
    paths(&serde_json::to_value(spec).unwrap_or_default(), &mut needed.in_use);
    Ok(())
}

/// The images that a site's next `up` would want.
pub fn wanted_images(site: &Site, depot: &Depot) -> BTreeSet<String> {
    let Some(wanted) = site.wanted() else { return BTreeSet::new() };
    let vmms = Vmms::present(depot, &site.dir);
    let nodes = wanted.compiled.nodes.iter().map(|node| node.name.as_str());
    let key = |node| images::explain(depot, &site.dir, &wanted, &vmms, node)?.key;
    nodes.filter_map(key).collect()
}

fn paths(value: &serde_json::Value, found: &mut Vec<PathBuf>) {
    match value {
        serde_json::Value::String(text) if text.starts_with('/') => found.push(text.into()),
        serde_json::Value::Array(values) => values.iter().for_each(|value| paths(value, found)),
        serde_json::Value::Object(values) => values.values().for_each(|value| paths(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::home::write_atomic;

    #[test]
    fn finds_every_path_of_a_machine() {
        let spec = json!({ "vmm": { "uml": { "root": "/d/vmm/x/root" } },
            "disks": [{ "path": "/s/disk.img" }], "name": "ce", "memory": 1 });
        let mut found = Vec::new();
        paths(&spec, &mut found);
        found.sort();
        assert_eq!(found, [PathBuf::from("/d/vmm/x/root"), PathBuf::from("/s/disk.img")]);
    }

    fn installed(packages: &[&str]) -> serde_json::Value {
        let package = |name: &&str| json!({ "name": name, "version": "1", "architecture": "all", "sha256": name, "size": 1 });
        let list: Vec<_> = packages.iter().map(package).collect();
        json!({ "names": [], "image": packages[0], "list": { "packages": list } })
    }

    /// A node that was rolled back when its lock is another by now, and one that was updated and can go back.
    #[test]
    fn what_a_node_goes_back_to_is_needed_though_no_lock_names_it() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let home = Home::new(folder.path());
        let site = home.site("s");
        let write = |path: PathBuf, value: serde_json::Value| {
            write_atomic(&path, value.to_string().as_bytes())
        };
        let journal = |state: &str, from: &[&str]| {
            json!({ "state": state, "from": { "installed": installed(from), "published": null },
                "to": { "packages": "", "profile": "" }, "at": "", "why": null })
        };
        write(site.node("held").packages(), installed(&["h1", "h2"]))?;
        write(site.node("held").update(), journal("held", &["h1", "h2"]))?;
        write(site.node("updated").packages(), installed(&["new"]))?;
        write(site.node("updated").update(), journal("updated", &["old"]))?;
        let needed = all(&home).expect("all of it can be read");
        assert_eq!(needed.packages, ["h1", "h2", "new", "old"].map(str::to_owned).into());
        assert_eq!(needed.images, ["h1", "new"].map(str::to_owned).into());
        std::fs::write(site.node("held").update(), "half a jour")?;
        let refused = all(&home).expect_err("what the node goes back to is not known");
        assert!(refused.what.contains("update.json"), "{}", refused.what);
        Ok(())
    }
}
