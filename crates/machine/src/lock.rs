//! Who may use what: a run directory has one shim, a disk one machine.
//!
//! These are flock(2) locks, so they end with the last process that holds the open
//! file. The VMM inherits those of its disks: a disk stays locked while any
//! process that could write to it lives, even when the shim was killed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use crate::atomic;
use crate::error::StartFailure;
use crate::spec::{Disk, MachineSpec, RunDir};
use crate::state::{Phase, Record};

/// How long a shim whose machine has ended may take to clear up.
const PREDECESSOR: Duration = Duration::from_secs(15);

/// Takes the run directory. A predecessor that has already recorded its end is
/// waited for; it is about to exit.
pub(crate) fn take_run_dir(run_dir: &Path) -> Result<File, StartFailure> {
    let path = RunDir(run_dir).lock();
    let host = |e: io::Error| StartFailure::Host {
        step: format!("lock {}", path.display()),
        why: e.to_string(),
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(host)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) if has_stopped(run_dir) => wait_for(file).map_err(host),
        Err(Errno::WOULDBLOCK) => Err(StartFailure::AlreadyRunning),
        Err(e) => Err(host(e.into())),
    }
}

/// flock(2) has no time limit of its own.
fn wait_for(file: File) -> io::Result<File> {
    let end = Instant::now() + PREDECESSOR;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(Errno::WOULDBLOCK) => {
                let why = "the machine has stopped, but its shim does not end";
                return Err(io::Error::other(why));
            }
            Err(e) => return Err(e.into()),
        }
    }
}

fn has_stopped(run_dir: &Path) -> bool {
    let record: io::Result<Option<Record>> = atomic::read_json(&RunDir(run_dir).state());
    matches!(record, Ok(Some(Record { phase: Phase::Stopped { .. }, .. })))
}

/// Takes one disk: alone, or with others when none of them writes. The lock is inherited by the processes started from here on.
pub(crate) fn take_disk(disk: &Disk) -> Result<File, StartFailure> {
    let path = &disk.path;
    let fault = |e: io::Error| StartFailure::Disk { disk: path.clone(), why: e.to_string() };
    let file = OpenOptions::new().read(true).write(!disk.read_only).open(path).map_err(fault)?;
    let kind = file.metadata().map_err(fault)?.file_type();
    if !kind.is_file() && !std::os::unix::fs::FileTypeExt::is_block_device(&kind) {
        let why = "neither a file nor a block device".to_owned();
        return Err(StartFailure::Disk { disk: path.clone(), why });
    }
    let how = match disk.read_only {
        true => FlockOperation::NonBlockingLockShared,
        false => FlockOperation::NonBlockingLockExclusive,
    };
    match flock(&file, how) {
        Ok(()) => {
            fcntl_setfd(&file, FdFlags::empty()).map_err(|e| fault(e.into()))?;
            Ok(file)
        }
        Err(Errno::WOULDBLOCK) => {
            Err(StartFailure::DiskInUse { disk: path.clone(), by: holder(&file) })
        }
        Err(e) => Err(fault(e.into())),
    }
}

/// The machine that holds the lock: a shim's command line names its run directory.
fn holder(file: &File) -> String {
    let Some(pid) = lock_owner(file) else { return "another process".into() };
    machine_of(pid).unwrap_or_else(|| format!("process {pid}"))
}

fn machine_of(pid: u32) -> Option<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0).skip(1);
    if words.next()? != b"shim" {
        return None;
    }
    let run_dir = PathBuf::from(String::from_utf8(words.next()?.to_vec()).ok()?);
    let spec: MachineSpec = atomic::read_json(&RunDir(&run_dir).spec()).ok()??;
    Some(spec.name)
}

fn lock_owner(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino();
    parse_lock_owner(&std::fs::read_to_string("/proc/locks").ok()?, inode)
}

/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`: proc_locks(5). The device's
/// number is left out: some file systems show another one there.
fn parse_lock_owner(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (kind, _, _) = (fields.next()?, fields.next()?, fields.next()?);
        let pid = fields.next()?;
        let (_, found) = fields.next()?.rsplit_once(':')?;
        (kind == "FLOCK" && found.parse() == Ok(inode)).then(|| pid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_lock_is_found() {
        let locks = "1: POSIX  ADVISORY  WRITE 1 fe:00:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4711 fe:00:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 4712 fe:00:77 0 EOF\n";
        assert_eq!(parse_lock_owner(locks, 77), Some(4711));
        assert_eq!(parse_lock_owner(locks, 7), None);
    }

    #[test]
    fn a_disk_in_use_by_another_program_names_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        std::fs::write(&disk, "").unwrap();
        let (own, shared) = (Disk::own(&disk), Disk::shared(&disk));
        let held = take_disk(&own).unwrap();
        let by = format!("process {}", std::process::id());
        for wanted in [&own, &shared] {
            let failure = take_disk(wanted).unwrap_err();
            assert_eq!(failure, StartFailure::DiskInUse { disk: disk.clone(), by: by.clone() });
        }
        drop(held);
        let readers = (take_disk(&shared).unwrap(), take_disk(&shared).unwrap());
        assert!(matches!(take_disk(&own), Err(StartFailure::DiskInUse { .. })));
        drop(readers);
        take_disk(&own).unwrap();
        let missing = Disk::own(dir.path().join("none"));
        assert!(matches!(take_disk(&missing), Err(StartFailure::Disk { .. })));
    }
}
