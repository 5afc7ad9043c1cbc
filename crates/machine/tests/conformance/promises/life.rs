//! Start, stop, kill, restart.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use gridgate_machine::{
    Exit, Machine, MachineError, MachineState, StartFailure, StopOutcome, find,
};

use crate::guest::READY;
use crate::lab::{Backend, Lab, PATIENCE, Screen, start};

/// Longer than until a guest that may not listen yet is asked a second time.
const BEYOND_A_SECOND: Duration = Duration::from_secs(4);

fn exit(state: &MachineState) -> &Exit {
    match state {
        MachineState::Stopped { exit, .. } => exit,
        other => panic!("not stopped: {other:?}"),
    }
}

pub fn launches_and_boots<B: Backend>() {
    let lab = Lab::new();
    assert!(find(&lab.run_dir("a")).unwrap().is_none(), "never started");
    let machine = lab.up::<B>("a");
    assert!(machine.state().unwrap().is_running());
    let found = find(&lab.run_dir("a")).unwrap().unwrap();
    assert_eq!(found.state().unwrap(), machine.state().unwrap());
    assert_eq!(found.spec().unwrap(), lab.spec::<B>("a"));
    assert!(machine.last_line().is_some());
}

pub fn stops_gracefully<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    assert_eq!(machine.stop(PATIENCE).unwrap(), StopOutcome::Graceful);
    assert_eq!(exit(&machine.state().unwrap()), &Exit::PoweredOff);
    assert_eq!(machine.wait().unwrap(), machine.state().unwrap());
    assert_eq!(machine.stop(PATIENCE).unwrap(), StopOutcome::WasStopped);
}

pub fn stops_gracefully_when_asked_before_the_guest_is_up<B: Backend>() {
    let lab = Lab::new();
    let machine = start(&lab.spec::<B>("a")).unwrap();
    assert_eq!(machine.stop(PATIENCE).unwrap(), StopOutcome::Graceful);
}

/// A guest whose init is a shell that does this when it is told of Ctrl-Alt-Del.
fn shell_as_init<B: Backend>(lab: &Lab, on_signal: &str) -> (Machine, Screen) {
    let mut spec = lab.spec::<B>("a");
    // The shell is init: the kernel ignores a signal that init has no handler for.
    spec.kernel_arguments.retain(|argument| !argument.starts_with("init="));
    spec.kernel_arguments.push("init=/bin/sh".into());
    let machine = start(&spec).unwrap();
    let mut screen = Screen::write(&machine);
    screen.expect("# ");
    screen.type_line(&format!(
        "trap '{on_signal}' INT; mount -t proc proc /proc; echo 0 > /proc/sys/kernel/ctrl-alt-del; echo s$((1))t"
    ));
    screen.expect("s1t");
    (machine, screen)
}

/// A guest whose init does not answer to the power button.
fn stubborn<B: Backend>(lab: &Lab) -> Machine {
    shell_as_init::<B>(lab, "").0
}

/// An init that installs its handler late misses the first press, and nobody is told.
pub fn a_guest_that_missed_the_button_is_asked_again<B: Backend>() {
    let lab = Lab::new();
    let second = "[ $missed ] && poweroff -f; missed=yes; echo missed $((1))";
    let (machine, mut screen) = shell_as_init::<B>(&lab, second);
    let stopping = machine.begin_stop(PATIENCE).unwrap();
    screen.expect("missed 1");
    assert_eq!(stopping.wait().unwrap(), StopOutcome::Graceful);
}

/// While it shuts down, a second press might have its kernel restart it at once.
pub fn a_guest_that_listens_is_asked_once<B: Backend>() {
    let lab = Lab::new();
    let (machine, mut screen) = shell_as_init::<B>(&lab, "echo pr$((1))ssed");
    assert_eq!(machine.stop_listening(BEYOND_A_SECOND).unwrap(), StopOutcome::Killed);
    screen.rest();
    assert_eq!(screen.seen.matches("pr1ssed").count(), 1, "{}", screen.seen);
}

pub fn a_guest_that_will_not_stop_is_killed_at_the_limit<B: Backend>() {
    let lab = Lab::new();
    let machine = stubborn::<B>(&lab);
    let limit = Duration::from_millis(700);
    let begin = Instant::now();
    assert_eq!(machine.stop(limit).unwrap(), StopOutcome::Killed);
    assert!(begin.elapsed() >= limit);
    assert_eq!(exit(&machine.state().unwrap()), &Exit::Killed);
}

pub fn an_interrupted_stop_kills_nothing<B: Backend>() {
    let lab = Lab::new();
    let machine = stubborn::<B>(&lab);
    let stopping = machine.begin_stop(PATIENCE).unwrap();
    let interrupter = stopping.interrupter().unwrap();
    let waiting = std::thread::spawn(move || stopping.wait());
    interrupter.shutdown(Shutdown::Both).unwrap();
    assert!(matches!(waiting.join().unwrap(), Err(MachineError::Interrupted)));
    let mut screen = Screen::write(&machine);
    screen.type_line("echo still $((40 + 2))");
    screen.expect("still 42");
}

pub fn kills<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let waiter = machine.clone();
    let waiting = std::thread::spawn(move || waiter.wait().unwrap());
    machine.kill().unwrap();
    assert_eq!(exit(&machine.state().unwrap()), &Exit::Killed);
    assert_eq!(waiting.join().unwrap(), machine.state().unwrap());
    machine.kill().unwrap();
}

pub fn restarts_on_the_same_disk<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let mut screen = Screen::write(&machine);
    screen.type_line("echo kept > /note; sync; echo do$((1))ne");
    screen.expect("do1ne");
    assert_eq!(machine.stop(PATIENCE).unwrap(), StopOutcome::Graceful);
    let machine = lab.up::<B>("a");
    let mut screen = Screen::write(&machine);
    screen.type_line("echo it was $(cat /note)");
    screen.expect("it was kept");
}

pub fn a_guest_may_reboot_itself<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let mut screen = Screen::write(&machine);
    screen.expect(READY);
    screen.type_line("reboot");
    screen.expect("Restarting system");
    screen.expect(READY);
    assert!(machine.state().unwrap().is_running());
    assert_eq!(machine.stop(PATIENCE).unwrap(), StopOutcome::Graceful);
}

pub fn a_second_start_is_refused<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let error = start(&lab.spec::<B>("a")).unwrap_err();
    let MachineError::Start { why, .. } = &error else { panic!("{error}") };
    assert_eq!(*why, StartFailure::AlreadyRunning);
    assert!(machine.state().unwrap().is_running());
}

pub fn two_run_at_once<B: Backend>() {
    let lab = Lab::new();
    let (one, two) = (start(&lab.spec::<B>("a")).unwrap(), start(&lab.spec::<B>("b")).unwrap());
    for machine in [&one, &two] {
        Screen::watch(machine).expect(READY);
    }
    one.kill().unwrap();
    let mut screen = Screen::write(&two);
    screen.type_line("echo alive $((6 * 7))");
    screen.expect("alive 42");
}

pub fn a_probe_boots_a_kernel<B: Backend>() {
    let lab = Lab::new();
    let launcher = gridgate_machine::Launcher::new(crate::lab::program());
    let scratch = lab.path().join("probe");
    let proof = gridgate_machine::probe(&launcher, &B::vmm(), &scratch, lab.uid).unwrap();
    assert!(proof.release.starts_with(|c: char| c.is_ascii_digit()), "{proof:?}");
    assert!(!scratch.exists());
    gridgate_machine::probe(&launcher, &B::bad_kernel(), &scratch, lab.uid).unwrap_err();
    assert!(!scratch.exists());
}
