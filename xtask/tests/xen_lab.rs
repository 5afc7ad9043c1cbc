//! The Xen lab: a real Xen in QEMU's emulation. Needs root and, the first time, a mirror.

use std::process::{Command, Output};

fn lab(words: &[&str]) -> Output {
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
