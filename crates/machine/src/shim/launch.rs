//! From `spec.json` to a running VMM: locks, ground, console, jail.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::feed::Feed;
use super::ground::Ground;
use super::note;
use super::wire::{self, FarEnd, Wire};
use crate::error::StartFailure;
use crate::jail::Word;
use crate::namespace::spawn_as_first_process;
use crate::process::ProcessId;
use crate::spec::{Disk, MachineSpec, RunDir};
use crate::state::{Phase, Record};
use crate::vmm::{Confinement, Vmm};
use crate::{atomic, lock, process};

/// How long the jail may take before it becomes the VMM; Xen's toolstack works meanwhile.
const JAIL_LIMIT: Duration = Duration::from_secs(90);

/// A machine whose VMM runs.
pub(super) struct Live {
    pub(super) spec: MachineSpec,
    pub(super) vmm: Box<dyn Vmm>,
    pub(super) ground: Ground,
    /// Held open: the locks of the disks.
    pub(super) disks: Vec<File>,
    pub(super) listener: UnixListener,
    /// The guest's console.
    pub(super) wire: Wire,
    pub(super) feed: Feed,
    /// The jail, which is the VMM's parent.
    pub(super) child: Child,
    /// What the jail says.
    report: File,
    /// Readable when the jail, and with it the VMM, has ended.
    pub(super) end: OwnedFd,
    pub(super) record: Record,
}

fn host(step: &str) -> impl FnOnce(io::Error) -> StartFailure {
    let step = step.to_owned();
    move |e| StartFailure::Host { step, why: e.to_string() }
}

/// Starts the VMM of the spec that comes on standard input, and stores it for
/// everybody else. After a failure nothing is left.
pub(super) fn launch(run_dir: &Path) -> Result<Live, StartFailure> {
    let spec: MachineSpec = serde_json::from_reader(io::stdin().lock())
        .map_err(|e| host("read the machine's spec")(e.into()))?;
    atomic::write_json(&RunDir(run_dir).spec(), &spec).map_err(host("write spec.json"))?;
    let ground = Ground::of(run_dir, &spec.limits.cgroup).map_err(host("find control groups"))?;
    super::clear_up(&ground, &spec).map_err(host("end what is left of an earlier start"))?;
    let disks = spec.disks.iter().map(|disk| take_disk(disk, &spec)).collect::<Result<_, _>>()?;
    let mut site = Site { spec, ground, disks };
    match site.raise(run_dir) {
        Ok(raised) => Ok(raised.into_live(site)),
        Err(why) => {
            if let Some(undertaker) = site.spec.vmm.vmm().undertaker()
                && let Err(e) = undertaker.end(&site.spec)
            {
                note(&format!("something of the machine is left: {e}"));
            }
            site.ground.clear();
            Err(why)
        }
    }
}

/// Locks the disk and gives it, unless others read it too, to the machine's user.
fn take_disk(disk: &Disk, spec: &MachineSpec) -> Result<File, StartFailure> {
    let file = lock::take_disk(disk)?;
    if disk.read_only {
        return Ok(file);
    }
    std::os::unix::fs::fchown(&file, Some(spec.uid), Some(spec.gid))
        .and_then(|()| file.set_permissions(std::fs::Permissions::from_mode(0o600)))
        .map_err(|e| StartFailure::Disk {
            disk: disk.path.clone(),
            why: format!("cannot be given to uid {}: {e}", spec.uid),
        })?;
    Ok(file)
}

struct Site {
    spec: MachineSpec,
    ground: Ground,
    disks: Vec<File>,
}

struct Raised {
    listener: UnixListener,
    wire: Wire,
    feed: Feed,
    child: Child,
    report: File,
    end: OwnedFd,
    record: Record,
}

impl Raised {
    fn into_live(self, site: Site) -> Live {
        Live {
            vmm: site.spec.vmm.vmm(),
            spec: site.spec,
            ground: site.ground,
            disks: site.disks,
            listener: self.listener,
            wire: self.wire,
            feed: self.feed,
            child: self.child,
            report: self.report,
            end: self.end,
            record: self.record,
        }
    }
}

impl Site {
    fn raise(&mut self, run_dir: &Path) -> Result<Raised, StartFailure> {
        let (listener, unenforced) =
            self.ground.make(&self.spec).map_err(host("prepare the run directory"))?;
        let feed = Feed::begin(run_dir).map_err(host("begin console.log"))?;
        let (wire, far_end) = wire::lay().map_err(host("make a console"))?;
        let (child, mut report) = spawn_jail(run_dir, far_end).map_err(host("run the jail"))?;
        let mut child = Reaped(Some(child));
        let work = match self.spec.vmm.vmm().confinement(&self.spec) {
            Confinement::Keeper => "make its domain",
            Confinement::Jail(_) => "build the jail",
        };
        hear_from_jail(&mut report, work)?;
        let pid = child.pid();
        let end = Pid::from_raw(pid.cast_signed())
            .ok_or(io::ErrorKind::NotFound.into())
            .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?))
            .map_err(host("watch the VMM"))?;
        let identity = |found: Option<ProcessId>| {
            found.ok_or_else(|| host("look at a process")(io::Error::other("it is not there")))
        };
        let record = Record {
            shim: identity(ProcessId::own())?,
            unenforced,
            paused: false,
            phase: Phase::Running {
                // One that ended at once is as good as its parent: the loop will see it.
                vmm: identity(process::child_of(pid).or_else(|| ProcessId::of(pid)))?,
                since: Timestamp::now(),
            },
        };
        let child = child.keep()?;
        Ok(Raised { listener, wire, feed, child, report, end, record })
    }
}

/// Ends the child unless it is kept: no failure leaves a process.
struct Reaped(Option<Child>);

impl Reaped {
    fn pid(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    fn keep(&mut self) -> Result<Child, StartFailure> {
        self.0.take().ok_or_else(|| host("keep the VMM")(io::ErrorKind::NotFound.into()))
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself; then there is only the waiting.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The jail is the first process of a new pid namespace: when it ends, the
/// kernel ends every process in there.
fn spawn_jail(run_dir: &Path, console: FarEnd) -> io::Result<(Child, File)> {
    let (report, far_report) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut jail = Command::new("/proc/self/exe");
    jail.arg("jail")
        .arg(run_dir)
        .stdin(Stdio::from(console.input))
        .stdout(Stdio::from(console.output))
        .stderr(Stdio::from(far_report));
    Ok((spawn_as_first_process(&mut jail)?, report.into()))
}

/// Reads the jail's first word, which comes when its `work` is done.
fn hear_from_jail(report: &mut File, work: &str) -> Result<(), StartFailure> {
    let end = Instant::now() + JAIL_LIMIT;
    let mut words = Vec::new();
    while !words.contains(&b'\n') {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|e| host("wait")(io::Error::other(e)))?;
        let mut ready = [PollFd::new(&*report, PollFlags::IN)];
        if poll(&mut ready, Some(&left)).map_err(|e| host("wait for the jail")(e.into()))? == 0 {
            let why = io::Error::other(format!("not ready within {} s", JAIL_LIMIT.as_secs()));
            return Err(host(work)(why));
        }
        // Byte by byte: the next word is for the end.
        let mut byte = [0];
        if report.read(&mut byte).map_err(host("hear from the jail"))? == 0 {
            break;
        }
        words.extend(byte);
    }
    match serde_json::from_slice(&words) {
        Ok(Word::Started) => Ok(()),
        Ok(Word::Failed { why }) => Err(why),
        Ok(Word::Ended { .. }) | Err(_) => Err(StartFailure::Jail {
            step: "go on".into(),
            why: format!("its last words: {:?}", String::from_utf8_lossy(&words)),
        }),
    }
}

impl Live {
    /// Ends what of the machine does not end with its process.
    pub(super) fn bury(&self) -> io::Result<()> {
        self.vmm.undertaker().map_or(Ok(()), |undertaker| undertaker.end(&self.spec))
    }

    /// Lets go of the disks.
    pub(super) fn release_disks(&mut self) {
        self.disks.clear();
    }

    /// Waits for the jail's end and tells how the VMM ended; when the jail was
    /// killed, then the VMM was, too.
    pub(super) fn last_status(&mut self) -> io::Result<ExitStatus> {
        let jail = self.child.wait()?;
        let mut words = String::new();
        // A bound: the pipe's other end was in the jail.
        (&self.report).take(4096).read_to_string(&mut words)?;
        match words.lines().last().map(serde_json::from_str) {
            Some(Ok(Word::Ended { status })) => Ok(ExitStatus::from_raw(status)),
            _ => Ok(jail),
        }
    }
}
