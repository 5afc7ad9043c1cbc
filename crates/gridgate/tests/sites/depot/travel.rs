//! A site's software leaves as one file and comes up where there is no network.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::{flip, in_node, packages, report};
use crate::lab::{self, Lab};

pub fn carried_out(lab: &Lab, file: &Path) {
    let done = lab.run(&["--json", "depot", "export", &file.display().to_string()]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let summary = report(&done)["summary"].to_string();
    assert!(summary.contains("trixie"), "{summary}");
}

pub fn refused(lab: &Lab, file: &Path) {
    let altered = file.with_extension("altered");
    fs::copy(file, &altered).expect("a copy");
    flip(&altered);
    let done = lab.run(&["depot", "import", &altered.display().to_string()]);
    assert_eq!(done.status.code(), Some(2), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(packages(lab).is_empty());
    // The next chapter's daemon is to be born without a network.
    lab.run(&["daemon", "stop"]);
}

/// Runs gridgate, and with it the daemon that it starts, where there is no interface but an idle loopback.
fn apart(lab: &Lab, arguments: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--net", "--", env!("CARGO_BIN_EXE_gridgate")]).args(arguments);
    command.env("GRIDGATE_HOME", lab.home.path()).output().expect("unshare starts")
}

pub fn carried_in(lab: &Lab, file: &Path) {
    let imported = apart(lab, &["depot", "import", &file.display().to_string()]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let interfaces = fs::read_to_string(format!("/proc/{}/net/dev", lab.daemon_pid()));
    let interfaces = interfaces.expect("the daemon's interfaces");
    let names = interfaces.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
    assert_eq!(names.collect::<Vec<_>>(), ["lo"], "the daemon has no way out");

    let profile = lab.home.path().join("imports/depot/site.toml");
    let up = apart(lab, &["--json", "up", "--no-check", &profile.display().to_string()]);
    let text = String::from_utf8_lossy(&up.stdout);
    assert!(up.status.success(), "{text}{}", String::from_utf8_lossy(&up.stderr));
    let last: Value = serde_json::from_str(text.lines().last().expect("events")).expect("JSON");
    assert_eq!(lab::node(&last["done"]["status"], "one")["state"], "running");
    // The node's apt has Debian's signed indexes here too.
    in_node(lab, "apt-get -q update && apt-cache policy tree | grep -q Candidate");
}
