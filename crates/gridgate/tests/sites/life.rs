//! The real thing: a whole site in User-Mode-Linux machines, brought up from nothing, used, hurt,
//! changed and destroyed. Needs root and the Debian archive. One story, since each chapter stands on
//! the one before; the chapters are named in the output.

use crate::lab::{self, Lab, steps};
use crate::traces;
use serde_json::Value;

#[test]
fn a_site_is_born_used_hurt_changed_and_destroyed() {
    let lab = Lab::new("dublin", PROFILE);
    lab.chapter("the daemon is killed while the first images are built", || {
        interrupted_birth(&lab);
    });
    lab.chapter("up goes on and ends with every check green", || birth(&lab));
    lab.chapter("up again changes nothing", || unchanged(&lab));
    lab.chapter("people log in", || logins(&lab));
    lab.chapter("no node can have what belongs to another", || strangers(&lab));
    lab.chapter("the daemon is killed: machines run on", || daemon_killed(&lab));
    lab.chapter("a shim is killed", || machine_killed(&lab, "wn1", Victim::Shim));
    lab.chapter("a machine is killed", || machine_killed(&lab, "se", Victim::Machine));
    lab.chapter("an agent is killed", || agent_killed(&lab));
    lab.chapter("the profile changes", || changed(&lab));
    lab.chapter("down and up from the same disks", || rest(&lab));
    lab.chapter("down does not wait for what an up waits for", || given_up(&lab));
    lab.chapter("destroy leaves nothing", || traces::none_after_destroy(&lab));
}

const PROFILE: &str = r#"
[site]
name = "dublin"
domain = "dublin.test"

[network]
prefix = "198.51.100.0/24"

[users.alice]
full_name = "Alice Example"

[nodes.ce]
role = "ce"
address = "198.51.100.10"

[nodes.se]
role = "se"
address = "198.51.100.11"

[nodes.ui]
role = "ui"
address = "198.51.100.12"

[nodes.wn]
role = "wn"
count = 1
address = "198.51.100.20"
"#;

/// The events of a first `up` are followed until a package is being unpacked or configured; then the daemon dies.
fn interrupted_birth(lab: &Lab) {
    let mut up = lab.spawn(&["--json", "up", &lab.profile()]);
    up.read_until(|event| {
        event["started"]["stage"] == "configure" || event["started"]["stage"] == "install"
    });
    lab.kill_daemon();
    let ended = up.end();
    assert!(!ended.success(), "a client whose daemon died must not call it a success");
}

fn birth(lab: &Lab) {
    let events = lab.events(&["--json", "up", &lab.profile()]);
    let done = lab::done(&events);
    assert_eq!(done["changed"], true);
    all_running(&done["status"]);
    all_checks_passed(&done["status"]);
}

fn unchanged(lab: &Lab) {
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(steps(&events), Vec::<String>::new());
    assert_eq!(lab::done(&events)["changed"], false);
}

fn logins(lab: &Lab) {
    assert_eq!(lab.text(&["ssh", "ui", "--", "id", "-un"]).trim(), "root");
    assert_eq!(lab.text(&["ssh", "alice@ui", "--", "id", "-un"]).trim(), "alice");
    let subject =
        lab.text(&["ssh", "alice@ui", "--", "grid-proxy-init -q && grid-proxy-info -identity"]);
    assert_eq!(subject.trim(), "/O=dublin.test/OU=People/CN=Alice Example");
    assert!(lab.text(&["logs", "ce", "slurmctld", "-n", "50"]).contains("slurmctld"));
    assert!(lab.text(&["console", "ce", "--no-follow"]).len() > 10);
}

/// From inside a node: without its token the install server says nothing, and with it nothing of other nodes.
fn strangers(lab: &Lab) {
    // The first line of the answer, over a connection whose certificate is checked against the site's CA.
    let ask = |token: &str, path: &str| {
        let script = format!(
            "printf 'GET {path} HTTP/1.0\\r\\n%b\\r\\n' \"{token}\" | openssl s_client -quiet \
             -verify_return_error -CApath /etc/grid-security/certificates \
             -connect 198.51.100.1:8140 -servername gridgate-server 2>/dev/null | head -n 1"
        );
        let line = lab.text(&["exec", "ui", "--", "sh", "-c", &script]);
        line.split(' ').nth(1).unwrap_or_else(|| panic!("no HTTP answer: {line:?}")).to_owned()
    };
    let own = "$(sed -n 's/.*\"token\": *\"\\([0-9a-f]*\\)\".*/Authorization: Bearer \\1/p' \
               /var/lib/gridgate/identity.json)\\r\\n";
    assert_eq!(ask("", "/v1/node/profile"), "401");
    assert_eq!(ask("Authorization: Bearer 00\\r\\n", "/v1/node/profile"), "401");
    assert_eq!(ask(own, "/v1/node/profile"), "200");
    assert_eq!(
        ask(own, "/v1/node/secrets/munge-key"),
        "404",
        "the UI's profile names no munge key"
    );
    // An ordinary user of the node cannot read its token.
    let read =
        lab.run(&["exec", "ui", "--user", "alice", "--", "cat", "/var/lib/gridgate/identity.json"]);
    assert!(!read.status.success());
}

fn daemon_killed(lab: &Lab) {
    let before = lab.machine_pids();
    lab.kill_daemon();
    let status = lab.json(&["--json", "status"]);
    assert_eq!(lab.machine_pids(), before, "machines belong to their shims");
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(4));
    // The new daemon knows the site, and its agents find it again.
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(steps(&events), Vec::<String>::new());
    all_running(&lab::done(&events)["status"]);
    assert_eq!(lab.machine_pids(), before);
}

#[derive(Clone, Copy)]
enum Victim {
    Shim,
    Machine,
}

fn machine_killed(lab: &Lab, node: &str, victim: Victim) {
    let others = lab.machine_pids_but(node);
    match victim {
        Victim::Shim => lab.kill_shim(node),
        Victim::Machine => lab.kill_machine(node),
    }
    lab.wait_for_end(node);
    let status = lab.json(&["--json", "status"]);
    let state = lab::node(&status, node)["state"].clone();
    assert!(state == "failed" || state == "stopped", "{node} is {state} after its end");
    let events = lab.events(&["--json", "up", &lab.profile()]);
    assert_eq!(steps(&events), [format!("{node} start")]);
    all_running(&lab::done(&events)["status"]);
    all_checks_passed(&lab::done(&events)["status"]);
    assert_eq!(lab.machine_pids_but(node), others);
}

fn agent_killed(lab: &Lab) {
    let old =
        lab.text(&["exec", "ui", "--", "systemctl", "show", "-P", "MainPID", "gridgate-agent"]);
    // The answer to this one never comes: its agent dies with it.
    let script = format!("systemd-run --quiet sh -c 'kill -9 {}'", old.trim());
    lab.run(&["exec", "ui", "--", "sh", "-c", &script]);
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    all_running(&lab::done(&events)["status"]);
    let new =
        lab.text(&["exec", "ui", "--", "systemctl", "show", "-P", "MainPID", "gridgate-agent"]);
    assert_ne!(new, old);
}

fn changed(lab: &Lab) {
    let before = lab.machine_pids();
    let more = PROFILE
        .replace("[nodes.wn]\nrole = \"wn\"\ncount = 1", "[nodes.wn]\nrole = \"wn\"\ncount = 2")
        .replace(
            "[nodes.ui]\nrole = \"ui\"\naddress = \"198.51.100.12\"",
            "[nodes.ui]\nrole = \"ui\"\naddress = \"198.51.100.12\"\npackages = [\"tree\"]\n\
             [[nodes.ui.files]]\npath = \"/etc/motd.site\"\ncontent = \"welcome\\n\"",
        );
    lab.write_profile(&more);
    let plan = lab.events(&["--json", "up", "--plan", &lab.profile()]);
    assert!(steps(&plan).contains(&"wn2 start".to_owned()), "{:?}", steps(&plan));
    assert_eq!(lab.machine_pids(), before, "--plan touches nothing");

    let events = lab.events(&["--json", "up", &lab.profile()]);
    let did = steps(&events);
    assert!(!did.iter().any(|step| step.ends_with("restart")), "nothing needs a restart: {did:?}");
    all_running(&lab::done(&events)["status"]);
    all_checks_passed(&lab::done(&events)["status"]);
    assert_eq!(lab.machine_pids_but("wn2"), before, "running machines run on");
    assert_eq!(lab.text(&["exec", "ui", "--", "cat", "/etc/motd.site"]), "welcome\n");
    assert!(lab.text(&["exec", "ui", "--", "tree", "--version"]).starts_with("tree v"));
    let nodes = lab.text(&["exec", "ce", "--", "sinfo", "-N", "-h", "-o", "%N"]);
    assert!(nodes.contains("wn1") && nodes.contains("wn2"), "{nodes}");

    // A machine that itself changes is restarted; it alone.
    lab.write_profile(
        &more.replace(
            "[nodes.se]\nrole = \"se\"",
            "[nodes.se]\nrole = \"se\"\nmemory = \"224 MiB\"",
        ),
    );
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    let restarts: Vec<_> = steps(&events).into_iter().filter(|s| s.ends_with("restart")).collect();
    assert_eq!(restarts, ["se restart"]);
    all_running(&lab::done(&events)["status"]);
}

fn rest(lab: &Lab) {
    lab.events(&["--json", "down"]);
    let status = lab.json(&["--json", "status"]);
    for node in status["nodes"].as_array().expect("nodes") {
        assert_eq!(node["state"], "stopped", "{node}");
    }
    let events = lab.events(&["--json", "up", &lab.profile()]);
    all_running(&lab::done(&events)["status"]);
    all_checks_passed(&lab::done(&events)["status"]);
}

fn given_up(lab: &Lab) {
    lab.events(&["--json", "down"]);
    let mut up = lab.spawn(&["--json", "up", &lab.profile()]);
    up.read_until(|event| event["waiting"]["stage"] == "boot");
    let refused = lab.run(&["check"]);
    assert_eq!(refused.status.code(), Some(7), "{refused:?}");
    let events = lab.events(&["--json", "down"]);
    assert!(events.iter().any(|event| event["finished"]["stage"] == "wait"), "{events:?}");
    for node in lab::done(&events)["status"]["nodes"].as_array().expect("nodes") {
        assert_eq!(node["state"], "stopped", "{node}");
    }
    let (events, status) = up.all();
    assert_eq!(status.code(), Some(7), "{events:?}");
    let failure = &events.last().expect("a last event")["failed"];
    assert_eq!(failure["what"], "`up` was given up for `down`", "{failure}");
    assert_eq!(failure["why"], serde_json::json!([]), "it is said once");
}

fn all_running(status: &Value) {
    let nodes = status["nodes"].as_array().expect("a status has nodes");
    assert!(nodes.len() >= 4);
    for node in nodes {
        assert_eq!(node["state"], "running", "{}: {}", node["name"], node["detail"]);
    }
}

fn all_checks_passed(status: &Value) {
    let results = status["checks"]["results"].as_array().expect("the checks were run");
    assert!(results.len() >= 10, "only {} checks", results.len());
    for result in results {
        assert!(result["outcome"]["passed"].is_object(), "{result}");
    }
}
