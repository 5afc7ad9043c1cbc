//! A node installs itself in a real machine: from an empty disk, over an old one, over a stranger's, with the daemon killed
//! on the way and the machine in every stage, with damage in the depot, by either method. Needs root and the Debian
//! archive. One story; the chapters are named in the output.

mod methods;
mod stages;
mod strangers;

use std::fs;

use crate::lab::{self, Lab, steps};
use crate::traces;
use serde_json::Value;
use stages::IMAGE;

const PROFILE: &str = r#"
[site]
name = "install-t"
domain = "install.test"

[network]
prefix = "198.51.100.0/24"

[roles.plain]
extends = "base"
packages = ["tree"]

[nodes.one]
role = "plain"
disk = "2 GiB"
data = [{ name = "store", size = "64 MiB", mount = "/srv/store" }]
"#;

#[test]
fn a_node_installs_itself() {
    let lab = Lab::new("install-t", PROFILE);
    lab.chapter("an empty disk becomes a node", || birth(&lab));
    lab.chapter("up finds nothing to do", || unchanged(&lab));
    lab.chapter("what cannot be is said before the node is touched", || refusals(&lab));
    lab.chapter("a second node, its machine killed in each stage, its disk a stranger's", || {
        strangers::killed_in_each_stage_by_image(&lab);
    });
    lab.chapter("a package whose script fails is named", || methods::failing_script(&lab, "two"));
    lab.chapter("a piece is damaged, the daemon is killed, a data partition survives", || {
        over_an_old_disk(&lab);
    });
    lab.chapter("both methods end in the same system, the machine killed in each stage", || {
        methods::same_system(&lab);
    });
    lab.chapter("destroy leaves nothing, of a machine whose shim was killed neither", || {
        lab.kill_shim("one");
        traces::none_after_destroy(&lab);
    });
}

fn records(lab: &Lab, node: &str) -> Vec<Value> {
    lab.json(&["--json", "install-log", node]).as_array().expect("a list").clone()
}

fn last(lab: &Lab, node: &str) -> Value {
    records(lab, node).pop().expect("a record")
}

/// The stages of a record that ended, in its order.
fn ended(record: &Value) -> Vec<&str> {
    let stages = record["stages"].as_array().expect("stages");
    let ended = stages.iter().filter(|stage| stage["millis"].is_u64());
    ended.map(|stage| stage["stage"].as_str().expect("a name")).collect()
}

fn birth(lab: &Lab) {
    let events = lab.events(&["--json", "install", "one", "--profile", &lab.profile()]);
    let status = &lab::done(&events)["status"];
    assert_eq!(lab::node(status, "one")["state"], "running");
    let record = last(lab, "one");
    assert_eq!((&record["number"], &record["outcome"]), (&1.into(), &"done".into()), "{record}");
    assert_eq!(ended(&record), IMAGE);
    let fetch = &record["stages"][3];
    assert_eq!(fetch["bytes"][0], fetch["bytes"][1], "all of it, and no more: {fetch}");
    // Its data partition, too: nothing is mounted before it has a file system.
    let failed = "journalctl --boot --no-pager | grep -i 'failed to mount' || true";
    assert_eq!(lab.text(&["exec", "one", "--", "sh", "-c", failed]), "");
}

fn unchanged(lab: &Lab) {
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(steps(&events), Vec::<String>::new());
    assert_eq!(lab::done(&events)["changed"], false);
}

fn refused(lab: &Lab, arguments: &[&str], code: i32, words: &[&str]) {
    let output = lab.run(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

fn refusals(lab: &Lab) {
    let before = lab.machine_pids();
    refused(lab, &["install", "one", "--wipe-data", "nothing"], 2, &["nothing", "store"]);
    refused(lab, &["install", "one", "--resume"], 6, &["no installation of one is unfinished"]);
    refused(lab, &["install", "three"], 6, &["three"]);
    too_small(lab);
    assert_eq!(lab.machine_pids(), before);
    assert_eq!(records(lab, "one").len(), 1);
}

/// A data partition that leaves no room for the root: the node runs on, from the disk that it has.
fn too_small(lab: &Lab) {
    let mark = "echo mine >/srv/store/mark && sync";
    lab.text(&["exec", "one", "--", "sh", "-c", mark]);
    lab.write_profile(&PROFILE.replace("64 MiB", "1900 MiB"));
    let words = ["too small", "2048 MiB", "1900 MiB for data partitions", "nothing was touched"];
    refused(lab, &["install", "one", "--profile", &lab.profile()], 2, &words);
    lab.write_profile(PROFILE);
    assert_eq!(lab.text(&["exec", "one", "--", "cat", "/srv/store/mark"]).trim(), "mine");
}

/// Installs the node again, with the daemon killed while it fetches: the machine goes on.
fn daemon_killed(lab: &Lab) {
    let mut install = lab.spawn(&["--json", "install", "one"]);
    install.read_until(|event| event["progress"]["stage"] == "fetch");
    let machine = lab.machine_pids();
    lab.kill_daemon();
    assert!(!install.end().success(), "a client whose daemon died must not call it a success");
    assert_eq!(lab.machine_pids(), machine, "the machine belongs to its shim");
    lab.events(&["--json", "install", "one", "--resume"]);
    let record = last(lab, "one");
    assert_eq!((&record["number"], &record["outcome"]), (&2.into(), &"done".into()), "{record}");
    assert_eq!(record["launches"], 1, "the installer went on by itself");
    assert_eq!(ended(&record), IMAGE);
}

fn over_an_old_disk(lab: &Lab) {
    let kept = "echo kept >/srv/store/a && echo lost >/root/a && sync";
    lab.text(&["exec", "one", "--", "sh", "-c", kept]);
    let record = last(lab, "one");
    let image = record["image"].as_str().expect("an image's key");
    let piece = lab.home.path().join(format!("depot/images/{image}/pieces/00001.zst"));
    fs::write(&piece, b"damage").expect("damage");
    daemon_killed(lab);
    assert!(fs::metadata(&piece).expect("a piece").len() > 6, "it was cut again");
    assert_eq!(lab.text(&["exec", "one", "--", "cat", "/srv/store/a"]).trim(), "kept");
    assert!(!lab.run(&["exec", "one", "--", "test", "-e", "/root/a"]).status.success());
    lab.events(&["--json", "install", "one", "--wipe-data", "store"]);
    assert!(!lab.run(&["exec", "one", "--", "test", "-e", "/srv/store/a"]).status.success());
}
