//! What a VMM process may see, do and use, and that nothing of it stays.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gridgate_machine::Nic;

use crate::guest::READY;
use crate::lab::{Backend, Lab, OVERHEAD, PATIENCE, Screen, pid, shim_pid, start, status};

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
    let devices = ["null", "zero", "random", "urandom", "shm"].map(str::to_owned);
    assert_eq!(names(&root.join("dev")), BTreeSet::from(devices));
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

pub fn sees_its_network_card<B: Backend>() {
    let mut lab = Lab::new();
    let namespace = lab.network("tap0");
    let mut spec = lab.spec::<B>("a");
    let mac = "02:00:00:00:00:2a".to_owned();
    spec.nic = Some(Nic {
        namespace: namespace.clone(),
        tap: "tap0".into(),
        mac: mac.clone(),
        filter: None,
    });
    let machine = start(&spec).unwrap();
    let net = |path: String| std::fs::metadata(path).unwrap().ino();
    let vmm = pid(&machine);
    let inside = net(format!("/proc/{vmm}/ns/net"));
    assert_eq!(inside, net(namespace.display().to_string()));
    let mut screen = Screen::write(&machine);
    screen.expect(READY);
    // Its name is the kernel's affair; the address is the profile's.
    screen.type_line(&format!(
        "for c in /sys/class/net/*; do grep -q {mac} $c/address && card=${{c##*/}}; done"
    ));
    screen.type_line("echo card: $(cat /sys/class/net/$card/address)");
    screen.expect(&format!("card: {mac}"));
    // The kernel answers ARP for the card as soon as it is up: a frame there and one back.
    screen.type_line(
        "busybox ip link set $card up; busybox ip address add 192.0.2.2/24 dev $card; echo u$((1))p",
    );
    screen.expect("u1p");
    let name = namespace.file_name().unwrap().to_str().unwrap();
    let ip = |words: &[&str]| {
        crate::archive::run(std::process::Command::new("ip").args(["-n", name]).args(words));
    };
    ip(&["address", "add", "192.0.2.1/24", "dev", "tap0"]);
    screen.type_line("busybox ping -c 1 192.0.2.1 && echo pi$((1))ng");
    screen.expect("pi1ng");
    machine.stop(PATIENCE).unwrap();
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
