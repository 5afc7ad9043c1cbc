//! Changes to a running machine. What a VMM does not claim it refuses by its name, and is asked for no more.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gridgate_machine::{Capability, Change, Machine, MachineError, Rate};

use crate::lab::{Backend, Lab, PATIENCE, Screen};

/// A guest that is held says nothing for this long; one that runs says something in a thousandth of it.
const SILENCE: Duration = Duration::from_millis(500);

/// Taken from the guest, and most of it is seen to be gone.
const TAKEN: u64 = 24 << 20;
const SEEN: u64 = 16 << 20;

/// Read from a disk at [`SLOW`], bytes.
const READ: u64 = 4 << 20;
const SLOW: Rate = Rate { bytes_per_second: Some(1 << 20), operations_per_second: None };

/// Whether the change is claimed; one that is not is refused by its name.
#[allow(clippy::print_stdout, reason = "what is not claimed is shown in the test's output")]
fn claimed<B: Backend>(machine: &Machine, change: &Change) -> bool {
    let capability = change.capability();
    let claims = B::vmm().capabilities().contains(&capability);
    if !claims {
        let error = machine.change(change).unwrap_err();
        let named =
            matches!(&error, MachineError::NotClaimed { capability: of, .. } if *of == capability);
        assert!(named && error.to_string().ends_with(capability.words()), "{error}");
        println!("not claimed: {}", capability.words());
    }
    claims
}

pub fn holds_its_guest_and_lets_it_go_on<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    if !claimed::<B>(&machine, &Change::Pause) {
        return;
    }
    let mut screen = Screen::write(&machine);
    screen.type_line("while :; do echo t$((1))ck; done");
    screen.expect("t1ck");
    machine.pause().unwrap();
    assert!(machine.is_paused().unwrap());
    screen.until_silent(SILENCE);
    machine.resume().unwrap();
    assert!(!machine.is_paused().unwrap());
    screen.expect("t1ck");
    // One that is held can be stopped.
    machine.pause().unwrap();
    machine.kill().unwrap();
}

/// Has the guest wait until its available memory, in KiB, fulfils a condition of test(1) on `$a`.
fn wait_for_memory(screen: &mut Screen, condition: &str, word: &str) {
    screen.type_line(&format!(
        "while set -- $(grep MemAvailable /proc/meminfo); a=$2; ! [ {condition} ]; do :; done; echo {word}$((1))"
    ));
    screen.expect(&format!("{word}1"));
}

pub fn changes_its_guests_memory<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    if !claimed::<B>(&machine, &Change::Memory { bytes: B::MEMORY - TAKEN }) {
        return;
    }
    let mut screen = Screen::write(&machine);
    screen.type_line("set -- $(grep MemAvailable /proc/meminfo); all=$2; echo look$((1))d");
    screen.expect("look1d");
    machine.set_memory(B::MEMORY - TAKEN).unwrap();
    let less = SEEN >> 10;
    wait_for_memory(&mut screen, &format!("$a -lt $((all - {less}))"), "taken");
    machine.set_memory(B::MEMORY).unwrap();
    wait_for_memory(&mut screen, &format!("$a -gt $((all - {less}))"), "given");
}

pub fn slows_a_disk_down<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    if !claimed::<B>(&machine, &Change::DiskLimit { disk: 0, limit: SLOW }) {
        return;
    }
    let mut screen = Screen::write(&machine);
    screen.type_line("for b in /sys/class/block/*; do grep -q PARTNAME=gridgate-root $b/uevent && disk=/dev/${b##*/}; done");
    read(&mut screen);
    machine.limit_disk(0, SLOW).unwrap();
    let slow = read(&mut screen);
    // A second's worth may pass at once.
    let least = Duration::from_secs(READ / SLOW.bytes_per_second.unwrap() - 1);
    assert!(slow >= least, "{slow:?}: {least:?} are needed");
    let error = machine.limit_disk(7, SLOW).unwrap_err();
    assert!(matches!(error, MachineError::Shim { .. }), "there is no such disk: {error}");
    // As good as off: with it the next read would take longer than a test waits.
    let off = Rate { bytes_per_second: Some(4 << 10), operations_per_second: None };
    machine.limit_disk(0, off).unwrap();
    machine.limit_disk(0, Rate::default()).unwrap();
    assert!(read(&mut screen) < PATIENCE);
}

/// The guest reads from its disk, past its cache; how long that took.
fn read(screen: &mut Screen) -> Duration {
    let begin = Instant::now();
    screen.type_line(&format!(
        "sync; echo 3 >/proc/sys/vm/drop_caches; busybox dd if=$disk of=/dev/null bs=64k count={} && echo re$((1))d",
        READ >> 16
    ));
    screen.expect("re1d");
    begin.elapsed()
}

pub fn changes_its_share_of_the_cpu<B: Backend>() {
    let lab = Lab::new();
    let machine = lab.up::<B>("a");
    assert!(B::vmm().capabilities().contains(&Capability::CpuShare), "every jailed VMM claims it");
    let group = machine.spec().unwrap().limits.cgroup;
    // The host's word for a share: 100 is 1024 of cgroup v1.
    let v1 = PathBuf::from("/sys/fs/cgroup/cpu").join(&group).join("cpu.shares");
    let v2 = PathBuf::from("/sys/fs/cgroup").join(&group).join("cpu.weight");
    let share = || {
        let text = fs::read_to_string(&v1).or_else(|_| fs::read_to_string(&v2)).unwrap();
        text.trim().parse::<u64>().unwrap()
    };
    let before = share();
    machine.change(&Change::CpuShare { weight: 25 }).unwrap();
    assert_eq!(share(), before / 4);
    machine.change(&Change::CpuShare { weight: 100 }).unwrap();
    assert_eq!(share(), before);
}
