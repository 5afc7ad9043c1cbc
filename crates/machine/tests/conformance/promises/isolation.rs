//! What a VMM process may see, do and use, and that nothing of it stays.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gridgate_machine::{Accelerator, VmmSpec};

use crate::lab::{Backend, Lab, OVERHEAD, PATIENCE, Screen, pid, shim_pid, status};

pub fn runs_as_its_user_without_capabilities<B: Backend>() {
    let lab = Lab::new();
    let vmm = pid(&lab.up::<B>("a"));
    let ids = [lab.uid; 4].map(|id| id.to_string()).join("\t");
    assert_eq!(status(vmm, "Uid"), ids);
    assert_eq!(status(vmm, "Gid"), ids);
    assert_eq!(status(vmm, "Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(vmm, set), "0000000000000000", "{set}");
    }
    assert_eq!(status(vmm, "NoNewPrivs"), "1");
    let limits = std::fs::read_to_string(format!("/proc/{vmm}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"));
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

pub fn sees_only_its_jail<B: Backend>() {
    let lab = Lab::new();
    let vmm = pid(&lab.up::<B>("a"));
    let root = PathBuf::from(format!("/proc/{vmm}/root"));
    let expected =
        ["dev", "disks", "lib", "lib64", "proc", "tmp", "usr", "vmm", "bin", "sbin", "boot"];
    let unexpected: Vec<_> =
        names(&root).into_iter().filter(|name| !expected.contains(&name.as_str())).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    assert_eq!(names(&root.join("disks")), BTreeSet::from(["0".to_owned()]));
    let mut devices = vec!["null", "zero", "random", "urandom", "shm"];
    if matches!(B::vmm(), VmmSpec::Qemu { accelerator: Accelerator::Kvm, .. }) {
        devices.push("kvm");
    }
    assert_eq!(names(&root.join("dev")), devices.into_iter().map(str::to_owned).collect());
    let mounts = std::fs::read_to_string(format!("/proc/{vmm}/mountinfo")).unwrap();
    for line in mounts.lines() {
        let place = line.split(' ').nth(4).unwrap();
        let options = line.split(' ').nth(5).unwrap().split(',').collect::<Vec<_>>();
        assert!(options.contains(&"nosuid"), "{line}");
        if ["/", "/usr"].contains(&place) {
            assert!(options.contains(&"ro"), "{line}");
        }
    }
    // The only processes in its /proc are its own.
    let shown = names(&root.join("proc"));
    assert!(shown.contains("1"));
    assert!(shown.iter().filter(|name| name.parse::<u32>().is_ok()).count() < 30);
}

pub fn has_namespaces_of_its_own<B: Backend>() {
    let lab = Lab::new();
    let vmm = pid(&lab.up::<B>("a"));
    for kind in ["mnt", "pid", "ipc", "uts", "net"] {
        let of = |pid: &str| std::fs::metadata(format!("/proc/{pid}/ns/{kind}")).unwrap().ino();
        assert_ne!(of("self"), of(&vmm.to_string()), "{kind}");
    }
}

pub fn keeps_its_limits<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    assert_eq!(machine.unenforced_limits().unwrap(), Vec::<String>::new());
    let usage = machine.usage().unwrap();
    assert!(!usage.cpu_time.is_zero());
    assert!((8 << 20..B::MEMORY + OVERHEAD).contains(&usage.pss), "{usage:?}");
    assert!(usage.charged.is_some_and(|charged| charged <= B::MEMORY + OVERHEAD), "{usage:?}");
    assert!(usage.processes >= 1);
    if !B::PROCESSES_ARE_THE_HOSTS {
        return;
    }
    let allowed = processors_of(lab.uid);
    assert!(!allowed.is_empty());
    assert!(allowed.iter().all(|list| list.parse::<u32>().is_ok()), "more than one: {allowed:?}");
    // Too many processes are a failed fork in the guest, which lives on.
    let mut screen = Screen::write(&machine);
    screen.type_line("i=0; while [ $i -lt 300 ]; do busybox sleep 1000 & i=$((i + 1)); done");
    screen.expect("can't fork");
    screen.type_line("echo alive $((6 * 7))");
    screen.expect("alive 42");
    assert!(machine.usage().unwrap().processes <= 200);
}

/// Directories of control groups that name this lab's user.
fn cgroups(uid: u32) -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap();
    hierarchies
        .map(|hierarchy| hierarchy.unwrap().path().join("gridgate-test").join(uid.to_string()))
        .chain([PathBuf::from(format!("/sys/fs/cgroup/gridgate-test/{uid}"))])
        .filter(|path| path.exists())
        .collect()
}

fn processes_of(uid: u32) -> usize {
    let pids = names(Path::new("/proc")).into_iter().filter(|name| name.parse::<u32>().is_ok());
    pids.filter(|pid| std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|m| m.uid() == uid))
        .count()
}

/// The processors that each process of this user may run on, as a list of numbers and ranges.
fn processors_of(uid: u32) -> Vec<String> {
    let pids = names(Path::new("/proc")).into_iter().filter(|name| name.parse::<u32>().is_ok());
    let of = |pid: String| {
        let owner = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        (owner == uid).then(|| line.trim().to_owned())
    };
    pids.filter_map(of).collect()
}

pub fn leaves_nothing_behind<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    assert!(!cgroups(lab.uid).is_empty());
    assert!(processes_of(lab.uid) > 0);
    machine.stop(PATIENCE).unwrap();
    assert_eq!(cgroups(lab.uid), Vec::<PathBuf>::new());
    assert_eq!(processes_of(lab.uid), 0);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(lab.path().to_str().unwrap()));
    let left = names(machine.run_dir());
    let expected = ["console.log", "lock", "shim.log", "spec.json", "state.json"];
    assert_eq!(left, expected.map(str::to_owned).into());
    assert_eq!(std::fs::read_to_string(machine.run_dir().join("shim.log")).unwrap(), "");
}

pub fn stays_small<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let resident = status(shim_pid(&machine), "VmRSS");
    let resident: u64 = resident.trim_end_matches(" kB").parse().unwrap();
    assert!(resident < 4 << 10, "the shim takes {resident} KiB");
}
