//! When each health check passed for the first time in this boot. It tells how slow a node is to come up, so an agent that
//! begins anew must not say another time: it is kept in `/run`, which goes with the boot.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::kernel;
use crate::place::Tree;

/// Root's alone; what cannot be read is taken for nothing.
const FILE: &str = "/run/gridgate/since.json";

/// First times, by the checks' names, in milliseconds since the boot.
#[derive(Debug, Default)]
pub(crate) struct Since {
    file: PathBuf,
    times: BTreeMap<String, u64>,
    changed: bool,
}

impl Since {
    /// What is known of this boot.
    pub(crate) fn of_this_boot(tree: &Tree) -> Self {
        let file = tree.host_path(FILE);
        let known = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { file, times: known.unwrap_or_default(), changed: false }
    }

    /// Takes note that a check passes now.
    pub(crate) fn passes(&mut self, check: &str) {
        if !self.times.contains_key(check) {
            self.times.insert(check.to_owned(), kernel::uptime_ms());
            self.changed = true;
        }
    }

    /// When a check passed first; none: not yet.
    pub(crate) fn first(&self, check: &str) -> Option<u64> {
        self.times.get(check).copied()
    }

    /// Writes down what is new. Where that is not possible an agent that begins anew tells later times.
    pub(crate) fn keep(&mut self) {
        if std::mem::take(&mut self.changed)
            && let Err(error) = write(&self.file, &self.times)
        {
            tracing::debug!(%error, "when checks passed first is not kept");
        }
    }
}

fn write(file: &Path, times: &BTreeMap<String, u64>) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_vec(times)?)?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_begins_anew_knows_when_checks_passed_first() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::new(root.path());
        let mut first = Since::of_this_boot(&tree);
        assert_eq!(first.first("ssh"), None);
        first.passes("ssh");
        first.keep();
        let time = first.first("ssh");
        assert!(time.is_some());
        let mut second = Since::of_this_boot(&tree);
        second.passes("ssh");
        second.passes("swap");
        assert_eq!(second.first("ssh"), time);
        assert!(second.first("swap") >= time);
        fs::write(root.path().join("run/gridgate/since.json"), "{").unwrap();
        assert_eq!(Since::of_this_boot(&tree).first("ssh"), None);
    }
}
