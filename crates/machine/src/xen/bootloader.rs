//! Boot from the disk's own partition: what a guest's own boot loader configuration names is read off its
//! disk by pygrub, the hypervisor's own reader of file systems.
//!
//! The disk is the guest's, and file systems are read by a library that was not written for hostile ones, so
//! `xl` is not left to run it: that would be as root, with the disk as a device of this host, and would
//! believe whatever file it names. Here
//!
//! - it gives up its rights (`--runas`, which came with the advisory XSA-443): the machine's own user, an empty
//!   root that is read-only but for the files it fills, no network, bounded files and memory;
//! - it is the first process of a process namespace, in the machine's control group, and is ended after
//!   [`LIMIT`];
//! - of what it says only the kernel's arguments are taken. Kernel and initramfs are the files that it was given
//!   to fill, whatever it calls them.
//!
//! That the toolstack then unpacks a kernel that the guest has made remains: [`XenBoot::Direct`] spares it.
//!
//! [`XenBoot::Direct`]: crate::spec::XenBoot::Direct

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::toolstack::{self, Toolstack};
use crate::error::StartFailure;
use crate::namespace;
use crate::spec::{Disk, MachineSpec};

/// How long it may take; a disk can be made such that it never ends.
const LIMIT: Duration = Duration::from_secs(40);

/// Room for kernel arguments in a paravirtual guest's start page, with the zero at their end:
/// `MAX_GUEST_CMDLINE` in `xen/include/public/xen.h`.
const LONGEST: usize = 1023;

/// What is read of its words, bytes.
const HEARD: u64 = 16 << 10;

/// What a domain boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Boot {
    pub(super) kernel: PathBuf,
    pub(super) initramfs: Option<PathBuf>,
    /// Kernel arguments, ours behind the disk's own.
    pub(super) arguments: String,
}

/// What was read off a disk; the files go with it.
#[derive(Debug)]
pub(super) struct FromDisk {
    folder: PathBuf,
    pub(super) boot: Boot,
}

impl Drop for FromDisk {
    fn drop(&mut self) {
        // What stays is cleared with the seat.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Reads what the machine's first disk boots; `arguments` come behind the disk's own.
pub(super) fn read(
    tools: &Toolstack,
    spec: &MachineSpec,
    arguments: &str,
    seat: &Path,
) -> Result<FromDisk, StartFailure> {
    let host = |e: io::Error| StartFailure::Host {
        step: "read the kernel off its disk".into(),
        why: e.to_string(),
    };
    let disk = spec.disks.first().ok_or_else(|| host(io::ErrorKind::NotFound.into()))?;
    let fault = |why: String| StartFailure::Disk { disk: disk.path.clone(), why };
    let folder = seat.join("boot");
    DirBuilder::new().mode(0o700).create(&folder).map_err(host)?;
    let boot = Boot { kernel: PathBuf::new(), initramfs: None, arguments: String::new() };
    let mut found = FromDisk { folder, boot };
    let answer =
        run(&tools.pygrub().map_err(host)?, spec.uid, disk, &found.folder).map_err(host)?;
    let Some(kernel) = filled(&found.folder, "boot_kernel.").map_err(host)? else {
        return Err(match answer.complaint() {
            // getopt(3) of one that does not know the option.
            Some(words) if words.starts_with("Usage:") => host(io::Error::other(
                "this Xen's pygrub cannot give up its rights (--runas): update Xen's toolstack, or boot a kernel of the host",
            )),
            words => fault(format!(
                "no kernel was found on it: {}",
                words.unwrap_or_else(|| "pygrub says nothing of the reason".into())
            )),
        });
    };
    found.boot = Boot {
        kernel,
        initramfs: filled(&found.folder, "boot_ramdisk.").map_err(host)?,
        arguments: joined(&answer.arguments(), arguments).map_err(fault)?,
    };
    Ok(found)
}

/// What pygrub said, both of its outputs.
#[derive(Debug, Default)]
struct Answer {
    result: Vec<u8>,
    errors: Vec<u8>,
}

impl Answer {
    /// The kernel's arguments in its form `simple0`: `KEY VALUE`, each with a zero behind it.
    fn arguments(&self) -> Vec<u8> {
        let mut entries = self.result.split(|byte| *byte == 0);
        entries.find_map(|entry| entry.strip_prefix(b"args ")).unwrap_or_default().to_vec()
    }

    /// Its last line of error, which may be made of what is on the disk: printable text only.
    fn complaint(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.errors);
        let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
        let line = line.strip_prefix("RuntimeError: ").unwrap_or(line);
        Some(line.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(200).collect())
    }
}

/// Runs it to its end. Its exit code tells nothing: it is 0 also when its inner process has failed.
fn run(pygrub: &Path, uid: u32, disk: &Disk, folder: &Path) -> io::Result<Answer> {
    // Files, not pipes: they need no reader, and it may not write more than a bounded length to a file.
    let (result, errors) = (folder.join("result"), folder.join("errors"));
    let mut command = Command::new(pygrub);
    command
        .args(["--quiet", "--output-format=simple0", &format!("--runas={uid}")])
        .arg("--output-directory")
        .arg(folder)
        .arg(&disk.path)
        .env_clear()
        .env("PATH", toolstack::PATH)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(File::create_new(&result)?)
        .stderr(File::create_new(&errors)?);
    let mut child = namespace::spawn_as_first_process(&mut command)?;
    let ended = wait(child.id(), LIMIT);
    // The kernel ends all others of the namespace with its first process.
    if !matches!(ended, Ok(true)) {
        child.kill()?;
    }
    child.wait()?;
    if !ended? {
        let limit = LIMIT.as_secs();
        return Err(io::Error::other(format!("pygrub found no end within {limit} s")));
    }
    let words = |path: &Path| {
        let mut bytes = Vec::new();
        File::open(path)?.take(HEARD).read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    Ok(Answer { result: words(&result)?, errors: words(&errors)? })
}

/// Whether the process ends in time.
fn wait(process: u32, limit: Duration) -> io::Result<bool> {
    let process = Pid::from_raw(process.cast_signed()).ok_or(io::ErrorKind::NotFound)?;
    let end = pidfd_open(process, PidfdFlags::empty())?;
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    let mut polled = [PollFd::new(&end, PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut polled, Some(&limit)))? > 0)
}

/// The file of this beginning that was filled; those that were not are gone. The folder is root's alone, so that
/// nothing is there but what pygrub has made before it gave up its rights.
fn filled(folder: &Path, beginning: &str) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let named = entry.file_name().to_str().is_some_and(|name| name.starts_with(beginning));
        let meta = entry.metadata()?;
        if named && meta.is_file() && meta.len() > 0 {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// The disk's arguments and ours: printable, and no longer than a guest can be given.
fn joined(of_disk: &[u8], ours: &str) -> Result<String, String> {
    let of_disk = std::str::from_utf8(of_disk)
        .ok()
        .filter(|text| !text.contains(|c: char| !c.is_ascii_graphic() && c != ' '))
        .ok_or("its kernel arguments are not printable ASCII")?;
    let whole = [of_disk.trim(), ours].join(" ").trim().to_owned();
    if whole.len() > LONGEST {
        let length = whole.len();
        return Err(format!(
            "kernel arguments are {LONGEST} bytes at most; its own and ours have {length}"
        ));
    }
    Ok(whole)
}

#[cfg(test)]
#[path = "bootloader_tests.rs"]
mod tests;
