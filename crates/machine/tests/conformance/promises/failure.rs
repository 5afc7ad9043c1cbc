//! What goes wrong is told, and can be repaired.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use gridgate_machine::{Disk, Exit, MachineError, MachineState, Nic, StartFailure, find};

use crate::guest::READY;
use crate::lab::{Backend, Lab, Screen, pid, program, shim_pid, start};

fn failure(result: Result<gridgate_machine::Machine, MachineError>) -> StartFailure {
    match result {
        Err(MachineError::Start { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

pub fn a_panic_is_told_with_its_words<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let mut screen = Screen::write(&machine);
    screen.type_line("echo c > /proc/sysrq-trigger");
    let MachineState::Stopped { exit: Exit::Crashed { reason }, .. } = machine.wait().unwrap()
    else {
        panic!("{:?}", machine.state())
    };
    assert_eq!(reason, "kernel panic: sysrq triggered crash");
    // Its last words are still there, and it can be started again.
    assert!(std::fs::read_to_string(machine.console_log()).unwrap().contains("Kernel panic"));
    Screen::watch(&start(&lab.spec::<B>("a")).unwrap()).expect(READY);
}

pub fn a_bad_kernel_is_told<B: Backend>() {
    let lab = Lab::new();
    let mut spec = lab.spec::<B>("a");
    spec.vmm = B::bad_kernel();
    let why = failure(start(&spec));
    assert!(matches!(why, StartFailure::Kernel { .. }), "{why}");
    let machine = find(&spec.run_dir).unwrap().unwrap();
    let state = machine.state().unwrap();
    assert!(
        matches!(state, MachineState::Stopped { exit: Exit::VmmFailed { .. }, .. }),
        "{state:?}"
    );
}

pub fn a_missing_disk_is_told<B: Backend>() {
    let lab = Lab::new();
    let mut spec = lab.spec::<B>("a");
    spec.disks = vec![Disk::own(lab.path().join("no-such-disk"))];
    let why = failure(start(&spec)).to_string();
    assert!(why.contains("no-such-disk: No such file"), "{why}");
}

pub fn a_disk_in_use_names_its_user<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let mut other = lab.spec::<B>("b");
    other.disks = lab.spec::<B>("a").disks;
    let why = failure(start(&other));
    let StartFailure::DiskInUse { by, .. } = &why else { panic!("{why}") };
    assert_eq!(by, "a");
    machine.kill().unwrap();
    Screen::watch(&start(&other).unwrap()).expect(READY);
}

pub fn a_missing_network_is_told<B: Backend>() {
    let lab = Lab::new();
    let mut spec = lab.spec::<B>("a");
    let namespace = lab.path().join("no-such-network");
    spec.nic =
        Some(Nic { namespace, tap: "t".into(), mac: "02:00:00:00:00:01".into(), filter: None });
    let why = failure(start(&spec)).to_string();
    assert!(why.contains("no-such-network"), "{why}");
}

pub fn outlives_its_starter<B: Backend>() {
    let lab = Lab::new();
    let spec = lab.spec::<B>("a");
    let file = lab.path().join("spec.json");
    std::fs::write(&file, serde_json::to_vec(&spec).unwrap()).unwrap();
    let mut starter = Command::new(program())
        .arg("start")
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(starter.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    starter.kill().unwrap();
    starter.wait().unwrap();
    let machine = find(&spec.run_dir).unwrap().unwrap();
    let mut screen = Screen::write(&machine);
    screen.expect(READY);
    screen.type_line("echo alive $((6 * 7))");
    screen.expect("alive 42");
}

pub fn a_killed_shim_takes_the_guest_along_and_is_told<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let number = |pid: u32| rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let open = |pid: u32| {
        rustix::process::pidfd_open(number(pid), rustix::process::PidfdFlags::empty()).unwrap()
    };
    let (vmm, shim) = (open(pid(&machine)), open(shim_pid(&machine)));
    let since = match machine.state().unwrap() {
        MachineState::Running { since, .. } => since,
        other => panic!("{other:?}"),
    };
    rustix::process::pidfd_send_signal(&shim, rustix::process::Signal::KILL).unwrap();
    for process in [&shim, &vmm] {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
        let gone = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit)).unwrap();
        assert_eq!(gone, 1, "a process outlives the shim");
    }
    let found = find(&lab.run_dir("a")).unwrap().unwrap();
    assert_eq!(found.state().unwrap(), MachineState::Lost { since });
    assert_eq!(found.wait().unwrap(), MachineState::Lost { since });
    found.kill().unwrap();
    assert!(matches!(found.usage(), Err(MachineError::NotRunning { .. })));
    let machine = lab.up::<B>("a");
    assert!(machine.state().unwrap().is_running());
}
