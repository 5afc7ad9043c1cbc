//! A machine for tests: its own tree, systemctl and dpkg only written down,
//! every other program really run.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use gridgate_protocol::agent_api::Identity;

use crate::network::NetworkError;
use crate::process::{self, Call, Finished};
use crate::system::{System, UnitStatus};

/// Longest that a test waits for an event before it counts as missing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct TestMachine {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    calls: Vec<Vec<String>>,
    notes: Vec<String>,
    states: BTreeMap<String, UnitStatus>,
    /// What comes of jobs.
    ends: BTreeMap<String, UnitStatus>,
    complaints: BTreeMap<String, String>,
}

impl TestMachine {
    /// What systemd answers for a unit; `inactive` until told otherwise.
    pub(crate) fn set_state(&self, unit: &str, state: &str) {
        let status = UnitStatus::new(state);
        self.inner.lock().unwrap().states.insert(unit.to_owned(), status);
    }

    /// The same while systemd has a job for it.
    pub(crate) fn set_job(&self, unit: &str, state: &str, job: &str) {
        let status = UnitStatus { job: Some(job.to_owned()), ..UnitStatus::new(state) };
        self.inner.lock().unwrap().states.insert(unit.to_owned(), status);
    }

    /// What is seen of a unit when its jobs are waited for, instead of what was asked for.
    pub(crate) fn end_in(&self, unit: &str, status: UnitStatus) {
        self.inner.lock().unwrap().ends.insert(unit.to_owned(), status);
    }

    /// Makes every systemctl call that names `unit` fail with these words.
    pub(crate) fn complain(&self, unit: &str, words: &str) {
        self.inner.lock().unwrap().complaints.insert(unit.to_owned(), words.to_owned());
    }

    /// The calls of systemctl and dpkg since the last look.
    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = std::mem::take(&mut self.inner.lock().unwrap().calls);
        calls.iter().map(|call| call.join(" ")).collect()
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.inner.lock().unwrap().notes.clone()
    }

    /// Waits until systemd was told something that starts so.
    pub(crate) fn wait_note(&self, start: &str) {
        let inner = self.inner.lock().unwrap();
        let missing = |inner: &mut Inner| !inner.notes.iter().any(|note| note.starts_with(start));
        let (_inner, waited) = self.changed.wait_timeout_while(inner, PATIENCE, missing).unwrap();
        assert!(!waited.timed_out(), "systemd was never told {start}");
    }
}

impl System for TestMachine {
    fn run(&self, call: &Call) -> io::Result<Finished> {
        if !matches!(call.command[0].as_str(), "systemctl" | "dpkg") {
            let mut call = call.clone();
            // Becoming oneself needs no rights.
            let own = rustix::process::geteuid().as_raw();
            call.login = call.login.filter(|login| login.uid != own);
            return process::run(&call);
        }
        let mut inner = self.inner.lock().unwrap();
        inner.calls.push(call.command.clone());
        let words = call.command.iter().find_map(|part| inner.complaints.get(part)).cloned();
        Ok(Finished {
            exit_code: i32::from(words.is_some()),
            timed_out: false,
            stdout: Vec::new(),
            stderr: words.unwrap_or_default().into_bytes(),
            elapsed: Duration::ZERO,
        })
    }

    fn unit_states(&self, units: &[&str]) -> io::Result<Vec<UnitStatus>> {
        let states = &self.inner.lock().unwrap().states;
        let inactive = UnitStatus::new("inactive");
        Ok(units.iter().map(|unit| states.get(*unit).unwrap_or(&inactive).clone()).collect())
    }

    fn settled(&self, units: &[&str], _limit: Duration) -> io::Result<Vec<UnitStatus>> {
        let inner = self.inner.lock().unwrap();
        let asked = |unit: &&str| {
            let mut calls = inner.calls.iter().rev();
            let stopped = calls.find(|call| call.iter().any(|part| part == unit));
            let stopped = stopped.is_some_and(|call| call[1] == "stop");
            UnitStatus::new(if stopped { "inactive" } else { "active" })
        };
        Ok(units.iter().map(|u| inner.ends.get(*u).cloned().unwrap_or_else(|| asked(u))).collect())
    }

    fn bring_up(&self, _identity: &Identity) -> Result<(), NetworkError> {
        Ok(())
    }

    fn prepare_disks(&self) {}

    fn notify(&self, message: &str) {
        self.inner.lock().unwrap().notes.push(message.to_owned());
        self.changed.notify_all();
    }
}

/// A root with account files in which `root` is whoever runs the tests.
pub(crate) fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let etc = root.path().join("etc");
    std::fs::create_dir_all(etc.join("skel")).unwrap();
    std::fs::create_dir_all(root.path().join("var/lib/dpkg")).unwrap();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let write = |name: &str, text: String| std::fs::write(etc.join(name), text).unwrap();
    write("passwd", format!("root:x:{uid}:{gid}:root:/:/bin/sh\n"));
    write("group", format!("root:x:{gid}:\n"));
    write("shadow", "root:*:1:0:99999:7:::\n".to_owned());
    write("gshadow", "root:*::\n".to_owned());
    write("skel/.profile", "umask 022\n".to_owned());
    root
}

/// `path` below `root`.
pub(crate) fn at(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}
