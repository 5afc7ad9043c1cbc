//! The same node on another VMM and back, with its disk as it is, and installed by itself on each: real User-Mode
//! Linux, real QEMU. Needs root and the Debian archive. One story; the chapters are named in the output.

use crate::lab::{self, Lab, steps};
use crate::traces;

const PROFILE: &str = r#"
[site]
name = "convert-t"
domain = "convert.test"

[network]
prefix = "198.51.100.0/24"

[roles.plain]
extends = "base"

[nodes.one]
role = "plain"
vmm = "uml"
"#;

#[test]
fn a_node_moves_to_another_vmm_and_back() {
    let lab = Lab::new("convert-t", PROFILE);
    let mut before = String::new();
    lab.chapter("a node on User-Mode Linux", || before = birth(&lab));
    lab.chapter("a profile that names its VMM is not gone behind", || refused(&lab));
    lab.chapter("to QEMU, the profile too", || to_qemu(&lab, &before));
    lab.chapter("its boot is spared what is slow to emulate", || spared(&lab));
    lab.chapter("up finds nothing to do", || unchanged(&lab));
    lab.chapter("KVM is tried once, for a node that could have it", || tried_once(&lab));
    lab.chapter("it installs itself there", || installs_itself(&lab));
    lab.chapter("and back", || back(&lab));
    lab.chapter("destroy leaves nothing", || traces::none_after_destroy(&lab));
}

/// What a node says of itself: identity, a file of its own, and that it reaches the install server.
fn facts(lab: &Lab) -> String {
    let script =
        "cat /etc/machine-id /root/own; ping -c 1 -W 5 198.51.100.1 >/dev/null && echo there";
    lab.text(&["exec", "one", "--", "sh", "-c", script])
}

fn kernel(lab: &Lab) -> String {
    lab.text(&["exec", "one", "--", "uname", "-r"]).trim().to_owned()
}

fn vmm(lab: &Lab) -> String {
    let status = lab.json(&["--json", "status"]);
    let node = lab::node(&status, "one").clone();
    assert_eq!(node["state"], "running", "{node}");
    node["vmm"].as_str().expect("a VMM").to_owned()
}

fn birth(lab: &Lab) -> String {
    lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    lab.text(&["exec", "one", "--", "sh", "-c", "echo kept > /root/own; sync"]);
    assert_eq!(vmm(lab), "uml");
    facts(lab)
}

fn refused(lab: &Lab) {
    let output = lab.run(&["install", "one", "--clock", "2003-01-01T00:00:00Z"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("nothing was touched"), "{text}");
    let output = lab.run(&["convert", "one", "--vmm", "qemu", "--accelerator", "tcg"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--write"), "{text}");
    assert_eq!(vmm(lab), "uml");
}

fn to_qemu(lab: &Lab, before: &str) {
    let uml = kernel(lab);
    lab.text(&["convert", "one", "--vmm", "qemu", "--accelerator", "tcg", "--write"]);
    assert_eq!(vmm(lab), "qemu (tcg)");
    assert_ne!(kernel(lab), uml, "the kernel is the VMM's");
    assert_eq!(facts(lab), before);
    // What it may load later is there, and for this kernel.
    let folder = format!("/usr/lib/modules/{}/modules.dep", kernel(lab));
    lab.text(&["exec", "one", "--", "test", "-s", &folder]);
}

fn spared(lab: &Lab) {
    let of_one = |script: &str| lab.text(&["exec", "one", "--", "sh", "-c", script]);
    let moment = |unit: &str, name: &str| -> u64 {
        let text = of_one(&format!("systemctl show --value -p {name}Monotonic {unit}"));
        text.trim().parse().unwrap_or_else(|_| panic!("{name} of {unit}: {text}"))
    };
    let agent = moment("gridgate-agent", "ExecMainHandoffTimestamp");
    assert!(agent > 0);
    for unit in ["systemd-journald", "systemd-udevd", "systemd-remount-fs"] {
        let other = moment(unit, "InactiveExitTimestamp");
        assert!(other > agent, "{unit} began at {other} µs, the agent ran at {agent} µs");
    }
    // systemd has no BPF library; whoever else is linked with it has, and no service inherits where systemd looks.
    assert_eq!(of_one("grep -c libbpf /proc/1/maps || true").trim(), "0");
    assert!(of_one("ip -V; ldd $(command -v ip)").contains("libbpf"));
    let environment =
        of_one("systemctl show-environment; tr '\\0' '\\n' < /proc/$(pidof -s sshd)/environ; env");
    assert!(
        environment.contains("PATH=") && !environment.contains("LD_LIBRARY_PATH"),
        "{environment}"
    );
}

fn unchanged(lab: &Lab) {
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    assert_eq!(steps(&events), Vec::<String>::new());
    assert_eq!(vmm(lab), "qemu (tcg)");
}

/// QEMU is in the depot by now. What comes of it depends on the host.
fn tried_once(lab: &Lab) {
    let one = std::fs::read_to_string(lab.profile()).expect("the profile");
    lab.write_profile(&format!("{one}\n[nodes.two]\nrole = \"plain\"\n"));
    let kvm = std::path::Path::new("/dev/kvm").exists();
    for expected in [usize::from(kvm), 0] {
        let events = lab.events(&["--json", "up", "--plan", &lab.profile()]);
        let probes = events.iter().filter(|event| event["started"]["stage"] == "probe");
        assert_eq!(probes.count(), expected, "{events:?}");
        let plan = serde_json::to_string(&events).expect("text");
        assert!(!plan.contains("not tried yet"), "{plan}");
    }
    lab.write_profile(&one);
}

fn installs_itself(lab: &Lab) {
    // A battery that is empty: no certificate is valid then.
    let events = lab.events(&["--json", "install", "one", "--clock", "2003-01-01T00:00:00Z"]);
    let log = lab.json(&["--json", "install-log", "one"]);
    let off = log[0]["clock_off_s"].as_i64().expect("how far the clock was off");
    assert!(off < -20 * 365 * 86_400, "{off}");
    let status = &lab::done(&events)["status"];
    let health = lab::node(status, "one")["health"].as_array().expect("health").clone();
    assert!(!health.is_empty() && health.iter().all(|check| check["ok"] == true), "{health:?}");
    lab.text(&[
        "exec",
        "one",
        "--",
        "sh",
        "-c",
        "test ! -e /root/own; echo kept > /root/own; sync",
    ]);
    assert_eq!(vmm(lab), "qemu (tcg)");
}

fn back(lab: &Lab) {
    let before = facts(lab);
    lab.text(&["convert", "one", "--vmm", "uml", "--write"]);
    assert_eq!(vmm(lab), "uml");
    assert_eq!(facts(lab), before);
    // How it ended on QEMU: the modules disk, which is read to the last, is nothing to complain of.
    let console = std::fs::read(lab.run_dir("one").join("console.log.old")).expect("a console");
    let console = String::from_utf8_lossy(&console);
    assert!(console.contains("reboot: Power down"), "{console}");
    assert!(!console.contains("Failed unmounting") && !console.contains("I/O error"), "{console}");
}
