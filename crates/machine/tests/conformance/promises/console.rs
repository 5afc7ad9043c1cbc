//! The guest's console: in and out, history, one writer, bounded.

use gridgate_machine::{ConsoleAccess, MachineError};

use crate::guest::READY;
use crate::lab::{Backend, Lab, PATIENCE, Screen, shim_pid, status};

pub fn speaks_and_listens<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let mut screen = Screen::write(&machine);
    screen.type_line("echo sum $((40 + 2))");
    screen.expect("sum 42");
    screen.expect("# ");
    assert!(machine.last_line().unwrap().contains('#'), "{:?}", machine.last_line());
}

pub fn shows_history_first<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let mut screen = Screen::watch(&machine);
    screen.expect("Linux version");
    screen.expect(READY);
}

pub fn a_second_writer_is_refused<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let first = Screen::write(&machine);
    let second = Screen::open(&machine, ConsoleAccess::Write);
    let Err(MachineError::ConsoleTaken { pid }) = second else { panic!("a second writer") };
    assert_eq!(pid, std::process::id());
    drop(first);
}

pub fn stealing_works<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let mut first = Screen::write(&machine);
    let mut second = Screen::open(&machine, ConsoleAccess::Steal).unwrap();
    first.rest();
    assert!(first.seen.contains("took over the console"), "{}", first.seen);
    second.type_line("echo mine $((6 * 7))");
    second.expect("mine 42");
}

pub fn many_may_watch<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let mut watchers: Vec<Screen> = (0..5).map(|_| Screen::watch(&machine)).collect();
    let mut writer = Screen::write(&machine);
    watchers[0].type_line("echo not $((1 + 1)) obeyed");
    writer.type_line("echo for all $((6 * 7))");
    for screen in watchers.iter_mut().chain([&mut writer]) {
        screen.expect("for all 42");
        assert!(!screen.seen.contains("not 2 obeyed"));
    }
    machine.stop(PATIENCE).unwrap();
    for screen in &mut watchers {
        screen.rest();
    }
}

/// Several times the history and what a socket holds. User-Mode Linux takes some
/// seconds for a megabyte.
const FLOOD: &str =
    "yes 0123456789abcdefghijklmnopqrstuvwxyz | busybox head -c 1200000; echo over $((1))";

pub fn a_flood_neither_blocks_nor_grows<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let mut screen = Screen::write(&machine);
    screen.type_line(FLOOD);
    screen.expect("over 1");
    let shim = shim_pid(&machine);
    let peak: u64 = status(shim, "VmHWM").trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 10 << 10, "the shim grew to {peak} KiB");
}

pub fn a_reader_that_does_not_read_blocks_nobody<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    let mut idle = Screen::watch(&machine);
    let mut screen = Screen::write(&machine);
    screen.type_line(FLOOD);
    screen.expect("over 1");
    idle.expect("bytes were left out");
    idle.expect("over 1");
}
