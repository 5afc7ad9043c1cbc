//! What a machine uses of its host.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::process;

/// What a running machine uses of its host, over all its processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time since its start. Where the host has no accounting by control group,
    /// only of the processes that run now.
    pub cpu_time: Duration,
    /// Proportional set size, bytes: a page shared by several processes counts once.
    pub pss: u64,
    /// Resident set size of the VMM's first process, bytes.
    pub rss: u64,
    /// What its control group is charged with, bytes: page cache included.
    pub charged: Option<u64>,
    /// Host processes.
    pub processes: u32,
    /// Resident set size of its shim, bytes.
    pub shim_rss: u64,
}

/// Usage of the VMM `pid`, of its control group and of its shim.
pub(crate) fn measure(pid: u32, shim: u32, cgroup: &str) -> io::Result<Usage> {
    let group = Group::of(cgroup)?;
    let mut pids = group.processes();
    if pids.is_empty() {
        pids.push(pid);
    }
    let rss = memory_of(pid, "Rss:")?;
    // A guest's process may end between the list and the look.
    let pss = pids.iter().filter_map(|pid| memory_of(*pid, "Pss:").ok()).sum();
    Ok(Usage {
        cpu_time: group
            .cpu_time()
            .unwrap_or_else(|| pids.iter().filter_map(|pid| process::cpu_time(*pid)).sum()),
        pss,
        rss,
        charged: group.memory(),
        processes: u32::try_from(pids.len()).unwrap_or(u32::MAX),
        shim_rss: memory_of(shim, "Rss:")?,
    })
}

/// A field of `/proc/PID/smaps_rollup`, bytes.
fn memory_of(pid: u32, field: &str) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kib| kib << 10)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
