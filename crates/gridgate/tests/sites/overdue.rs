//! A chapter that does not come to its end: told with all that is still going on, then ended, so that the test fails and
//! cleans up instead of holding up everybody for ever. No chapter takes a tenth of this time.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::traces;

const LIMIT: Duration = Duration::from_secs(900);

/// Lines of each log that are shown.
const LINES: usize = 25;

/// Watches over a chapter until it is dropped.
pub struct Guard {
    /// Closed when the chapter ends.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<bool>>,
}

impl Guard {
    pub fn over(title: &str, home: &Path) -> Guard {
        let (end, ends) = channel::<()>();
        let (title, home) = (title.to_owned(), home.to_owned());
        let watch = move || {
            let overdue = ends.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
            if overdue {
                tell(&title, &home);
                end_all(&home);
            }
            overdue
        };
        Guard { end: Some(end), thread: Some(std::thread::spawn(watch)) }
    }

    /// The chapter has ended: in time?
    pub fn in_time(mut self) -> bool {
        !self.close()
    }

    fn close(&mut self) -> bool {
        drop(self.end.take());
        self.thread.take().is_some_and(|thread| thread.join().unwrap_or(true))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.close();
    }
}

/// Past the test's own capture of output, which would be shown only after an end.
fn tell(title: &str, home: &Path) {
    let mut text = format!("\n== overdue after {} s: {title}\n", LIMIT.as_secs());
    for (pid, command) in all(home) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "process {pid}: {command}");
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let stack = fs::read_to_string(thread.path().join("stack")).unwrap_or_default();
            let calls: Vec<_> = stack.lines().filter_map(|l| l.split_whitespace().nth(1)).collect();
            let _ = writeln!(text, "  {}: {}", thread.file_name().display(), calls.join(" "));
        }
    }
    for log in logs(home) {
        let content = fs::read(&log).unwrap_or_default();
        let content = String::from_utf8_lossy(&content);
        let lines: Vec<_> = content.lines().collect();
        let _ = writeln!(text, "-- {}", log.display());
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            let _ = writeln!(text, "{line}");
        }
    }
    // There is nobody to tell that it cannot be told.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Machines, shims, what else names the home, and its daemon, which does not.
fn all(home: &Path) -> Vec<(u32, String)> {
    let mut found = traces::processes_naming(&home.display().to_string());
    let daemon = fs::read_to_string(home.join("daemon.pid")).ok();
    let daemon = daemon.and_then(|text| text.trim().parse::<u32>().ok());
    let command = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).ok();
    if let Some(pid) = daemon
        && let Some(command) = command(pid).filter(|command| command.contains("daemon"))
        && found.iter().all(|(known, _)| *known != pid)
    {
        found.push((pid, command.replace('\0', " ")));
    }
    found
}

/// The daemon's, and of each node what its machine is and said.
fn logs(home: &Path) -> Vec<PathBuf> {
    let mut found = vec![home.join("daemon.log")];
    for run in runs(home) {
        found.extend(["state.json", "shim.log", "console.log"].map(|name| run.join(name)));
    }
    found
}

/// Run directories of all nodes.
fn runs(home: &Path) -> impl Iterator<Item = PathBuf> {
    let folders = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    folders(home.join("sites"))
        .flat_map(move |site| folders(site.path().join("nodes")))
        .map(|node| node.path().join("run"))
}

/// Whatever the chapter waits for is one of these, or ends with it.
fn end_all(home: &Path) {
    for (pid, _) in all(home) {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
        // It may have ended meanwhile.
        let _ = kill_process(pid, Signal::KILL);
    }
}
