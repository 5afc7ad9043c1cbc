//! The labs: a real Xen, and KVM, in QEMU's emulation. They need root and, the first time, a mirror. A lab keeps little more
//! than one processor busy and takes a gigabyte of memory: these run beside each other.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::Command;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

/// A lab has ended long before; a test fails instead of hanging.
const PATIENCE: Timespec = Timespec { tv_sec: 1200, tv_nsec: 0 };

/// How a lab's command ended, and what it and the lab said.
struct Ended {
    code: Option<i32>,
    text: String,
    errors: String,
}

fn lab(name: &str, words: &[&str]) -> Ended {
    let [mut output, mut errors] = [(); 2].map(|()| tempfile::tempfile().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg(name).args(words);
    command.stdout(output.try_clone().unwrap()).stderr(errors.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let pid = Pid::from_child(&child);
    let end = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let ended = poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&PATIENCE)).unwrap() > 0;
    if !ended {
        // The nested computer dies with it.
        child.kill().unwrap();
    }
    let code = child.wait().unwrap().code();
    let said = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (text, errors) = (said(&mut output), said(&mut errors));
    assert!(ended, "{name} goes on after {} s:\n{text}{errors}", PATIENCE.tv_sec);
    Ended { code, text, errors }
}

/// All promises of PV guests, and of PVH's, of which a start takes three times as long.
const ON_XEN: [&str; 2] = ["xen_pv::", "xen_pvh::"];

/// How many these are: none is to be lost unnoticed.
const PROMISES_ON_XEN: usize = 40;

/// Those in which KVM differs from QEMU's emulation. The others are run by `cargo xtask kvm-lab test`.
const ON_KVM: [&str; 6] = [
    "kvm_microvm::stops_gracefully",
    "kvm_microvm::a_panic_is_told_with_its_words",
    "kvm_microvm::a_probe_boots_a_kernel",
    "kvm_microvm::sees_only_its_jail",
    "kvm_microvm::sees_its_network_card",
    "kvm_q35::a_guest_may_reboot_itself",
];

fn keeps(lab_name: &str, promises: &[&str], how_many: usize) {
    let words: Vec<_> = ["test", "--"].into_iter().chain(promises.iter().copied()).collect();
    let Ended { code, text, errors } = lab(lab_name, &words);
    assert_eq!(code, Some(0), "{text}{errors}");
    for promise in promises {
        assert!(text.contains(&format!("test {promise}")), "{promise} was not tried:\n{text}");
    }
    let kept = format!("test result: ok. {how_many} passed; 0 failed; 0 ignored;");
    assert!(text.contains(&kept), "{kept:?} is missing:\n{text}");
}

#[test]
fn machines_keep_their_promises_on_a_real_xen() {
    keeps("xen-lab", &ON_XEN, PROMISES_ON_XEN);
}

#[test]
#[ignore = "the emulated computer stands still now and then: cargo test -p xtask --test labs -- --ignored"]
fn machines_keep_their_promises_on_kvm() {
    keeps("kvm-lab", &ON_KVM, ON_KVM.len());
}

const SITE: &str = r#"
[site]
name = "xen-t"
domain = "xen.test"

[network]
prefix = "198.51.100.0/24"

[nodes.one]
role = "base"
vmm = "auto"
memory = "256 MiB"
disk = "1 GiB"
"#;

/// In the lab: what the doctor says, a node from an empty disk, what it can reach and what not, and its end.
const STORY: &str = r#"
set -e
echo "args: $2"
xl info | grep -E '^(xen_major|xen_scheduler)'
gridgate doctor --json >/tmp/doctor || test $? = 3
echo "doctor: $(tr '\n' ' ' </tmp/doctor)"
gridgate install one --profile "$1"
gridgate status
gridgate exec one -- sh -c '
    echo "kernel: $(uname -r)"
    ping -c 1 -W 9 198.51.100.1 >/dev/null && echo "the install server answers"
    ip address add 198.51.100.99/24 dev $(basename /sys/class/net/en*)
    ping -c 1 -W 1 -I 198.51.100.99 198.51.100.1 >/dev/null || echo "not under a false address"'
gridgate down
! grep "Failed unmounting" $GRIDGATE_HOME/sites/xen-t/nodes/one/run/console.log
echo "domains: $(xl list | tail -n +2 | cut -d " " -f 1 | xargs)"
exit 7
"#;

#[test]
fn a_node_installs_itself_on_a_real_xen_that_was_chosen_by_its_probe() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("site.toml");
    std::fs::write(&profile, SITE).unwrap();
    let profile = profile.to_str().unwrap();
    let words = ["site", profile, "--", "sh", "-c", STORY, "story", profile, "it's $HOME"];
    let Ended { code, text, errors } = lab("xen-lab", &words);
    assert_eq!(code, Some(7), "the command's exit code is ours: {text}{errors}");
    let row = text.lines().find(|line| line.starts_with("one ") && line.contains(" xen "));
    assert!(row.is_some_and(|row| row.contains("running")), "{text}");
    for line in [
        "args: it's $HOME\n",
        "xen_major              : 4\n",
        "xen_scheduler          : credit2\n",
        "-cloud-amd64",
        "the install server answers",
        "not under a false address",
        "domains: Domain-0\n",
    ] {
        assert!(text.contains(line), "{line:?} is missing:\n{text}{errors}");
    }
    let doctor = text.lines().find_map(|line| line.strip_prefix("doctor: ")).unwrap();
    let findings: Value = serde_json::from_str(doctor).unwrap();
    let finding = |name: &str| {
        let found = findings.as_array().unwrap().iter().find(|finding| finding["name"] == name);
        found.unwrap_or_else(|| panic!("nothing on {name}: {doctor}"))
    };
    let xen = finding("Xen");
    assert_eq!(
        (&xen["verdict"], &xen["probe"]["result"]),
        (&"ok".into(), &"proven".into()),
        "{xen}"
    );
    assert!(xen["probe"]["release"].as_str().unwrap().ends_with("-cloud-amd64"), "{xen}");
    assert_eq!(finding("QEMU, KVM")["seen"], "there is no /dev/kvm");
    assert_eq!(finding("vmm = \"auto\"")["seen"], "xen");
    let memory = finding("memory")["seen"].as_str().unwrap();
    assert!(memory.contains(" free in Xen, "), "{memory}");
}
