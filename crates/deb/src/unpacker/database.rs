//! dpkg's database below `/var/lib/dpkg`: what it knows of paths and triggers, and what it is told of packages.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::time::{Duration, UNIX_EPOCH};

use super::package::{ControlFile, Package};
use super::place::Root;

const STATUS: &str = "/var/lib/dpkg/status";
const INFO: &str = "/var/lib/dpkg/info";
const TRIGGERS: &str = "/var/lib/dpkg/triggers";

/// Format of the folder `info`.
const FORMAT: &[u8] = b"1\n";

/// What is known before any package is unpacked.
#[derive(Debug)]
pub(super) struct Known {
    diverted: HashSet<Vec<u8>>,
    overridden: HashSet<Vec<u8>>,
    /// Paths below which a new file activates a trigger of that name.
    watched: Vec<Vec<u8>>,
}

impl Known {
    pub(super) fn read(root: &Root) -> io::Result<Self> {
        let lines = |path: &str| {
            let text = root.read(path)?;
            let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            Ok::<_, io::Error>(lines.map(<[u8]>::to_vec).collect::<Vec<_>>())
        };
        // Three lines each: a path, where it goes, whose package's own it is.
        let diverted = lines("/var/lib/dpkg/diversions")?;
        let diverted = diverted.chunks(3).flat_map(|one| one.iter().take(2).cloned()).collect();
        // User, group, mode, path.
        let overridden = lines("/var/lib/dpkg/statoverride")?;
        let path = |line: &Vec<u8>| line.splitn(4, |byte| *byte == b' ').nth(3).map(<[u8]>::to_vec);
        let overridden = overridden.iter().filter_map(path).collect();
        // A path and a package.
        let watched = lines(&format!("{TRIGGERS}/File"))?;
        let path = |line: &Vec<u8>| {
            line.iter().rposition(|byte| *byte == b' ').map(|at| line[..at].to_vec())
        };
        let watched = watched.iter().filter_map(path).collect();
        Ok(Self { diverted, overridden, watched })
    }

    /// Why a path is nothing for us, if so.
    pub(super) fn special(&self, path: &[u8]) -> Option<&'static str> {
        if self.diverted.contains(path) {
            return Some("a path of it is diverted");
        }
        self.overridden.contains(path).then_some("a path of it has another owner or mode here")
    }

    /// Adds the triggers that a new path activates.
    pub(super) fn activate(&self, path: &[u8], triggers: &mut BTreeSet<String>) {
        for watched in &self.watched {
            let below = path.strip_prefix(&watched[..]);
            if below.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")) {
                triggers.insert(String::from_utf8_lossy(watched).into_owned());
            }
        }
    }
}

/// Writes what dpkg keeps of a package beside its state.
pub(super) fn write_info(root: &Root, package: &Package, list: &[u8]) -> io::Result<()> {
    let stem = package.stem();
    root.replace(&format!("{INFO}/{stem}.list"), 0o644, list)?;
    for ControlFile { name, mode, modified, content } in &package.files {
        let file = root.replace(&format!("{INFO}/{stem}.{name}"), *mode, content)?;
        file.set_modified(UNIX_EPOCH + Duration::from_secs(*modified))?;
    }
    Ok(())
}

/// Adds packages' paragraphs to the status file, and triggers to those that nobody has looked at yet.
pub(super) fn add<'a>(
    root: &Root,
    status: impl Iterator<Item = &'a String>,
    triggers: &BTreeSet<String>,
) -> io::Result<()> {
    let mut text = root.read(STATUS)?;
    if !text.is_empty() && !text.ends_with(b"\n\n") {
        text.push(b'\n');
    }
    text.extend(status.flat_map(|paragraph| paragraph.bytes()));
    root.ensure_folder(TRIGGERS)?;
    let pending = format!("{TRIGGERS}/Unincorp");
    let mut waiting = root.read(&pending)?;
    // `-`: no package waits until the trigger has been processed.
    waiting.extend(triggers.iter().flat_map(|name| format!("{name} -\n").into_bytes()));
    root.replace(&pending, 0o644, &waiting)?;
    root.replace(&format!("{INFO}/format"), 0o644, FORMAT)?;
    // The state last: with it dpkg relies on all the rest.
    root.replace(STATUS, 0o644, &text).map(drop)
}
