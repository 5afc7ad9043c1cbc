//! How the node's packages differ from the locked list, and, where that is asked for, how the packages' files
//! differ from the sums that they brought.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gridgate_protocol::agent_api::LockedPackage;
use gridgate_protocol::drift::Difference;

use super::{ApplyError, Effect, Session};
use crate::process::Call;

/// Reading every file of a large node takes minutes.
const VERIFY_LIMIT: Duration = Duration::from_secs(1800);

/// Kept of the list of files that differ, bytes.
const VERIFY_KEEP: usize = 1 << 20;

/// Notes packages that are missing, of another version, or that nobody asked for.
pub(super) fn versions(
    session: &mut Session<'_>,
    closure: &[LockedPackage],
    installed: &BTreeMap<String, String>,
) {
    for package in closure {
        let found = installed.get(&package.name);
        session.resource("package", &package.name, "", |session| {
            let difference = match found {
                Some(version) if *version == package.version => return Ok(Effect::Unchanged),
                Some(version) => Difference::new("version", version, &package.version),
                None => Difference::new("presence", "not installed", &package.version),
            };
            session.note(difference);
            Ok(Effect::Changed)
        });
    }
    for name in extra(closure, installed) {
        session.resource("package", &name, "", |session| {
            let version = installed.get(&name).cloned().unwrap_or_default();
            session.note(Difference::new("presence", version, "not installed"));
            Ok(Effect::Changed)
        });
    }
}

/// Installed packages that the locked list does not have.
pub(super) fn extra(
    closure: &[LockedPackage],
    installed: &BTreeMap<String, String>,
) -> Vec<String> {
    let locked: BTreeSet<&str> = closure.iter().map(|package| package.name.as_str()).collect();
    installed.keys().filter(|name| !locked.contains(name.as_str())).cloned().collect()
}

/// Has dpkg compare the packages' files with their sums; files that the profile keeps are left out, since
/// they are compared with the profile.
pub(super) fn files(session: &mut Session<'_>) {
    let mut call = Call::new(&["dpkg", "--verify"], VERIFY_LIMIT);
    call.keep = VERIFY_KEEP;
    let done = match session.tools.system.run(&call) {
        Ok(done) => done,
        Err(source) => {
            let error = ApplyError::Start { program: "dpkg".into(), source };
            session.conclude("package-file", "*", "", Err(error));
            return;
        }
    };
    let profile = session.profile;
    let kept: BTreeSet<&str> = profile
        .files
        .iter()
        .map(|file| file.path.as_str())
        .chain(profile.links.iter().map(|link| link.path.as_str()))
        .collect();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    for (path, difference) in text.lines().filter_map(verified) {
        if !kept.contains(path) {
            session.note(difference);
            session.conclude("package-file", path, "", Ok(Effect::Changed));
        }
    }
}

/// A line of `dpkg --verify`, as rpm prints it: nine letters or `missing`, perhaps `c` for a configuration
/// file, the path, perhaps why.
fn verified(line: &str) -> Option<(&str, Difference)> {
    let start = line.find(" /")?;
    let path = line[start + 1..].trim_end();
    let path = path.split_once(" (").map_or(path, |(path, _)| path);
    if !line.starts_with("missing") {
        return Some((path, Difference::hidden("content")));
    }
    // The image is built without them: see the depot's list of what it leaves out.
    let left_out = ["/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/info/"];
    let left_out = left_out.iter().any(|folder| path.starts_with(folder));
    (!left_out).then(|| (path, Difference::new("presence", "missing", "file")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dpkgs_lines_are_understood() {
        let (path, difference) = verified("??5?????? c /etc/ssh/ssh config").unwrap();
        assert_eq!((path, difference.what.as_str()), ("/etc/ssh/ssh config", "content"));
        let (path, difference) = verified("missing     /usr/bin/tree").unwrap();
        assert_eq!((path, difference.what.as_str()), ("/usr/bin/tree", "presence"));
        assert!(verified("missing     /usr/share/doc/tree/copyright").is_none());
        let (path, _) = verified("missing     /usr/bin/x (Permission denied)").unwrap();
        assert_eq!(path, "/usr/bin/x");
        assert!(verified("").is_none());
    }
}
