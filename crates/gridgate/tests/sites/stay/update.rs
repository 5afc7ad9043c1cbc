//! Another lock is rolled out, node by node; what does not become healthy goes back; rollback by hand; and all of it
//! when the daemon dies in between.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::drift::{differences, look};
use super::package;
use crate::lab::{self, Lab, steps};

pub fn lock_path(lab: &Lab) -> PathBuf {
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

/// What the node's tree says that it is.
fn tree_of(lab: &Lab, node: &str) -> String {
    lab.text(&["exec", node, "--", "tree", "--version"])
}

/// Where the journal of a node's update is.
fn journal(lab: &Lab, node: &str) -> String {
    let path = lab.home.path().join(format!("sites/{}/nodes/{node}/config/update.json", lab.site));
    let json: Value = serde_json::from_slice(&fs::read(path).expect("a journal")).expect("JSON");
    json["state"].as_str().expect("a state").to_owned()
}

/// Runs this until a stage of node one begins, and kills the daemon then; gives where the update was.
fn killed_in(lab: &Lab, stage: &str, arguments: &[&str]) -> String {
    let mut running = lab.spawn(arguments);
    running.read_until(|event| {
        event["started"]["stage"] == stage && event["started"]["subject"] == "one"
    });
    lab.kill_daemon();
    assert!(!running.end().success());
    let state = journal(lab, "one");
    println!("killed when {stage:?} had begun, {state}");
    state
}

/// Both nodes get a package of another version and lose one, one node after the other. The daemon dies while the disk
/// is being kept, and when the machine starts anew; the next `up` goes on.
pub fn rolled_out(lab: &Lab) {
    let full = fs::read_to_string(lock_path(lab)).expect("a lock");
    fs::write(lock_path(lab), without(&full, "ed")).expect("written");
    let before = package::replace(lab, "tree", "99.1", "echo tree 99.1");
    let plan = lab.events(&["--json", "up", "--plan", &lab.profile()]);
    assert_eq!(steps(&plan), ["one image", "one update", "two image", "two update"]);
    let reason = plan.iter().find_map(|event| event["plan"]["steps"][1]["reason"].as_str());
    let wanted = format!("tree {before} → 99.1, −ed");
    assert_eq!(reason, Some(&*wanted), "the plan says what changes");

    lab.text(&["exec", "one", "--", "sh", "-c", "echo before >/root/note"]);
    let up = ["--json", "up", "--no-check", &lab.profile()];
    let state = killed_in(lab, "keep the disk", &up);
    // Where the file system shares blocks, keeping it takes no time.
    assert!(state == "saving" || state == "applying", "{state}");
    assert_eq!(killed_in(lab, "update", &up), "applying");
    let events = lab.events(&up);
    assert_eq!(steps(&events)[..2], ["one image", "one update"]);
    assert_eq!(stages(&events, "update"), ["one", "two"]);
    for node in ["one", "two"] {
        assert!(!installed(lab, node, "ed"), "{node} still has the package");
        assert_eq!(tree_of(lab, node), "tree 99.1\n");
        let staying = staying(lab, node);
        assert_eq!(staying["applied_packages"], staying["published_packages"], "{staying}");
        assert!(staying["earlier"]["used"].as_u64() > Some(0), "{staying}");
        let (code, report) = look(lab, node);
        assert_eq!((code, differences(&report)), (0, Vec::new()));
    }
    let again = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(steps(&again), Vec::<String>::new());
}

/// By hand, what was written since is gone, and `up` does not update to the same again unless told so. The daemon
/// dies on the way; `up` goes on with it, and nothing has failed.
pub fn rolled_back_by_hand(lab: &Lab) {
    lab.text(&["exec", "one", "--", "sh", "-c", "echo after >/root/note"]);
    let refused = lab.run(&["rollback", "one"]);
    assert_eq!(refused.status.code(), Some(2), "nobody can answer");
    let state = killed_in(lab, "put the disk back", &["--json", "rollback", "one", "--yes"]);
    assert_eq!(state, "restoring");
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert!(is_held(&events), "that it is held is said");
    assert!(installed(lab, "one", "ed") && !installed(lab, "two", "ed"));
    assert!(tree_of(lab, "one") != "tree 99.1\n" && tree_of(lab, "two") == "tree 99.1\n");
    assert_eq!(lab.text(&["exec", "one", "--", "cat", "/root/note"]), "before\n");
    assert_eq!(staying(lab, "one")["held"], "it was rolled back by hand");
    let refused = lab.run(&["rollback", "one", "--yes"]);
    assert_eq!(refused.status.code(), Some(2));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("no earlier disk"), "{text}");
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(steps(&events), Vec::<String>::new(), "it is held");
    assert!(is_held(&events), "that it is held is said");

    lab.text(&["rollback", "--discard", "one"]);
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(steps(&events), ["one image", "one update"]);
    assert!(!installed(lab, "one", "ed"));
}

fn is_held(events: &[Value]) -> bool {
    let warnings = events.iter().filter_map(|event| event["warning"]["text"].as_str());
    warnings.into_iter().any(|text| text.starts_with("one is held"))
}

/// A package that a health check needs has a version that does not work; the first node goes back, also when the
/// daemon dies meanwhile, and the second is not begun.
pub fn unhealthy(lab: &Lab) {
    let good = fs::read_to_string(lock_path(lab)).expect("a lock");
    package::replace(lab, "tree", "99.2", "exit 1");
    let pids = lab.machine_pids_but("one");
    let up = ["--json", "up", "--no-check", "--patience", "5", &lab.profile()];
    assert_eq!(killed_in(lab, "put the disk back", &up), "restoring");
    let output = lab.run(&["up", "--no-check", &lab.profile()]);
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("one could not be updated; it is healthy again"), "{said}");
    assert!(said.contains("not begun: two"), "{said}");
    assert_eq!(lab.machine_pids_but("one"), pids, "the second node was not touched");
    let status = lab.json(&["--json", "status"]);
    for node in ["one", "two"] {
        assert_eq!(lab::node(&status, node)["state"], "running", "{status}");
        assert_eq!(tree_of(lab, node), "tree 99.1\n");
    }
    // The lock that was good before is what the nodes have: nothing to do.
    fs::write(lock_path(lab), good).expect("written");
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(steps(&events), Vec::<String>::new());
}
