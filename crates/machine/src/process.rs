//! Telling a process from a later one that was given the same number.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A process of this boot of this host: the number alone may be used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// Process number.
    pub pid: u32,
    /// Start time in clock ticks since boot: field 22 of `/proc/PID/stat`, proc_pid_stat(5).
    pub start: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
}

impl ProcessId {
    /// The process `pid`, if there is one; one that has ended counts until it was waited for.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let (start, _) = read_stat(pid)?;
        Some(Self { pid, start, boot: boot_id()? })
    }

    /// This process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Whether this very process still runs.
    pub(crate) fn is_alive(&self) -> bool {
        read_stat(self.pid) == Some((self.start, Life::Runs))
            && boot_id().as_deref() == Some(&self.boot)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Runs,
    /// It has ended and nobody has waited for it yet.
    Ended,
}

/// The first child that is found of process `pid`.
pub(crate) fn child_of(pid: u32) -> Option<ProcessId> {
    let processes = std::fs::read_dir("/proc").ok()?;
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .find(|found| parent_of(*found) == Some(pid))
        .and_then(ProcessId::of)
}

/// Field 4 of `/proc/PID/stat`.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(") ")?;
    after.split(' ').nth(1)?.parse().ok()
}

fn read_stat(pid: u32) -> Option<(u64, Life)> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command's name, in parentheses, may itself contain spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(u64, Life)> {
    let (_, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split(' ');
    let life = match fields.next()? {
        "Z" | "X" => Life::Ended,
        _ => Life::Runs,
    };
    Some((fields.nth(18)?.parse().ok()?, life))
}

/// CPU time of a process: fields 14 and 15 of `/proc/PID/stat`.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split(' ').skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    // USER_HZ, the unit of times in /proc, is 100 on every architecture of Debian.
    Some(Duration::from_millis(ticks * 10))
}

fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_no_other() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive());
        assert!(!ProcessId { start: own.start + 1, ..own.clone() }.is_alive());
        assert!(!ProcessId { boot: "another".into(), ..own }.is_alive());
    }

    #[test]
    fn start_time_is_found_behind_an_awkward_name() {
        let tail = "1 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4711 99 0";
        assert_eq!(parse_stat(&format!("7 (a) b (c) S {tail}")), Some((4711, Life::Runs)));
        assert_eq!(parse_stat(&format!("7 (a) b (c) Z {tail}")), Some((4711, Life::Ended)));
    }
}
