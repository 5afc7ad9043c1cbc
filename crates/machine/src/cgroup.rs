//! Limits and accounting by control groups, version 1, version 2 or both at once
//! (each controller is in one of them): cgroups(7), the kernel's
//! `Documentation/admin-guide/cgroup-v1` and `cgroup-v2.rst`.
//!
//! A group belongs to one machine. It never touches a group it was not named.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::spec::Limits;

/// The controllers that are used where they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    Memory,
    Pids,
    Cpu,
    /// Version 1 only; in version 2 it is part of `cpu`.
    CpuAccounting,
}

impl Controller {
    const ALL: [Self; 4] = [Self::Memory, Self::Pids, Self::Cpu, Self::CpuAccounting];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
            Self::CpuAccounting => "cpuacct",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where the host mounts each controller's hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Hierarchies(BTreeMap<Controller, (Version, PathBuf)>);

impl Hierarchies {
    fn of_host() -> io::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self::parse(&mounts, |mount| {
            std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default()
        }))
    }

    /// `mounts` as in proc_pid_mountinfo(5); `controllers` of a version 2 mount.
    fn parse(mounts: &str, controllers: impl Fn(&Path) -> String) -> Self {
        let mut found = BTreeMap::new();
        for line in mounts.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut right = right.split(' ');
            let (version, names) = match (right.next(), right.nth(1)) {
                (Some("cgroup"), Some(options)) => {
                    (Version::One, options.split(',').map(str::to_owned).collect::<Vec<_>>())
                }
                (Some("cgroup2"), _) => (
                    Version::Two,
                    controllers(&mount).split_whitespace().map(str::to_owned).collect(),
                ),
                _ => continue,
            };
            for controller in Controller::ALL {
                if names.iter().any(|name| name == controller.name()) {
                    found.entry(controller).or_insert_with(|| (version, mount.clone()));
                }
            }
        }
        Self(found)
    }
}

/// One machine's group: a directory in each hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    directories: BTreeMap<Controller, (Version, PathBuf)>,
    /// The path below each hierarchy's root.
    path: PathBuf,
}

impl Group {
    /// The group as it would be on this host; nothing is made.
    pub(crate) fn of(path: &str) -> io::Result<Self> {
        let path = PathBuf::from(path);
        let directories = Hierarchies::of_host()?
            .0
            .into_iter()
            .map(|(controller, (version, mount))| (controller, (version, mount.join(&path))))
            .collect();
        Ok(Self { directories, path })
    }

    /// Makes the directories and sets the limits. Gives back the limits that this
    /// host cannot enforce, with reasons.
    pub(crate) fn create(&mut self, limits: &Limits) -> Vec<String> {
        let mut faults = BTreeMap::new();
        for (controller, (version, directory)) in &self.directories {
            if let Err(e) = make(*version, directory, &self.path, *controller) {
                faults.insert(*controller, format!("{}: {e}", directory.display()));
            }
        }
        self.directories.retain(|controller, _| !faults.contains_key(controller));
        let wanted = [
            (Controller::Memory, "memory_max", limits.memory_max),
            (Controller::Pids, "pids_max", limits.pids_max),
            (Controller::Cpu, "cpu_weight", limits.cpu_weight.map(u64::from)),
        ];
        let mut unenforced = Vec::new();
        for (controller, name, value) in wanted {
            let Some(value) = value else { continue };
            let done = match (self.directories.get(&controller), faults.get(&controller)) {
                (Some((version, directory)), _) => limit(*version, directory, controller, value)
                    .map_err(|e| format!("{}: {e}", directory.display())),
                (None, Some(fault)) => Err(fault.clone()),
                (None, None) => Err(format!("this host has no {} controller", controller.name())),
            };
            if let Err(why) = done {
                unenforced.push(format!("{name} {value}: {why}"));
            }
        }
        unenforced
    }

    /// Changes the share of the CPU, 1 to 10000.
    pub(crate) fn set_cpu_weight(&self, weight: u32) -> io::Result<()> {
        match self.directories.get(&Controller::Cpu) {
            Some((version, directory)) => {
                limit(*version, directory, Controller::Cpu, u64::from(weight))
            }
            None => Err(io::Error::other("this host has no cpu controller")),
        }
    }

    /// Moves the calling process in.
    pub(crate) fn join(&self) -> io::Result<()> {
        self.each_directory()
            .filter(|directory| directory.is_dir())
            .try_for_each(|directory| std::fs::write(directory.join("cgroup.procs"), "0"))
    }

    /// Every process in it, by its number in the caller's pid namespace.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self
            .each_directory()
            .filter_map(|directory| std::fs::read_to_string(directory.join("cgroup.procs")).ok())
            .flat_map(|text| text.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>())
            .filter(|pid| *pid != 0)
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Ends every process in it and returns when they are gone.
    pub(crate) fn kill(&self, limit: Duration) -> io::Result<()> {
        let end = std::time::Instant::now() + limit;
        loop {
            let pids = self.processes();
            if pids.is_empty() {
                return Ok(());
            }
            if std::time::Instant::now() > end {
                return Err(io::Error::other(format!("processes {pids:?} do not end")));
            }
            let mut gone = Vec::new();
            for pid in &pids {
                let Some(pid) = Pid::from_raw(pid.cast_signed()) else { continue };
                // One that ended meanwhile is what was wanted.
                let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
                let _ = pidfd_send_signal(&process, Signal::KILL);
                gone.push(process);
            }
            for process in &gone {
                let left = end.saturating_duration_since(std::time::Instant::now());
                let left = Timespec::try_from(left).map_err(io::Error::other)?;
                if poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left))? == 0 {
                    return Err(io::Error::other(format!("processes {pids:?} do not end")));
                }
            }
        }
    }

    /// Removes it, and the groups above it that have become empty.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let mut fault = None;
        for directory in self.each_directory() {
            match std::fs::remove_dir(directory) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => fault = Some(e),
                _ => {}
            }
            let above = self.path.components().count().saturating_sub(1);
            for parent in directory.ancestors().skip(1).take(above) {
                // Not empty: another machine's.
                if std::fs::remove_dir(parent).is_err() {
                    break;
                }
            }
        }
        fault.map_or(Ok(()), Err)
    }

    /// CPU time of all its processes.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        if let Some((Version::One, directory)) = self.directories.get(&Controller::CpuAccounting) {
            return read_number(&directory.join("cpuacct.usage")).map(Duration::from_nanos);
        }
        let (_, directory) = self.directories.get(&Controller::Cpu)?;
        keyed(&directory.join("cpu.stat"), "usage_usec").map(Duration::from_micros)
    }

    /// Memory charged to it, bytes.
    pub(crate) fn memory(&self) -> Option<u64> {
        let (version, directory) = self.directories.get(&Controller::Memory)?;
        read_number(&directory.join(match version {
            Version::One => "memory.usage_in_bytes",
            Version::Two => "memory.current",
        }))
    }

    /// How many of its processes the kernel ended for want of memory.
    pub(crate) fn out_of_memory_kills(&self) -> u64 {
        let Some((version, directory)) = self.directories.get(&Controller::Memory) else {
            return 0;
        };
        let file = match version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        keyed(&directory.join(file), "oom_kill").unwrap_or(0)
    }

    /// Controllers that share a hierarchy share a directory.
    fn each_directory(&self) -> impl Iterator<Item = &PathBuf> {
        let unique: std::collections::BTreeSet<_> =
            self.directories.values().map(|(_, directory)| directory).collect();
        unique.into_iter()
    }
}

fn make(version: Version, directory: &Path, path: &Path, which: Controller) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    if version == Version::Two {
        // From the root down, each group must hand the controller to its children.
        let above: Vec<_> = directory.ancestors().skip(1).take(path.components().count()).collect();
        for parent in above.into_iter().rev() {
            std::fs::write(parent.join("cgroup.subtree_control"), format!("+{}", which.name()))?;
        }
    }
    Ok(())
}

fn limit(version: Version, directory: &Path, which: Controller, value: u64) -> io::Result<()> {
    let (file, value) = match (version, which) {
        (Version::One, Controller::Memory) => ("memory.limit_in_bytes", value),
        (Version::Two, Controller::Memory) => ("memory.max", value),
        (_, Controller::Pids) => ("pids.max", value),
        // Weight 100 is 1024 shares.
        (Version::One, Controller::Cpu) => ("cpu.shares", (value * 1024 / 100).max(2)),
        (Version::Two, Controller::Cpu) => ("cpu.weight", value.clamp(1, 10_000)),
        (_, Controller::CpuAccounting) => return Ok(()),
    };
    std::fs::write(directory.join(file), value.to_string())
}

fn read_number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number after `key ` in a flat keyed file.
fn keyed(path: &Path, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mounts: &str, v2: &str) -> Vec<(Controller, Version, String)> {
        let Hierarchies(found) = Hierarchies::parse(mounts, |_| v2.to_owned());
        found.into_iter().map(|(c, (v, p))| (c, v, p.display().to_string())).collect()
    }

    #[test]
    fn on_a_hybrid_host_each_controller_is_where_it_is_mounted() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      31 24 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      32 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      33 24 0:29 / /memory rw - tmpfs memory rw\n";
        let expected = [
            (Controller::Memory, Version::One, "/sys/fs/cgroup/memory".to_owned()),
            (Controller::Pids, Version::Two, "/sys/fs/cgroup/unified".to_owned()),
            (Controller::Cpu, Version::One, "/sys/fs/cgroup/cpu".to_owned()),
            (Controller::CpuAccounting, Version::One, "/sys/fs/cgroup/cpu".to_owned()),
        ];
        assert_eq!(found(mounts, "pids hugetlb\n"), expected);
    }

    #[test]
    fn without_hierarchies_every_limit_is_named_as_unenforced() {
        let mut group = Group { directories: BTreeMap::new(), path: "a/b".into() };
        let limits = Limits {
            cgroup: "a/b".into(),
            memory_max: Some(1 << 20),
            pids_max: None,
            cpu_weight: Some(50),
            one_processor: false,
        };
        let unenforced = group.create(&limits);
        assert_eq!(unenforced.len(), 2);
        assert!(unenforced[0].contains("memory_max 1048576: this host has no memory controller"));
    }
}
