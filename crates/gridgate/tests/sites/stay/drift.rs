//! Looking and putting back by command.

use serde_json::Value;

use crate::lab::Lab;

/// What an administrator in a hurry does.
const HURT: &str = "
    echo 'by hand' >>/etc/motd.site
    chmod 0600 /etc/fstab
    chown daemon:daemon /etc/hosts
    rm /etc/localtime
    systemctl stop ssh.service
    sed -i '/^Package: tree$/,/^$/s/^Version: .*/Version: 1.0-1/' /var/lib/dpkg/status
";

/// `gridgate drift`, with its exit code.
pub fn look(lab: &Lab, node: &str) -> (i32, Value) {
    let output = lab.run(&["--json", "drift", node]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let json = serde_json::from_str(&text).unwrap_or_else(|e| {
        panic!("{e}: {text:?} {}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code().expect("an exit code"), json)
}

/// What differs, as `kind name: properties`.
pub fn differences(report: &Value) -> Vec<String> {
    let drifts = report["nodes"][0]["report"]["drifts"].as_array().expect("drifts");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    drifts
        .iter()
        .map(|drift| {
            let what = drift["differences"].as_array().expect("differences");
            let what: Vec<String> = what.iter().map(|one| text(&one["what"])).collect();
            format!("{} {}: {}", text(&drift["kind"]), text(&drift["name"]), what.join(" "))
        })
        .collect()
}

pub fn found(lab: &Lab) {
    for node in ["one", "two"] {
        let (code, report) = look(lab, node);
        assert_eq!((code, differences(&report)), (0, Vec::new()), "a new node is as it should be");
    }
    lab.text(&["exec", "one", "--", "sh", "-ec", HURT]);
    let stamp =
        lab.text(&["exec", "one", "--", "stat", "-c", "%z", "/etc/motd.site", "/etc/hosts"]);
    let (code, report) = look(lab, "one");
    let mut seen = differences(&report);
    seen.sort();
    assert_eq!(
        seen,
        [
            "file /etc/fstab: mode",
            "file /etc/hosts: owner group",
            "file /etc/motd.site: content",
            "link /etc/localtime: target",
            "package tree: version",
            "unit ssh.service: state",
        ]
    );
    assert_eq!(code, 8);
    let (code, report) = look(lab, "two");
    assert_eq!((code, differences(&report)), (0, Vec::new()), "the other node was not touched");
    let text = String::from_utf8(lab.run(&["drift"]).stdout).expect("text");
    assert!(text.contains("      +by hand\n"), "the difference is shown: {text}");
    assert!(!text.contains('\u{1b}'), "no colour where there is no terminal");
    let after =
        lab.text(&["exec", "one", "--", "stat", "-c", "%z", "/etc/motd.site", "/etc/hosts"]);
    assert_eq!(stamp, after, "a look changes nothing");
}

/// What was told to start runs when `reconcile` ends: no second look is needed for that.
pub fn put_back(lab: &Lab) {
    let done = lab.json(&["--json", "reconcile", "one"]);
    let report = &done["nodes"][0]["report"];
    assert_eq!(report["drifts"].as_array().map(Vec::len), Some(6), "{report}");
    let changed = report["put_back"].as_array().expect("what was changed");
    assert!(changed.iter().all(|one| one["outcome"] == "changed"), "{changed:?}");
    assert!(changed.iter().any(|one| one["name"] == "tree"), "{changed:?}");
    let (code, report) = look(lab, "one");
    assert_eq!((code, differences(&report)), (0, Vec::new()));
    let motd = lab.text(&["exec", "one", "--", "cat", "/etc/motd.site"]);
    assert_eq!(motd, "welcome\nto a site that stays\n");
    assert_eq!(
        lab.text(&["exec", "one", "--", "systemctl", "is-active", "ssh.service"]),
        "active\n"
    );
}

/// The profile asks for it on one of the two nodes; the other keeps what was changed.
pub fn watched(lab: &Lab) {
    let wanted = "[nodes.one]\nreconcile = \"watch\"";
    lab.write_profile(&super::PROFILE.replace("[nodes.one]", wanted));
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(crate::lab::steps(&events), ["one apply"]);
    let mut follow = lab.spawn(&["--json", "reconcile", "--all", "--watch"]);
    for node in ["one", "two"] {
        lab.text(&["exec", node, "--", "sh", "-ec", "echo again >>/etc/motd.site"]);
    }
    follow.read_until(|line| line["node"] == "one" && line["entry"]["name"] == "/etc/motd.site");
    lab.text(&["exec", "one", "--", "systemctl", "stop", "ssh.service"]);
    follow.read_until(|line| line["node"] == "one" && line["entry"]["name"] == "ssh.service");
    follow.interrupt();
    let (code, report) = look(lab, "one");
    assert_eq!((code, differences(&report)), (0, Vec::new()));
    let (code, report) = look(lab, "two");
    assert_eq!((code, differences(&report)), (8, vec!["file /etc/motd.site: content".to_owned()]));
    let status = lab.json(&["--json", "status"]);
    assert_eq!(crate::lab::node(&status, "one")["staying"]["put_back"]["count"], 2, "{status}");
    assert_eq!(crate::lab::node(&status, "two")["staying"]["put_back"]["count"], 0, "{status}");
    lab.json(&["--json", "reconcile", "two"]);
}
