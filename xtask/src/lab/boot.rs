//! One run of the nested computer. All that it needs of the host besides the cache are
//! files without names, so that nothing stays when everything is killed at once; QEMU
//! dies with this program.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::io::{FdFlags, fcntl_setfd};

use super::initramfs::Archive;
use super::modules::load_order;
use super::parts::Parts;
use super::{Hypervisor, Lab};

/// What the initramfs loads before it looks for its root: disks and file systems, the site's network, limits on it.
const MODULES: [&str; 10] = [
    "crc32c_generic",
    "virtio_blk",
    "ext4",
    "loop",
    "bridge",
    "nf_tables",
    "nft_limit",
    "tun",
    "sch_ingress",
    "cls_bpf",
];

/// What it loads for guests.
fn modules(hypervisor: Hypervisor) -> &'static [&'static str] {
    match hypervisor {
        Hypervisor::Xen => {
            &["xen_privcmd", "xenfs", "xen_evtchn", "xen_gntdev", "xen_blkback", "xen_netback"]
        }
        Hypervisor::Kvm => &["kvm_amd"],
    }
}

/// The emulated processor, which has AMD's virtualisation.
fn processor(lab: Lab) -> String {
    match lab.hypervisor {
        Hypervisor::Xen if !lab.xsave => format!("{XENS_CPU},-xsave"),
        Hypervisor::Xen => XENS_CPU.to_owned(),
        Hypervisor::Kvm => KVMS_CPU.to_owned(),
    }
}

/// Without AVX and SHA instructions: see [`XENS_CPU`].
const KVMS_CPU: &str = "max,-avx,-avx2,-f16c,-fma,-sha-ni";

/// Without supervisor-mode access prevention: Xen's PV entry paths die of QEMU's (a page
/// fault on IRET in ring 3). Without RDTSCP: QEMU reports its interception as one of
/// RDTSC, and Xen gives up the guest (PVH). Without AVX: with it, programs
/// in the privileged domain now and then died of damaged memory ("corrupted unsorted chunks"),
/// xl and the tests alike; without it that was not seen again. Without SHA instructions: QEMU does not
/// look at CR0.TS for them, so that one can run on registers that are another domain's for the time being.
/// [`XEN`] keeps Xen from leaving registers behind like that.
const XENS_CPU: &str = "max,-smap,-rdtscp,-avx,-avx2,-f16c,-fma,-sha-ni";

/// Xen's own arguments: see [`XENS_CPU`].
const XEN: &str =
    "console=com1 com1=115200,8n1 spec-ctrl=eager-fpu dom0_max_vcpus=1 dom0_vcpus_pin";

/// The privileged domain's memory where none is given, MiB.
const DOMAIN_MEMORY: u32 = 512;

/// The kernel's own arguments, but for its console.
const KERNEL: &str = "quiet cryptomgr.notests";

/// With KVM: a clock that ticks for ever. Once the emulated processor was halted and never woken, as if its one next tick had been lost.
const PERIODIC: &str = "nohz=off highres=off";

/// Lines of the consoles that are shown when the lab does not come up.
const TAIL: usize = 25;

/// What the lab is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A command without input.
    Command,
    /// A shell on this terminal.
    Terminal,
}

/// What goes into the lab.
#[derive(Debug)]
pub(crate) struct Freight {
    /// Files and the command: see `payload`.
    pub(crate) payload: File,
    /// A further disk, `/dev/vdc`.
    pub(crate) disk: Option<File>,
}

impl From<File> for Freight {
    fn from(payload: File) -> Self {
        Self { payload, disk: None }
    }
}

/// Tells people, on standard error.
pub(crate) fn say(line: &str) {
    // With nowhere to write there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "lab: {line}");
}

/// Boots, runs the payload's command, gives its exit code.
pub(crate) fn run(parts: &Parts, lab: Lab, freight: Freight, mode: Mode) -> Result<i32> {
    let nameless = |what: &str| {
        tempfile::tempfile_in(super::cache()?).with_context(|| format!("cannot make {what}"))
    };
    let mut console = nameless("the console's file")?;
    let mut status = nameless("the status's file")?;
    let mut inherited = vec![
        ("payload", OwnedFd::from(freight.payload)),
        ("console", console.try_clone()?.into()),
        ("status", status.try_clone()?.into()),
        ("initramfs", initramfs(parts, lab, mode, nameless("the initramfs")?)?.into()),
    ];
    if lab.hypervisor == Hypervisor::Xen {
        inherited.push(("xen", xen(parts, nameless("Xen's file")?)?.into()));
    }
    inherited.extend(freight.disk.map(|disk| ("disk", disk.into())));
    for (_, fd) in &inherited {
        fcntl_setfd(fd.as_fd(), FdFlags::empty()).context("cannot hand a file to QEMU")?;
    }
    let numbers: Vec<_> = inherited.iter().map(|(name, fd)| (*name, fd.as_raw_fd())).collect();
    // Nobody writes to it; but at its end QEMU would close the port of the output, too.
    let input = if mode == Mode::Terminal { Stdio::inherit() } else { Stdio::piped() };
    // The first of two processes of this very program: see `qemu_main`.
    let mut qemu = Command::new("/proc/self/exe")
        .arg("lab-qemu")
        .args(command_line(parts, lab, &numbers))
        .stdin(input)
        .spawn()
        .context("cannot run QEMU")?;
    let _restore = (mode == Mode::Terminal).then(Raw::enter).transpose()?;
    let kept = qemu.stdin.take();
    let end = qemu.wait().context("cannot wait for QEMU")?;
    drop(kept);
    let mut said = String::new();
    status.seek(SeekFrom::Start(0))?;
    status.read_to_string(&mut said)?;
    match said.lines().find_map(|line| line.strip_prefix("exit ")?.parse().ok()) {
        Some(code) => Ok(code),
        None => bail!(
            "the lab ended before its command ({end}); its last lines:\n{}",
            tail(&mut console)?
        ),
    }
}

/// Hidden command `lab-qemu PROGRAM ARGUMENT…`: becomes the program, and dies with
/// whoever started this.
pub(crate) fn qemu_main(arguments: &[OsString]) -> Result<i32> {
    let parent = rustix::process::getppid();
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if rustix::process::getppid() != parent {
        bail!("nobody waits for the lab");
    }
    let (program, rest) = arguments.split_first().context("no program")?;
    Err(Command::new(program).args(rest).exec()).context("cannot execute QEMU")
}

/// QEMU with its own dynamic linker and libraries.
fn command_line(parts: &Parts, lab: Lab, files: &[(&str, i32)]) -> Vec<String> {
    let tree = parts.qemu.display();
    let found = |name: &str| {
        let file = files.iter().find(|(found, _)| *found == name);
        file.map(|(_, fd)| format!("/proc/self/fd/{fd}"))
    };
    let path = |name: &str| found(name).unwrap_or_default();
    let mut line = format!(
        "{tree}/usr/lib64/ld-linux-x86-64.so.2 --library-path {tree}/usr/lib/x86_64-linux-gnu \
         {tree}/usr/bin/qemu-system-x86_64 -L {tree}/usr/share/qemu -L {tree}/usr/share/seabios \
         -M q35 -accel tcg,thread=multi,tb-size=256 -cpu {cpu} -smp {cpus} -m {memory} \
         -display none -nodefaults -no-reboot -no-user-config",
        cpu = processor(lab),
        cpus = lab.cpus.unwrap_or(lab.hypervisor.processors()),
        memory = lab.memory,
    );
    let _ = write!(
        line,
        " -chardev file,id=console,path={} -serial chardev:console -device virtio-serial-pci \
         -chardev stdio,id=output,signal=off -device virtserialport,chardev=output,name=output \
         -chardev file,id=status,path={} -device virtserialport,chardev=status,name=status \
         -drive file={},format=raw,if=none,id=root,snapshot=on -device virtio-blk-pci,drive=root \
         -drive file={},format=raw,if=none,id=payload,readonly=on \
         -device virtio-blk-pci,drive=payload {}",
        path("console"),
        path("status"),
        parts.image.display(),
        path("payload"),
        found("disk").map_or_else(String::new, |disk| format!(
            "-drive file={disk},format=raw,if=none,id=disk,cache=unsafe -device virtio-blk-pci,drive=disk"
        )),
    );
    let mut words: Vec<String> = line.split_whitespace().map(String::from).collect();
    let (kernel, initramfs) = (parts.kernel.display(), path("initramfs"));
    let [kernel, arguments, initramfs] = match lab.hypervisor {
        // Xen's boot protocol: the kernel is its first module.
        Hypervisor::Xen => {
            let memory = lab.domain_memory.unwrap_or(DOMAIN_MEMORY);
            let arguments = format!("{XEN} dom0_mem={memory}M,max:{memory}M");
            [path("xen"), arguments, format!("{kernel} console=hvc0 {KERNEL},{initramfs}")]
        }
        Hypervisor::Kvm => {
            [kernel.to_string(), format!("console=ttyS0 {KERNEL} {PERIODIC}"), initramfs]
        }
    };
    for (option, value) in [("-kernel", kernel), ("-append", arguments), ("-initrd", initramfs)] {
        words.extend([option.to_owned(), value]);
    }
    words
}

/// Xen, unpacked: QEMU does not do that.
fn xen(parts: &Parts, mut to: File) -> Result<File> {
    let packed = File::open(&parts.xen).context("cannot open Xen")?;
    std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut to)
        .context("cannot unpack Xen")?;
    Ok(to)
}

fn initramfs(parts: &Parts, lab: Lab, mode: Mode, mut to: File) -> Result<File> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "root", "lab"] {
        archive.folder(folder);
    }
    archive.program("init", include_bytes!("scripts/start.sh"));
    archive.program("lab/init", include_bytes!("scripts/init.sh"));
    archive.file("lab/hypervisor", hypervisor(lab.hypervisor));
    archive.program("bin/busybox", &read(&parts.busybox)?);
    let modules = [&MODULES, modules(lab.hypervisor)].concat();
    archive.modules(&load_order(&parts.modules, &modules)?);
    if mode == Mode::Terminal {
        archive.file("lab/terminal", &[]);
    }
    to.write_all(&archive.finish())?;
    Ok(to)
}

/// What `lab/init` does for its hypervisor.
fn hypervisor(hypervisor: Hypervisor) -> &'static [u8] {
    match hypervisor {
        Hypervisor::Xen => include_bytes!("scripts/xen.sh"),
        Hypervisor::Kvm => include_bytes!("scripts/kvm.sh"),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn tail(console: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    console.seek(SeekFrom::Start(0))?;
    console.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(TAIL)..].join("\n"))
}

/// The terminal as it was, on drop.
struct Raw(rustix::termios::Termios);

impl Raw {
    fn enter() -> Result<Self> {
        let before = rustix::termios::tcgetattr(std::io::stdin()).context("no terminal here")?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let now = rustix::termios::OptionalActions::Now;
        // Nobody to tell but the person, who sees it.
        let _ = rustix::termios::tcsetattr(std::io::stdin(), now, &self.0);
    }
}
