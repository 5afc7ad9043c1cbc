//! Keeps a machine on one of the host's processors, and takes it to another when that one is idle and its own is shared.
//!
//! A User-Mode Linux guest goes back and forth between two of the host's processes, thousands of times a second, and never
//! runs both at once. Left alone, the host's kernel wakes each on an idle processor, and every turn costs what it takes to
//! wake that processor: on an idle host such a guest is two to three times as slow. Kept on one processor it has to be moved,
//! since the kernel cannot do that any more: here, when others leave it only a part of its processor.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::cgroup::Group;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// A machine that has next to nothing of a crowded processor tries the next one after so many looks, and after twice as many
/// each time that it is crowded there, too.
const PATIENCE: u32 = 2;
const MOST_PATIENCE: u32 = 32;

/// What `/proc/stat` counts in: USER_HZ is 100 on every architecture of Debian.
const TICK: Duration = Duration::from_millis(10);

/// Where one machine is, and what was last seen of it.
pub(crate) struct Placement {
    group: Group,
    here: usize,
    seen: Option<Look>,
    next: Instant,
    /// Looks in a row that found it crowded.
    crowded: u32,
    patience: u32,
}

/// What one look sees: all since the host's or the machine's start.
struct Look {
    at: Instant,
    /// CPU time of the machine.
    used: Duration,
    /// How long each processor was idle.
    idle: Vec<(usize, Duration)>,
}

impl Placement {
    /// The machine of the VMM `vmm`, which [`stay_here`] has kept on a processor. None where this host does not tell what
    /// the machine uses: then it stays where it is.
    pub(crate) fn of(vmm: u32, group: Group) -> Option<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(vmm.cast_signed())).ok()?;
        let here = (0..CpuSet::MAX_CPU).find(|processor| allowed.is_set(*processor))?;
        group.cpu_time()?;
        // Machines that started together do not all look, and move, at the same moment.
        let next = Instant::now() + INTERVAL * (vmm % 16) / 16;
        Some(Self { group, here, seen: None, next, crowded: 0, patience: PATIENCE })
    }

    /// When to look next.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Looks, when it is time, and moves the machine when that is better.
    ///
    /// # Errors
    /// When this host does not tell (any more) what was seen before, or the machine cannot be moved.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        self.next = now + INTERVAL;
        let used = self.group.cpu_time().ok_or(io::ErrorKind::NotFound)?;
        let look = Look { at: now, used, idle: idle()? };
        let Some(before) = self.seen.replace(look) else { return Ok(()) };
        let advice =
            self.seen.as_ref().map_or(Advice::Stay, |look| advice(self.here, &before, look));
        match advice {
            Advice::Stay => {
                (self.crowded, self.patience) = (0, PATIENCE);
                Ok(())
            }
            Advice::Go(processor) => self.take_to(processor),
            Advice::Crowded { next } => {
                self.crowded += 1;
                if self.crowded < self.patience {
                    return Ok(());
                }
                self.patience = (self.patience * 2).min(MOST_PATIENCE);
                self.take_to(next)
            }
        }
    }

    fn take_to(&mut self, processor: usize) -> io::Result<()> {
        if !sched_getaffinity(None)?.is_set(processor) {
            return Ok(());
        }
        let mut there = CpuSet::new();
        there.set(processor);
        // Twice: a process may be born of one that is not moved yet, after the list was made.
        for _ in 0..2 {
            for task in self.group.processes().into_iter().flat_map(tasks) {
                // One that ended meanwhile need not be moved.
                match sched_setaffinity(Some(task), &there) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        self.here = processor;
        // What was seen was seen of another processor.
        (self.seen, self.crowded) = (None, 0);
        Ok(())
    }
}

/// What is best for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advice {
    Stay,
    /// There is one with room.
    Go(usize),
    /// It has little of its processor, and none has room. The next one may be no better.
    Crowded {
        next: usize,
    },
}

/// Where a machine that is on `here` would have more. It is left alone unless its processor was never idle and others had a
/// good part of it.
fn advice(here: usize, before: &Look, after: &Look) -> Advice {
    let passed = after.at - before.at;
    let used = after.used.saturating_sub(before.used);
    let rested = |(processor, idle): &(usize, Duration)| {
        let (_, then) = before.idle.iter().find(|(number, _)| number == processor)?;
        Some((idle.saturating_sub(*then), *processor))
    };
    let rests: Vec<_> = after.idle.iter().filter_map(rested).collect();
    let own = rests.iter().find(|(_, processor)| *processor == here);
    let full = own.is_some_and(|(idle, _)| *idle * 10 <= passed);
    if !full || used * 10 < passed || used * 10 > passed * 9 {
        return Advice::Stay;
    }
    if let Some((idle, processor)) = rests.iter().max()
        && *idle * 4 >= passed * 3
    {
        return Advice::Go(*processor);
    }
    let others = || rests.iter().map(|(_, processor)| *processor).filter(|other| *other != here);
    let next = others().filter(|other| *other > here).min().or_else(|| others().min());
    match next {
        Some(next) if used * 10 < passed * 3 => Advice::Crowded { next },
        _ => Advice::Stay,
    }
}

/// Keeps the calling process, and all that it starts, on the processor that it runs on.
pub(crate) fn stay_here() -> io::Result<()> {
    let mut here = CpuSet::new();
    here.set(sched_getcpu());
    Ok(sched_setaffinity(None, &here)?)
}

/// How long each processor has been idle since the host's start.
fn idle() -> io::Result<Vec<(usize, Duration)>> {
    Ok(parse_idle(&std::fs::read_to_string("/proc/stat")?))
}

/// The fourth and fifth number (idle, and idle while a disk works) of each `cpuN` line, proc_stat(5).
fn parse_idle(stat: &str) -> Vec<(usize, Duration)> {
    let line = |line: &str| {
        let mut fields = line.strip_prefix("cpu")?.split(' ');
        let processor = fields.next()?.parse().ok()?;
        let mut fields = fields.skip(3).map(str::parse::<u32>);
        let ticks = fields.next()?.ok()?.wrapping_add(fields.next()?.ok()?);
        Some((processor, TICK * ticks))
    };
    stat.lines().filter_map(line).collect()
}

/// Every thread of a process.
fn tasks(pid: u32) -> Vec<Pid> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, used: u64, idle: &[(usize, u64)]) -> Look {
        let idle = idle.iter().map(|(n, idle)| (*n, Duration::from_millis(*idle))).collect();
        Look { at, used: Duration::from_millis(used), idle }
    }

    #[test]
    fn a_machine_leaves_a_shared_processor_for_one_with_room() {
        let start = Instant::now();
        let before = look(start, 500, &[(0, 1000), (1, 5000), (2, 0)]);
        let told = |used, idle: &[(usize, u64)]| {
            advice(0, &before, &look(start + Duration::from_millis(200), used, idle))
        };
        assert_eq!(told(600, &[(0, 1010), (1, 5150), (2, 180)]), Advice::Go(2));
        assert_eq!(told(600, &[(0, 1010), (1, 5140), (2, 140)]), Advice::Stay, "no room");
        assert_eq!(told(600, &[(0, 1050), (1, 5200), (2, 0)]), Advice::Stay, "enough here");
        assert_eq!(told(690, &[(0, 1000), (1, 5200), (2, 0)]), Advice::Stay, "it has all of it");
        assert_eq!(told(510, &[(0, 1000), (1, 5200), (2, 0)]), Advice::Stay, "it does nothing");
        assert_eq!(told(600, &[(0, 1000), (3, 9000)]), Advice::Stay, "nothing is known of 3");
        let crowded = Advice::Crowded { next: 1 };
        assert_eq!(told(540, &[(0, 1000), (1, 5010), (2, 0)]), crowded, "a fifth, and no room");
    }

    #[test]
    fn idle_times_are_found() {
        let stat = "cpu  9 0 9 300 40 0 0 0 0 0\ncpu0 4 0 5 100 20 0 0 0 0 0\n\
                    cpu1 5 0 4 200 20 0 0 0 0 0\nintr 12 0\nctxt 99\n";
        let milliseconds = |n| Duration::from_millis(n);
        assert_eq!(parse_idle(stat), [(0, milliseconds(1200)), (1, milliseconds(2200))]);
        assert!(!idle().unwrap().is_empty());
    }

    #[test]
    fn the_threads_of_a_process_are_found() {
        assert!(tasks(std::process::id()).contains(&rustix::thread::gettid()));
    }
}
