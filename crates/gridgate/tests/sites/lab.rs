//! A home of its own, the binary under test, and ways to hurt it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use tempfile::TempDir;

use crate::overdue::Guard;

/// A site's home and its profile.
pub struct Lab {
    pub home: TempDir,
    folder: TempDir,
    pub site: &'static str,
    /// What the kernel held of sites of this name before this one was made.
    pub before: Vec<String>,
}

impl Lab {
    pub fn new(site: &'static str, profile: &str) -> Lab {
        assert!(rustix::process::geteuid().is_root(), "this test makes machines and needs root");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let lab = Lab {
            home: TempDir::with_prefix_in("home-", target).expect("a home"),
            folder: TempDir::with_prefix_in("site-", target).expect("a folder"),
            site,
            before: crate::traces::kernel_objects(site),
        };
        lab.write_profile(profile);
        lab
    }

    pub fn write_profile(&self, text: &str) {
        fs::write(self.folder.path().join("site.toml"), text).expect("the profile is written");
    }

    /// Puts a component of the site's own beside the profile.
    pub fn write_component(&self, name: &str, text: &str) {
        let folder = self.folder.path().join("components").join(name);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("component.toml"), text).expect("the component is written");
    }

    pub fn profile(&self) -> String {
        self.folder.path().join("site.toml").display().to_string()
    }

    pub fn chapter(&self, title: &str, work: impl FnOnce()) {
        let began = Instant::now();
        println!("-- {title}");
        let guard = Guard::over(title, self.home.path());
        work();
        assert!(guard.in_time(), "{title} did not come to its end; see above");
        println!("-- {title}: {:.1} s", began.elapsed().as_secs_f64());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gridgate"));
        command.env("GRIDGATE_HOME", self.home.path()).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("gridgate starts")
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "gridgate {arguments:?}: {}\n{stdout}\n{}\ndaemon log:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.daemon_log(),
        );
        stdout
    }

    fn daemon_log(&self) -> String {
        let text = fs::read_to_string(self.home.path().join("daemon.log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub fn text(&self, arguments: &[&str]) -> String {
        self.succeed(arguments)
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.succeed(arguments)).expect("one JSON document")
    }

    pub fn events(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.succeed(arguments);
        text.lines().map(|line| serde_json::from_str(line).expect("one event a line")).collect()
    }

    pub fn spawn(&self, arguments: &[&str]) -> Running {
        let mut child =
            self.command(arguments).stdout(Stdio::piped()).spawn().expect("gridgate starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Running { child, stdout, events: Vec::new() }
    }

    pub fn daemon_pid(&self) -> u32 {
        let text =
            fs::read_to_string(self.home.path().join("daemon.pid")).expect("a daemon's pid file");
        text.trim().parse().expect("a pid")
    }

    pub fn kill_daemon(&self) {
        kill_and_wait(self.daemon_pid());
    }

    pub fn run_dir(&self, node: &str) -> PathBuf {
        self.home.path().join(format!("sites/{}/nodes/{node}/run", self.site))
    }

    fn state(&self, node: &str) -> Value {
        let text = fs::read(self.run_dir(node).join("state.json")).expect("a machine's state");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// Pid of the process that a shim owns, by node; nodes whose machine has ended have none.
    pub fn machine_pids(&self) -> BTreeMap<String, u32> {
        let nodes = fs::read_dir(self.home.path().join(format!("sites/{}/nodes", self.site)))
            .expect("nodes");
        let names = nodes.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let running = names.map(|name| (self.state(&name)["phase"]["vmm"].clone(), name));
        running.filter(|(vmm, _)| vmm.is_object()).map(|(vmm, name)| (name, pid(&vmm))).collect()
    }

    pub fn machine_pids_but(&self, node: &str) -> BTreeMap<String, u32> {
        let mut pids = self.machine_pids();
        pids.remove(node);
        pids
    }

    pub fn kill_shim(&self, node: &str) {
        kill_and_wait(pid(&self.state(node)["shim"]));
    }

    pub fn kill_machine(&self, node: &str) {
        kill_and_wait(pid(&self.state(node)["phase"]["vmm"]));
    }

    /// Returns when nothing holds the node's disk any more: its machine and its shim are gone.
    pub fn wait_for_end(&self, node: &str) {
        let disk = self.home.path().join(format!("sites/{}/nodes/{node}/fs/disk.img", self.site));
        let file = fs::File::open(disk).expect("a disk");
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .expect("the disk is free");
    }
}

impl Drop for Lab {
    /// Also after a failed chapter nothing may be left.
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!("daemon log:\n{}", self.daemon_log());
        }
        let output = self.run(&["destroy", "--yes"]);
        if failed {
            eprintln!("destroy: {}", String::from_utf8_lossy(&output.stderr));
        }
        self.run(&["daemon", "stop"]);
    }
}

/// A `gridgate` under way.
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// What was read of it.
    pub events: Vec<Value>,
}

impl Running {
    pub fn read_until(&mut self, wanted: impl Fn(&Value) -> bool) {
        loop {
            let event = self.next().expect("the events ended before the one waited for");
            if wanted(&event) {
                return;
            }
        }
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line).expect("readable output") == 0 {
            return None;
        }
        let event: Value = serde_json::from_str(&line).expect("one event a line");
        self.events.push(event.clone());
        Some(event)
    }

    /// All its events, when it has ended, and how it did.
    pub fn all(mut self) -> (Vec<Value>, ExitStatus) {
        while self.next().is_some() {}
        (std::mem::take(&mut self.events), self.child.wait().expect("an end"))
    }

    /// As Ctrl-C; returns when it has ended.
    pub fn interrupt(self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        kill_process(pid, Signal::INT).expect("it can be told");
        self.end();
    }

    pub fn end(mut self) -> ExitStatus {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.stdout, &mut rest).expect("readable output");
        self.child.wait().expect("an end")
    }
}

fn pid(process: &Value) -> u32 {
    let pid = process["pid"].as_u64().unwrap_or_else(|| panic!("no pid in {process}"));
    u32::try_from(pid).expect("a pid")
}

/// Kills a process that this test started, and returns when it is gone.
fn kill_and_wait(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    let handle = pidfd_open(pid, PidfdFlags::empty()).expect("the process lives");
    kill_process(pid, Signal::KILL).expect("it can be killed");
    let mut poll = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut poll, None).expect("its end is seen");
}

pub fn done(events: &[Value]) -> &Value {
    let last = events.last().expect("events");
    assert!(last["done"].is_object(), "the last event is {last}");
    &last["done"]
}

pub fn node<'a>(status: &'a Value, name: &str) -> &'a Value {
    let nodes = status["nodes"].as_array().expect("nodes");
    nodes.iter().find(|node| node["name"] == name).expect("the node is listed")
}

/// The plan's steps as `node action`.
pub fn steps(events: &[Value]) -> Vec<String> {
    let plan = events.iter().find_map(|event| event["plan"]["steps"].as_array()).expect("a plan");
    plan.iter()
        .map(|step| {
            let text = |key: &str| step[key].as_str().unwrap_or_default();
            format!("{} {}", text("node"), text("action")).trim().to_owned()
        })
        .collect()
}
