//! The Xen lab: a real Xen in QEMU's emulation. Needs root and, the first time, a mirror.

use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

/// Each lab takes a gigabyte of memory and two processors: one at a time.
static ONE: Mutex<()> = Mutex::new(());

fn lab(words: &[&str]) -> Output {
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let program = env!("CARGO_BIN_EXE_xtask");
    Command::new(program).arg("xen-lab").args(words).output().unwrap()
}

#[test]
fn a_command_runs_in_the_privileged_domain_and_its_exit_code_is_ours() {
    let script = "xl info | grep -E '^(xen_major|xen_scheduler)'; echo \"args: $1\"; exit 7";
    let output = lab(&["run", "--", "sh", "-c", script, "x", "it's $HOME"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{text}{errors}");
    for line in ["xen_major              : 4", "xen_scheduler          : credit2"] {
        assert!(text.contains(line), "{text}{errors}");
    }
    assert!(text.contains("args: it's $HOME"), "{text}");
}

/// The promises in which Xen differs from a VMM that is a process. The others, about the
/// shim's console, and those that these contain are run by `cargo xtask xen-lab test`: with
/// them it takes twice as long.
const PROMISES: [&str; 15] = [
    "xen_pv::stops_gracefully",
    "xen_pv::kills",
    "xen_pv::a_panic_is_told_with_its_words",
    "xen_pv::a_bad_kernel_is_told",
    "xen_pv::a_missing_network_is_told",
    "xen_pv::leaves_no_domain_and_no_device",
    "xen_pv::a_domain_that_outlives_its_shim_is_ended",
    "xen_pv::a_domain_of_that_name_that_is_not_ours_is_left_alone",
    "xen_pv::too_much_memory_is_told",
    "xen_pv::a_missing_bridge_is_told",
    "xen_pv::joins_the_sites_bridge_under_its_name",
    "xen_pv::live_limits_and_pauses",
    "xen_pv::boots_the_kernel_on_its_disk",
    "xen_pv::starts_with_its_tuning",
    "xen_pvh::stops_gracefully",
];

#[test]
fn machines_keep_their_promises_on_a_real_xen() {
    let words: Vec<_> = ["test", "--"].into_iter().chain(PROMISES).collect();
    let output = lab(&words);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}{errors}");
    for promise in PROMISES {
        assert!(text.contains(&format!("test {promise}")), "{promise} was not tried:\n{text}");
    }
}

const SITE: &str = r#"
[site]
name = "xen-t"
domain = "xen.test"

[network]
prefix = "198.51.100.0/24"

[nodes.one]
role = "base"
vmm = "xen"
memory = "256 MiB"
disk = "1 GiB"
"#;

/// In the lab: a node from an empty disk, what it can reach and what not, and its end.
const STORY: &str = r#"
set -e
gridgate install one --profile "$1"
gridgate status
gridgate exec one -- sh -c '
    echo "kernel: $(uname -r)"
    ping -c 1 -W 9 198.51.100.1 >/dev/null && echo "the install server answers"
    ip address add 198.51.100.99/24 dev $(basename /sys/class/net/en*)
    ping -c 1 -W 1 -I 198.51.100.99 198.51.100.1 >/dev/null || echo "not under a false address"'
gridgate down
echo "domains: $(xl list | tail -n +2 | cut -d " " -f 1 | xargs)"
"#;

#[test]
fn a_node_installs_itself_on_a_real_xen() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("site.toml");
    std::fs::write(&profile, SITE).unwrap();
    let profile = profile.to_str().unwrap();
    let output = lab(&["site", profile, "--", "sh", "-c", STORY, "story", profile]);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}{errors}");
    let row = text.lines().find(|line| line.starts_with("one ") && line.contains(" xen "));
    assert!(row.is_some_and(|row| row.contains("running")), "{text}");
    for line in [
        "-cloud-amd64",
        "the install server answers",
        "not under a false address",
        "domains: Domain-0\n",
    ] {
        assert!(text.contains(line), "{line:?} is missing:\n{text}{errors}");
    }
}
