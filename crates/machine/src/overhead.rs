//! How the host memory of a machine is shared between the guest and its VMM.
//!
//! The guest's memory is told from the VMM's own by its mapping: a file in memory (User-Mode Linux, QEMU with a
//! memory file), or an anonymous mapping as large as the guest's memory (QEMU). See proc_pid_smaps(5).

use std::io;

use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::error::MachineError;
use crate::machine::Machine;
use crate::state::MachineState;

/// Host memory of a running machine, proportional set size, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The guest's own memory, as far as it was touched.
    pub guest: u64,
    /// All else of the VMM's processes.
    pub vmm: u64,
}

impl Machine {
    /// Looks at every mapping of the VMM's processes: takes longer than [`Machine::usage`].
    ///
    /// # Errors
    /// [`MachineError::NotRunning`]; when the kernel does not tell.
    pub fn memory_split(&self) -> Result<Split, MachineError> {
        let MachineState::Running { pid, .. } = self.state()? else {
            return Err(MachineError::NotRunning { run_dir: self.run_dir().to_owned() });
        };
        let spec = self.spec()?;
        let fault = |e: io::Error| MachineError::io("measure", self.run_dir())(e);
        let mut pids = Group::of(&spec.limits.cgroup).map_err(fault)?.processes();
        if pids.is_empty() {
            pids.push(pid);
        }
        let mut split = Split::default();
        for pid in pids {
            // A guest's process may end between the list and the look.
            let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/smaps")) else { continue };
            let of_one = parse(&text, spec.memory);
            split.guest += of_one.guest;
            split.vmm += of_one.vmm;
        }
        Ok(split)
    }
}

/// `memory` is the guest's size, bytes.
fn parse(smaps: &str, memory: u64) -> Split {
    let mut split = Split::default();
    let mut guest = false;
    for line in smaps.lines() {
        if let Some(mapping) = Mapping::parse(line) {
            guest = mapping.is_guest(memory);
        } else if let Some(kib) = line.strip_prefix("Pss:").and_then(kib) {
            *if guest { &mut split.guest } else { &mut split.vmm } += kib << 10;
        }
    }
    split
}

fn kib(field: &str) -> Option<u64> {
    field.trim().strip_suffix(" kB")?.parse().ok()
}

/// The first line of a mapping: `start-end rwxp offset device inode path`.
struct Mapping<'a> {
    size: u64,
    permissions: &'a str,
    path: &'a str,
}

impl<'a> Mapping<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        let size = address(end)?.checked_sub(address(start)?)?;
        let permissions = fields.next()?;
        let path = fields.nth(3).unwrap_or_default().trim();
        Some(Self { size, permissions, path })
    }

    fn is_guest(&self, memory: u64) -> bool {
        let in_memory = self.path.starts_with("/dev/shm/") || self.path.starts_with("/memfd:");
        // Code that QEMU has translated lies in a large mapping too; it can be executed.
        let anonymous = self.path.is_empty() && !self.permissions.contains('x');
        in_memory || (anonymous && self.size >= memory && self.size < memory.saturating_mul(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_memory_is_told_from_its_vmms() {
        let uml = "\
60000000-60001000 r--p 00000000 fe:00 10904192                           /usr/bin/linux.uml
Rss:                   4 kB
Pss:                   4 kB
61400000-6c800000 rwxs 01400000 00:2b 3                                  /dev/shm/#3 (deleted)
Pss:               60000 kB
6d000000-6d001000 rw-p 00000000 00:00 0                                  [heap]
Pss:                 100 kB
";
        let split = parse(uml, 200 << 20);
        assert_eq!(split, Split { guest: 60_000 << 10, vmm: 104 << 10 });
        let qemu = "\
7f0000000000-7f000c800000 rw-p 00000000 00:00 0 
Pss:               90000 kB
7f1000000000-7f1010000000 rwxp 00000000 00:00 0 
Pss:               30000 kB
7f2000000000-7f2000100000 rw-p 00000000 00:00 0 
Pss:                 500 kB
";
        let split = parse(qemu, 200 << 20);
        assert_eq!(split, Split { guest: 90_000 << 10, vmm: 30_500 << 10 });
    }
}
