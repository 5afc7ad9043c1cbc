//! Telling a process from a later one that was given the same number.

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
    /// The process `pid`, if there is one.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, start: start_time(pid)?, boot: boot_id()? })
    }

    /// This process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Whether this very process still runs (a zombie does not).
    pub(crate) fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }
}

fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_start_time(&stat)
}

/// `None` for a zombie. The command's name, in parentheses, may itself contain
/// spaces and parentheses.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
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
        assert_eq!(parse_start_time(&format!("7 (a) b (c) S {tail}")), Some(4711));
        assert_eq!(parse_start_time(&format!("7 (a) b (c) Z {tail}")), None);
    }
}
