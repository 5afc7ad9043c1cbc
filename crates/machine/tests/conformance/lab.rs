//! One test's own place: a run directory, a disk, a user, a control group. All of
//! it goes with the value, machines first.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gridgate_machine::{
    Console, ConsoleAccess, Disk, Launcher, Limits, Machine, MachineError, MachineSpec,
    MachineState, VmmSpec,
};

use crate::archive::run;
use crate::guest;

/// A guest is up long before, in the Xen lab on a busy host too; a test fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What a VMM may take beside the guest's memory, bytes.
pub const OVERHEAD: u64 = 160 << 20;

/// What differs between VMMs in these tests.
pub trait Backend {
    /// What the guest boots in, bytes.
    const MEMORY: u64;
    /// Whether each of the guest's processes is one of the host's.
    const PROCESSES_ARE_THE_HOSTS: bool;

    /// The VMM, fit to boot the guest.
    fn vmm() -> VmmSpec;
    /// The same with something that is not a kernel.
    fn bad_kernel() -> VmmSpec;
}

/// The program with the hidden commands.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_gridgate-machine-lab"))
}

/// A test's place.
pub struct Lab {
    folder: tempfile::TempDir,
    pub uid: u32,
    namespace: Option<String>,
}

impl Lab {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let uid = 71_000_000
            + (std::process::id() % 10_000) * 100
            + NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { folder: tempfile::tempdir().unwrap(), uid, namespace: None }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn run_dir(&self, name: &str) -> PathBuf {
        self.path().join("nodes").join(name).join("run")
    }

    /// A machine with a fresh disk.
    pub fn spec<B: Backend>(&self, name: &str) -> MachineSpec {
        let run_dir = self.run_dir(name);
        let disk = run_dir.with_file_name("disk.img");
        if !disk.exists() {
            std::fs::create_dir_all(run_dir.parent().unwrap()).unwrap();
            guest::disk(&disk);
        }
        MachineSpec {
            name: name.into(),
            vmm: B::vmm(),
            uid: self.uid,
            gid: self.uid,
            memory: B::MEMORY,
            cpus: 1,
            disks: vec![Disk::own(disk)],
            nic: None,
            clock: None,
            kernel_arguments: guest::kernel_arguments(),
            run_dir,
            limits: Limits {
                cgroup: format!("gridgate-test/{}/{name}", self.uid),
                memory_max: Some(B::MEMORY + OVERHEAD),
                pids_max: Some(200),
                cpu_weight: Some(100),
                one_processor: B::PROCESSES_ARE_THE_HOSTS,
            },
        }
    }

    /// Starts it and waits until its guest is up.
    pub fn up<B: Backend>(&self, name: &str) -> Machine {
        let machine = start(&self.spec::<B>(name)).unwrap();
        Screen::watch(&machine).expect(guest::READY);
        machine
    }

    /// A network namespace with a persistent tap of this lab's user.
    pub fn network(&mut self, tap: &str) -> PathBuf {
        let name = format!("ggm-{}", self.uid);
        let ip = |words: &[&str]| run(Command::new("ip").args(words));
        ip(&["netns", "add", &name]);
        self.namespace = Some(name.clone());
        let user = self.uid.to_string();
        ip(&["-n", &name, "tuntap", "add", "dev", tap, "mode", "tap", "user", &user]);
        ip(&["-n", &name, "link", "set", tap, "up"]);
        Path::new("/run/netns").join(name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for node in std::fs::read_dir(self.path().join("nodes")).into_iter().flatten().flatten() {
            if let Ok(Some(machine)) = gridgate_machine::find(&node.path().join("run")) {
                // A test that failed has said why; this only tidies.
                let _ = machine.kill();
            }
        }
        if let Some(name) = &self.namespace {
            run(Command::new("ip").args(["netns", "del", name]));
        }
    }
}

pub fn start(spec: &MachineSpec) -> Result<Machine, MachineError> {
    Launcher::new(program()).start(spec)
}

pub fn pid(machine: &Machine) -> u32 {
    match machine.state().unwrap() {
        MachineState::Running { pid, .. } => pid,
        other => panic!("not running: {other:?}"),
    }
}

/// The shim's process, as recorded.
pub fn shim_pid(machine: &Machine) -> u32 {
    let text = std::fs::read(machine.run_dir().join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&text).unwrap();
    u32::try_from(state["shim"]["pid"].as_u64().unwrap()).unwrap()
}

/// A field of `/proc/PID/status`.
pub fn status(pid: u32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

/// A console that is read until something expected appears.
pub struct Screen {
    console: Console,
    /// All that was read.
    pub seen: String,
    /// Up to here it was compared.
    mark: usize,
}

impl Screen {
    pub fn open(machine: &Machine, access: ConsoleAccess) -> Result<Self, MachineError> {
        Ok(Self { console: machine.console(access)?, seen: String::new(), mark: 0 })
    }

    pub fn watch(machine: &Machine) -> Self {
        Self::open(machine, ConsoleAccess::Watch).unwrap()
    }

    pub fn write(machine: &Machine) -> Self {
        Self::open(machine, ConsoleAccess::Write).unwrap()
    }

    pub fn type_line(&mut self, line: &str) {
        self.console.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Reads until `text` appears behind what was found before.
    pub fn expect(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen[self.mark..].find(text) {
                self.mark += at + text.len();
                return;
            }
            assert!(self.more(end), "end of the console before {text:?}:\n{}", self.seen);
        }
    }

    /// Reads to the end of the stream.
    pub fn rest(&mut self) {
        let end = Instant::now() + PATIENCE;
        while self.more(end) {}
    }

    /// Reads until nothing comes for `time`; what follows is compared with what comes then.
    pub fn until_silent(&mut self, time: Duration) {
        let end = Instant::now() + PATIENCE;
        while self.ready(time) {
            assert!(Instant::now() < end, "no silence");
            assert!(self.take(), "end of the console");
        }
        self.mark = self.seen.len();
    }

    fn more(&mut self, end: Instant) -> bool {
        let ready = self.ready(end.saturating_duration_since(Instant::now()));
        assert!(ready, "nothing more on the console:\n{}", self.seen);
        self.take()
    }

    /// Whether something comes within `time`.
    fn ready(&self, time: Duration) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let time = Timespec::try_from(time).unwrap();
        poll(&mut [PollFd::new(&self.console, PollFlags::IN)], Some(&time)).unwrap() > 0
    }

    /// Reads what is there; false at the end.
    fn take(&mut self) -> bool {
        let mut bytes = [0; 64 << 10];
        match self.console.read(&mut bytes) {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
                true
            }
        }
    }
}
