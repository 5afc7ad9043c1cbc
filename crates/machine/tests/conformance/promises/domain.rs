//! What is true of machines that live in a hypervisor, beside the host's processes.

use std::path::Path;
use std::process::Command;

use gridgate_machine::xen::{Domain, LiveDomain, Shutdown};
use gridgate_machine::{
    Exit, MachineError, MachineSpec, MachineState, Nic, StartFailure, VmmSpec, XenBoot, XenTuning,
    find,
};

use crate::archive::{of_lab_guest, run};
use crate::guest::{self, READY};
use crate::lab::{Backend, Lab, PATIENCE, Screen, shim_pid, start};

fn xl(words: &[&str]) -> String {
    let output = Command::new("xl").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether the machine `a` of this lab has a domain.
fn has_domain<B: Backend>(lab: &Lab) -> bool {
    LiveDomain::of(&lab.spec::<B>("a")).is_ok()
}

/// Loop devices that show a file of this lab.
fn loops(lab: &Lab) -> usize {
    let devices = std::fs::read_dir("/sys/block").unwrap();
    let files = devices.filter_map(|device| {
        std::fs::read_to_string(device.unwrap().path().join("loop/backing_file")).ok()
    });
    files.filter(|file| file.contains(lab.path().to_str().unwrap())).count()
}

fn failure(error: MachineError) -> StartFailure {
    match error {
        MachineError::Start { why, .. } => why,
        other => panic!("{other}"),
    }
}

pub fn leaves_no_domain_and_no_device<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    assert_eq!((has_domain::<B>(&lab), loops(&lab)), (true, 1));
    machine.stop(PATIENCE).unwrap();
    assert_eq!((has_domain::<B>(&lab), loops(&lab)), (false, 0));
    let left: Vec<_> =
        std::fs::read_dir(machine.run_dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 5, "{left:?}");
    assert_eq!(std::fs::read_to_string(machine.run_dir().join("shim.log")).unwrap(), "");
}

pub fn a_domain_that_outlives_its_shim_is_ended<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let pid = rustix::process::Pid::from_raw(shim_pid(&machine).cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    // The next start ends it first: a disk is never written to by two domains.
    let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
    if let Ok(fd) = fd {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).unwrap();
    }
    let found = find(machine.run_dir()).unwrap().unwrap();
    assert!(matches!(found.state().unwrap(), MachineState::Lost { .. }));
    assert!(has_domain::<B>(&lab), "Xen keeps a domain whose keeper was killed");
    let machine = lab.up::<B>("a");
    assert_eq!((has_domain::<B>(&lab), loops(&lab)), (true, 1));
    machine.kill().unwrap();
    assert_eq!((has_domain::<B>(&lab), loops(&lab)), (false, 0));
}

pub fn a_domain_of_that_name_that_is_not_ours_is_left_alone<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let name = LiveDomain::of(&lab.spec::<B>("a")).unwrap().state().unwrap().name;
    machine.kill().unwrap();
    let (kernel, initramfs) = (of_lab_guest("vmlinux"), of_lab_guest("initramfs"));
    let file = lab.path().join("foreign.cfg");
    let text = format!(
        "name=\"{name}\"\ntype=\"pv\"\nmemory=96\nkernel={kernel:?}\nramdisk={initramfs:?}\n"
    );
    std::fs::write(&file, text).unwrap();
    xl(&["create", "-q", "-p", "-e", file.to_str().unwrap()]);
    let why = failure(start(&lab.spec::<B>("a")).unwrap_err()).to_string();
    assert!(
        why.contains(&format!("a domain named {name} is there and is not this machine's")),
        "{why}"
    );
    assert!(!has_domain::<B>(&lab));
    // The other's is untouched.
    xl(&["destroy", &name]);
}

pub fn too_much_memory_is_told<B: Backend>() {
    let lab = Lab::new();
    let mut spec = lab.spec::<B>("a");
    spec.memory = 3 << 30;
    let why = failure(start(&spec).unwrap_err()).to_string();
    assert!(why.contains("Xen has no 3072 MiB for it, ") && why.contains(" MiB are free"), "{why}");
    assert_eq!((has_domain::<B>(&lab), loops(&lab)), (false, 0));
}

pub fn a_missing_bridge_is_told<B: Backend>() {
    let mut lab = Lab::new();
    let namespace = lab.network("tap0");
    let mut spec = lab.spec::<B>("a");
    spec.nic =
        Some(Nic { namespace, tap: "card".into(), mac: "02:00:00:00:00:2a".into(), filter: None });
    let why = failure(start(&spec).unwrap_err()).to_string();
    assert!(why.contains("there is no bridge site in network ggm-"), "{why}");
    assert_eq!((has_domain::<B>(&lab), loops(&lab)), (false, 0));
}

/// Lets pass ARP and IPv4 from 192.0.2.2: load bytes 12 and 13, jump if ARP, load the source, compare, pass, drop.
const FILTER: &str = "6,40 0 0 12,21 2 0 2054,32 0 0 26,21 0 1 3221225986,6 0 0 0,6 0 0 2";

pub fn joins_the_sites_bridge_under_its_name<B: Backend>() {
    let mut lab = Lab::new();
    let namespace = lab.network("tap0");
    let name = namespace.file_name().unwrap().to_str().unwrap().to_owned();
    let ip = |words: &[&str]| run(Command::new("ip").args(["-n", &name]).args(words));
    ip(&["link", "add", crate::xen::BRIDGE, "type", "bridge"]);
    ip(&["address", "add", "192.0.2.1/24", "dev", crate::xen::BRIDGE]);
    ip(&["link", "set", crate::xen::BRIDGE, "up"]);
    let mut spec = lab.spec::<B>("a");
    let mac = "02:00:00:00:00:2a".to_owned();
    let filter = Some(FILTER.to_owned());
    spec.nic = Some(Nic { namespace, tap: "card".into(), mac: mac.clone(), filter });
    let machine = start(&spec).unwrap();
    let mut screen = Screen::write(&machine);
    screen.expect(READY);
    screen.type_line("echo card: $(cat /sys/class/net/eth0/address)");
    screen.expect(&format!("card: {mac}"));
    screen.type_line("busybox ip link set eth0 up; busybox ip address add 192.0.2.2/24 dev eth0; busybox ping -c 1 192.0.2.1 && echo pi$((1))ng");
    screen.expect("pi1ng");
    // What its filter does not let pass does not leave the card, nor what is not from its own Ethernet address.
    screen.type_line("busybox ip address add 192.0.2.3/24 dev eth0; busybox ping -c 1 -W 1 -I 192.0.2.3 192.0.2.1 || echo fil$((1))tered");
    screen.expect("fil1tered");
    screen.type_line("busybox ip link set eth0 down; busybox ip link set eth0 address 02:00:00:00:00:2b; busybox ip link set eth0 up; busybox ping -c 1 -W 1 192.0.2.1 || echo loc$((1))ked");
    screen.expect("loc1ked");
    assert!(!Path::new("/sys/class/net/card").exists(), "the card is in the site's network only");
    machine.stop(PATIENCE).unwrap();
}

pub fn live_limits_and_pauses<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let spec = lab.spec::<B>("a");
    let domain = LiveDomain::of(&spec).unwrap();
    let before = domain.configuration().unwrap();
    assert_eq!((before.target, before.weight), (B::MEMORY >> 20, Some(256)));
    domain.set_scheduling(64, 50).unwrap();
    let after = domain.configuration().unwrap();
    assert_eq!((after.weight, after.cap), (Some(64), Some(50)));
    domain.set_scheduling(256, 0).unwrap();
    domain.pause().unwrap();
    assert!(domain.state().unwrap().paused);
    domain.resume().unwrap();
    domain.set_memory(B::MEMORY - (8 << 20)).unwrap();
    assert_eq!(domain.configuration().unwrap().target, (B::MEMORY >> 20) - 8);
    let mut screen = Screen::write(&machine);
    screen.type_line("echo alive $((6 * 7))");
    screen.expect("alive 42");
    // Destroyed by somebody else: not a guest that powered off.
    let state = domain.state().unwrap();
    assert!(state.ended.is_none_or(|how| how != Shutdown::PowerOff));
    xl(&["destroy", &state.id.to_string()]);
    let MachineState::Stopped { exit: Exit::VmmFailed { reason }, .. } = machine.wait().unwrap()
    else {
        panic!("{:?}", machine.state())
    };
    assert_eq!(reason, "its domain was destroyed by somebody else");
}

/// The machine `a`, whose kernel is the one on its disk: this file for the lab's guests.
fn from_its_disk<B: Backend>(lab: &Lab, kernel: &str) -> MachineSpec {
    let mut spec = lab.spec::<B>("a");
    std::fs::remove_file(&spec.disks[0].path).unwrap();
    let (kernel, initramfs) = (of_lab_guest(kernel), of_lab_guest("initramfs"));
    guest::disk_with_kernel(&spec.disks[0].path, &kernel, &initramfs);
    let VmmSpec::Xen { kernel, initramfs, boot, .. } = &mut spec.vmm else { unreachable!() };
    *boot = XenBoot::Pygrub;
    (*kernel, *initramfs) = ("/there/is/none".into(), None);
    spec
}

pub fn boots_the_kernel_on_its_disk<B: Backend>() {
    let lab = Lab::new();
    let machine = start(&from_its_disk::<B>(&lab, "vmlinuz")).unwrap();
    assert_eq!(loops(&lab), 1, "the disk is a device for the guest only");
    let mut screen = Screen::write(&machine);
    screen.expect(READY);
    screen.type_line("cat /proc/cmdline");
    screen.expect(" from=disk root=PARTLABEL=gridgate-root");
    assert!(!machine.run_dir().join("vmm/boot").exists(), "what was read is not kept");
    // Its own configuration counts again when it boots again.
    screen.type_line("busybox sed -i s/from=disk/from=later/ /boot/grub/grub.cfg; sync; reboot");
    screen.expect("Restarting system");
    screen.expect(READY);
    screen.type_line("cat /proc/cmdline");
    screen.expect(" from=later root=PARTLABEL=gridgate-root");
    machine.stop(PATIENCE).unwrap();
    assert_eq!((has_domain::<B>(&lab), loops(&lab)), (false, 0));
}

pub fn a_disk_without_a_good_kernel_is_told<B: Backend>() {
    let lab = Lab::new();
    let mut spec = from_its_disk::<B>(&lab, "busybox");
    let why = failure(start(&spec).unwrap_err()).to_string();
    let disk = spec.disks[0].path.display();
    assert_eq!(why, format!("disk {disk}: its kernel is not a kernel that Xen can load"));
    spec = lab.spec::<B>("b");
    let VmmSpec::Xen { boot, .. } = &mut spec.vmm else { unreachable!() };
    *boot = XenBoot::Pygrub;
    let why = failure(start(&spec).unwrap_err()).to_string();
    let disk = spec.disks[0].path.display();
    let words = "no kernel was found on it: Unable to find partition containing kernel";
    assert_eq!(why, format!("disk {disk}: {words}"));
    assert_eq!((has_domain::<B>(&lab), loops(&lab)), (false, 0));
}

pub fn starts_with_its_tuning<B: Backend>() {
    let lab = Lab::new();
    let mut spec = lab.spec::<B>("a");
    let VmmSpec::Xen { tuning, .. } = &mut spec.vmm else { unreachable!() };
    let maximum = B::MEMORY + (64 << 20);
    *tuning = XenTuning { cap: Some(50), cpus: Some("1".into()), maximum_memory: Some(maximum) };
    spec.limits.cpu_weight = Some(50);
    let machine = start(&spec).unwrap();
    let domain = LiveDomain::of(&spec).unwrap();
    let found = domain.configuration().unwrap();
    assert_eq!((found.target, found.maximum), (B::MEMORY >> 20, maximum >> 20));
    assert_eq!((found.weight, found.cap, found.pinned), (Some(128), Some(50), vec![vec![1]]));
    // What Xen's scheduler itself says: `Name ID VCPU CPU State Time Hard / Soft`, `Name ID Weight Cap`.
    let Domain { id, name, .. } = domain.state().unwrap();
    let id = id.to_string();
    let last = |table: String| {
        let line = table.lines().find(|line| line.starts_with(&name)).unwrap().to_owned();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let on = last(xl(&["vcpu-list", &id]));
    assert_eq!((on[3].as_str(), &on[6..]), ("1", &["1", "/", "all"].map(String::from)[..]));
    assert_eq!(last(xl(&["sched-credit2"]))[2..], ["128", "50"]);
    machine.kill().unwrap();
}
