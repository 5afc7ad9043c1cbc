//! Another lock is rolled out, node by node; what does not become healthy goes back; rollback by hand.
//!
//! A lock that is one package shorter is as good as one with other versions: the node's list changes, dpkg is at
//! work, and a health check can depend on what is installed.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::drift::{differences, look};
use crate::lab::{self, Lab, steps};

fn lock_path(lab: &Lab) -> PathBuf {
    lab.home.path().join(format!("sites/{}/site.lock", lab.site))
}

/// The lock without this package in any role.
fn without(lock: &str, package: &str) -> String {
    let reference = format!("\"{package}=");
    let kept = lock.lines().filter(|line| !line.trim_start().starts_with(&reference));
    let shorter: String = kept.map(|line| format!("{line}\n")).collect();
    assert_ne!(shorter.len(), lock.len(), "{package} stands in the lock");
    shorter
}

fn installed(lab: &Lab, node: &str, program: &str) -> bool {
    let script = format!("command -v {program}");
    lab.run(&["exec", node, "--", "sh", "-c", &script]).status.success()
}

fn staying(lab: &Lab, node: &str) -> Value {
    lab::node(&lab.json(&["--json", "status"]), node)["staying"].clone()
}

/// Stages of a node in the order in which they began.
fn stages<'a>(events: &'a [Value], stage: &str) -> Vec<&'a str> {
    let begun = events.iter().map(|event| &event["started"]);
    let begun = begun.filter(|begun| begun["stage"] == stage);
    begun.map(|begun| begun["subject"].as_str().unwrap_or_default()).collect()
}

/// One package leaves both nodes, one node after the other.
pub fn rolled_out(lab: &Lab) {
    let full = fs::read_to_string(lock_path(lab)).expect("a lock");
    fs::write(lock_path(lab), without(&full, "ed")).expect("written");
    let plan = lab.events(&["--json", "up", "--plan", &lab.profile()]);
    assert_eq!(steps(&plan), ["one image", "one update", "two image", "two update"]);
    let reason = plan.iter().find_map(|event| event["plan"]["steps"][1]["reason"].as_str());
    assert_eq!(reason, Some("−ed"), "the plan says what changes");

    lab.text(&["exec", "one", "--", "sh", "-c", "echo before >/root/note"]);
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(stages(&events, "update"), ["one", "two"]);
    for node in ["one", "two"] {
        assert!(!installed(lab, node, "ed"), "{node} still has the package");
        let staying = staying(lab, node);
        assert_eq!(staying["applied_packages"], staying["published_packages"], "{staying}");
        assert!(staying["earlier"]["used"].as_u64() > Some(0), "{staying}");
        let (code, report) = look(lab, node);
        assert_eq!((code, differences(&report)), (0, Vec::new()));
    }
    let again = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(steps(&again), Vec::<String>::new());
}

/// By hand, what was written since is gone, and `up` does not update to the same again unless told so.
pub fn rolled_back_by_hand(lab: &Lab) {
    lab.text(&["exec", "one", "--", "sh", "-c", "echo after >/root/note"]);
    let refused = lab.run(&["rollback", "one"]);
    assert_eq!(refused.status.code(), Some(2), "nobody can answer");
    lab.text(&["rollback", "one", "--yes"]);
    assert!(installed(lab, "one", "ed") && !installed(lab, "two", "ed"));
    assert_eq!(lab.text(&["exec", "one", "--", "cat", "/root/note"]), "before\n");
    assert_eq!(staying(lab, "one")["held"], "it was rolled back by hand");
    let refused = lab.run(&["rollback", "one", "--yes"]);
    assert_eq!(refused.status.code(), Some(2));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("no earlier disk"), "{text}");
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(steps(&events), Vec::<String>::new(), "it is held");
    let told = events.iter().any(|event| {
        event["warning"]["text"].as_str().is_some_and(|text| text.starts_with("one is held"))
    });
    assert!(told, "that it is held is said");

    lab.text(&["rollback", "--discard", "one"]);
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(steps(&events), ["one image", "one update"]);
    assert!(!installed(lab, "one", "ed"));
}

/// A package that a health check needs leaves the first node; it goes back, and the second is not begun.
pub fn unhealthy(lab: &Lab) {
    let good = fs::read_to_string(lock_path(lab)).expect("a lock");
    fs::write(lock_path(lab), without(&good, "tree")).expect("written");
    let pids = lab.machine_pids_but("one");
    let output = lab.run(&["up", "--no-check", "--patience", "5", &lab.profile()]);
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("one could not be updated; it is healthy again"), "{said}");
    assert!(said.contains("not begun: two"), "{said}");
    assert_eq!(lab.machine_pids_but("one"), pids, "the second node was not touched");
    let status = lab.json(&["--json", "status"]);
    for node in ["one", "two"] {
        assert_eq!(lab::node(&status, node)["state"], "running", "{status}");
        assert!(installed(lab, node, "tree"), "{node}");
    }
    // The lock that was good before is what the nodes have: nothing to do.
    fs::write(lock_path(lab), good).expect("written");
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(steps(&events), Vec::<String>::new());
}

/// The daemon dies when the disk is kept and the machine starts anew; the next `up` goes on.
pub fn interrupted(lab: &Lab) {
    let lock = fs::read_to_string(lock_path(lab)).expect("a lock");
    fs::write(lock_path(lab), without(&lock, "less")).expect("written");
    let mut up = lab.spawn(&["--json", "up", "--no-check", &lab.profile()]);
    up.read_until(|event| event["started"]["stage"] == "update");
    lab.kill_daemon();
    assert!(!up.end().success());
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(steps(&events)[..2], ["one image", "one update"]);
    for node in ["one", "two"] {
        assert!(!installed(lab, node, "less"), "{node}");
        assert!(staying(lab, node)["earlier"].is_object());
    }
    // And back from it: the disk is that from before the update which was interrupted.
    lab.text(&["rollback", "one", "--yes"]);
    assert!(installed(lab, "one", "less"));
}
