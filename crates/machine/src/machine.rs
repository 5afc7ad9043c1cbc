//! Starting, finding and commanding a machine. Everything here may be used by
//! several processes at once; the machine belongs to its shim, not to the caller.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use crate::capability::{Change, Rate};
use crate::console::{Console, ConsoleAccess};
use crate::error::{MachineError, StartFailure};

use crate::shim::request::{Answer, Request, StartReport};
use crate::spec::{MachineSpec, RunDir};
use crate::state::{MachineState, Phase, Record};
use crate::usage::Usage;
use crate::{atomic, console, lock, shim, socket, usage, vmm};

/// How long a shim may take to build the jail and start the VMM.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Starts machines: knows the binary whose hidden commands `shim` and `jail`
/// lead to [`crate::shim_main`] and [`crate::jail_main`].
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
}

impl Default for Launcher {
    /// This program itself, even when its file was replaced meanwhile.
    fn default() -> Self {
        Self::new("/proc/self/exe")
    }
}

impl Launcher {
    /// Uses `program` for the shim.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// See [`start`].
    ///
    /// # Errors
    /// See [`start`].
    pub fn start(&self, spec: &MachineSpec) -> Result<Machine, MachineError> {
        vmm::check(spec)?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&spec.run_dir)
            .map_err(MachineError::io("create", &spec.run_dir))?;
        if matches!(read_state(&spec.run_dir)?, Some(MachineState::Running { .. })) {
            return Err(start_error(spec, StartFailure::AlreadyRunning));
        }
        self.spawn(spec)?;
        Ok(Machine { run_dir: spec.run_dir.clone() })
    }

    /// Runs the shim, which detaches itself, and waits for its report.
    fn spawn(&self, spec: &MachineSpec) -> Result<(), MachineError> {
        let host = |step: &str| {
            let step = step.to_owned();
            move |e: std::io::Error| {
                start_error(spec, StartFailure::Host { step, why: e.to_string() })
            }
        };
        let log = std::fs::File::create(RunDir(&spec.run_dir).shim_log())
            .map_err(host("create shim.log"))?;
        let mut child = Command::new(&self.program)
            .arg("shim")
            .arg(&spec.run_dir)
            .current_dir("/")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(host("run the shim"))?;
        // The shim stores it, once it has the run directory to itself. One that
        // gives up before that says why.
        let told = child.stdin.take().map(|mut to| serde_json::to_writer(&mut to, spec));
        let report = child.stdout.take().map(read_report);
        child.wait().map_err(host("wait for the shim's first process"))?;
        match report {
            Some(Ok(StartReport::Started)) => Ok(()),
            Some(Err(_)) if matches!(told, Some(Err(_))) => {
                Err(host("speak to the shim (see shim.log)")(std::io::ErrorKind::BrokenPipe.into()))
            }
            Some(Ok(StartReport::Failed { why })) => Err(start_error(spec, why)),
            Some(Err(e)) => Err(host("hear from the shim (see shim.log)")(e)),
            None => Err(host("hear from the shim")(std::io::ErrorKind::BrokenPipe.into())),
        }
    }
}

fn start_error(spec: &MachineSpec, why: StartFailure) -> MachineError {
    MachineError::Start { machine: spec.name.clone(), why }
}

/// One JSON line, within [`START_LIMIT`].
fn read_report(mut from: std::process::ChildStdout) -> std::io::Result<StartReport> {
    let limit = Timespec { tv_sec: START_LIMIT.as_secs().cast_signed(), tv_nsec: 0 };
    let mut ready = [PollFd::new(&from, PollFlags::IN)];
    if retry_on_intr(|| poll(&mut ready, Some(&limit)))? == 0 {
        return Err(std::io::Error::other(format!("no report within {} s", START_LIMIT.as_secs())));
    }
    let mut text = String::new();
    from.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Starts a machine: spawns its shim from this very program, hands it the spec
/// and returns when the shim reports that the VMM process runs.
///
/// # Errors
/// [`MachineError::Spec`] before anything was done, [`MachineError::Start`] when
/// the shim gave up; nothing is left running then.
pub fn start(spec: &MachineSpec) -> Result<Machine, MachineError> {
    Launcher::default().start(spec)
}

/// The machine of `run_dir`, whoever started it. `None`: it was never started.
/// Ask [`Machine::state`] whether it runs, has stopped, or was lost.
///
/// # Errors
/// When `state.json` is there but cannot be read.
pub fn find(run_dir: &Path) -> Result<Option<Machine>, MachineError> {
    Ok(read_state(run_dir)?.map(|_| Machine { run_dir: run_dir.to_owned() }))
}

/// Removes what a killed shim may have left of the machine of `run_dir`, which does not run: its processes, its control
/// group, its limits. Nothing is done when it was never started.
///
/// # Errors
/// [`MachineError::Start`] when a shim has it; when something cannot be removed.
pub fn sweep(run_dir: &Path) -> Result<(), MachineError> {
    let path = RunDir(run_dir).spec();
    let spec = atomic::read_json::<MachineSpec>(&path).map_err(MachineError::io("read", &path))?;
    let Some(spec) = spec else { return Ok(()) };
    let _own = lock::take_run_dir(run_dir).map_err(|why| start_error(&spec, why))?;
    shim::sweep(run_dir, &spec).map_err(MachineError::io("clear up after", run_dir))
}

fn read_record(run_dir: &Path) -> Result<Option<Record>, MachineError> {
    let path = RunDir(run_dir).state();
    atomic::read_json(&path).map_err(MachineError::io("read", path))
}

fn read_state(run_dir: &Path) -> Result<Option<MachineState>, MachineError> {
    let Some(record) = read_record(run_dir)? else { return Ok(None) };
    if !matches!(record.phase, Phase::Running { .. }) || record.shim.is_alive() {
        return Ok(Some(record.phase.into()));
    }
    // The shim is no more. It may have written its last words after the first look.
    Ok(read_record(run_dir)?.map(|record| match record.phase {
        Phase::Running { since, .. } if !record.shim.is_alive() => MachineState::Lost { since },
        phase => phase.into(),
    }))
}

/// A machine that was started at least once.
#[derive(Clone, Debug)]
pub struct Machine {
    run_dir: PathBuf,
}

/// How a stop came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopOutcome {
    /// It did not run.
    WasStopped,
    /// The guest shut down within the limit.
    Graceful,
    /// The limit passed and the machine was killed.
    Killed,
    /// It crashed or failed meanwhile; ask [`Machine::state`].
    Failed,
}

impl Machine {
    /// Its run directory.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The spec it was last started with.
    ///
    /// # Errors
    /// When `spec.json` cannot be read.
    pub fn spec(&self) -> Result<MachineSpec, MachineError> {
        let path = RunDir(&self.run_dir).spec();
        atomic::read_json(&path)
            .and_then(|found| found.ok_or_else(|| std::io::ErrorKind::NotFound.into()))
            .map_err(MachineError::io("read", path))
    }

    /// What it does now.
    ///
    /// # Errors
    /// When `state.json` cannot be read.
    pub fn state(&self) -> Result<MachineState, MachineError> {
        read_state(&self.run_dir)?.ok_or_else(|| MachineError::Io {
            action: "read",
            path: RunDir(&self.run_dir).state(),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    /// Limits of its spec that this host cannot enforce, each with the reason.
    ///
    /// # Errors
    /// When `state.json` cannot be read.
    pub fn unenforced_limits(&self) -> Result<Vec<String>, MachineError> {
        Ok(read_record(&self.run_dir)?.map(|record| record.unenforced).unwrap_or_default())
    }

    /// Asks the guest to shut down, and kills it after `limit`. Blocks.
    ///
    /// # Errors
    /// When the shim cannot be reached or refuses.
    pub fn stop(&self, limit: Duration) -> Result<StopOutcome, MachineError> {
        ended(self.begin_stop(limit))
    }

    /// Like [`Machine::stop`], for a guest whose init is known to listen: the button is pressed once, and again only when half
    /// of the limit is over, and 10 s, in case the guest was about to start anew. systemd gives Ctrl-Alt-Del back to the kernel
    /// while it unmounts the last file systems: pressed then, it restarts the guest with what is still mounted.
    ///
    /// # Errors
    /// Those of [`Machine::stop`].
    pub fn stop_listening(&self, limit: Duration) -> Result<StopOutcome, MachineError> {
        ended(self.ask_to_stop(limit, true))
    }

    /// Like [`Machine::stop`], but returns as soon as the shim has taken the
    /// request. Dropping the result withdraws the kill at the limit.
    ///
    /// # Errors
    /// [`MachineError::NotRunning`]; when the shim cannot be reached or refuses.
    pub fn begin_stop(&self, limit: Duration) -> Result<Stopping, MachineError> {
        self.ask_to_stop(limit, false)
    }

    fn ask_to_stop(&self, limit: Duration, listens: bool) -> Result<Stopping, MachineError> {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let stream = self.ask(&Request::Stop { limit_ms, listens })?;
        Ok(Stopping { machine: self.clone(), stream })
    }

    /// Ends the VMM at once and returns when it is gone. The guest's file
    /// systems are left as after a power cut. What a killed shim may have left of
    /// a machine is ended, too.
    ///
    /// # Errors
    /// When the shim cannot be reached or refuses.
    pub fn kill(&self) -> Result<(), MachineError> {
        match self.ask(&Request::Kill) {
            Ok(stream) => self.last_words(stream).map(|_| ()),
            Err(MachineError::NotRunning { .. }) => self.bury(),
            Err(e) => Err(e),
        }
    }

    /// Changes the machine while it runs. A machine that is stopped while it is
    /// paused goes on first.
    ///
    /// # Errors
    /// [`MachineError::NotClaimed`] when its VMM does not offer it, before anything is
    /// asked; [`MachineError::NotRunning`]; [`MachineError::Shim`] with the VMM's words.
    pub fn change(&self, change: &Change) -> Result<(), MachineError> {
        let (vmm, capability) = (self.spec()?.vmm, change.capability());
        if !vmm.capabilities().contains(&capability) {
            return Err(MachineError::NotClaimed { vmm: vmm.vmm().kind(), capability });
        }
        self.ask(&Request::Change { change: *change }).map(drop)
    }

    /// Holds the guest: it keeps its memory and uses no CPU.
    ///
    /// # Errors
    /// As [`Machine::change`].
    pub fn pause(&self) -> Result<(), MachineError> {
        self.change(&Change::Pause)
    }

    /// Lets a held guest go on.
    ///
    /// # Errors
    /// As [`Machine::change`].
    pub fn resume(&self) -> Result<(), MachineError> {
        self.change(&Change::Resume)
    }

    /// Gives the guest `bytes` of memory, at most that of its spec.
    ///
    /// # Errors
    /// As [`Machine::change`].
    pub fn set_memory(&self, bytes: u64) -> Result<(), MachineError> {
        self.change(&Change::Memory { bytes })
    }

    /// Slows the disk with this number in the spec down, or lets it run free.
    ///
    /// # Errors
    /// As [`Machine::change`].
    pub fn limit_disk(&self, disk: usize, limit: Rate) -> Result<(), MachineError> {
        self.change(&Change::DiskLimit { disk, limit })
    }

    /// Slows what its network card sends and receives down, or lets it run free.
    ///
    /// # Errors
    /// As [`Machine::change`].
    pub fn limit_network(&self, limit: Rate) -> Result<(), MachineError> {
        self.change(&Change::NetworkLimit { limit })
    }

    /// Whether it runs and its guest is held.
    ///
    /// # Errors
    /// When `state.json` cannot be read.
    pub fn is_paused(&self) -> Result<bool, MachineError> {
        let paused = read_record(&self.run_dir)?.is_some_and(|record| record.paused);
        Ok(paused && self.state()?.is_running())
    }

    /// Removes what is left of a lost machine.
    fn bury(&self) -> Result<(), MachineError> {
        match read_state(&self.run_dir)? {
            Some(MachineState::Lost { .. }) => sweep(&self.run_dir),
            _ => Ok(()),
        }
    }

    /// Blocks until the machine does not run any more.
    ///
    /// # Errors
    /// When the shim cannot be reached, or `state.json` cannot be read.
    pub fn wait(&self) -> Result<MachineState, MachineError> {
        match self.ask(&Request::Wait) {
            Ok(stream) => {
                self.last_words(stream)?;
            }
            Err(MachineError::NotRunning { .. }) => {}
            Err(e) => return Err(e),
        }
        self.state()
    }

    /// Like [`Machine::wait`], for no longer than `limit`; `None` when it still runs then.
    ///
    /// # Errors
    /// As [`Machine::wait`].
    pub fn wait_for(&self, limit: Duration) -> Result<Option<MachineState>, MachineError> {
        let stream = match self.ask(&Request::Wait) {
            Ok(stream) => stream,
            Err(MachineError::NotRunning { .. }) => return self.state().map(Some),
            Err(e) => return Err(e),
        };
        // A limit that the kernel cannot count to is as good as an hour.
        let limit = Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
        let mut polled = [PollFd::new(&stream, PollFlags::IN)];
        let ready = retry_on_intr(|| poll(&mut polled, Some(&limit)))
            .map_err(|e| MachineError::io("wait for", RunDir(&self.run_dir).socket())(e.into()))?;
        if ready == 0 { Ok(None) } else { self.last_words(stream).map(Some) }
    }

    /// What it uses of the host.
    ///
    /// # Errors
    /// [`MachineError::NotRunning`]; when its processes cannot be read.
    pub fn usage(&self) -> Result<Usage, MachineError> {
        let record = read_record(&self.run_dir)?;
        match record.map(|record| (record.shim.pid, record.phase)) {
            Some((shim, Phase::Running { vmm, .. })) if vmm.is_alive() => {
                usage::measure(vmm.pid, shim, &self.spec()?.limits.cgroup)
                    .map_err(MachineError::io("read usage of", format!("/proc/{}", vmm.pid)))
            }
            _ => Err(self.not_running()),
        }
    }

    /// The last line on the console, without control characters. Also of a stopped machine.
    #[must_use]
    pub fn last_line(&self) -> Option<String> {
        console::last_line(&self.run_dir)
    }

    /// The console's log; the part before it, if any, is `console.log.old` beside it.
    #[must_use]
    pub fn console_log(&self) -> PathBuf {
        RunDir(&self.run_dir).console_log()
    }

    /// Opens the console: its history first, then what comes.
    ///
    /// # Errors
    /// [`MachineError::NotRunning`], [`MachineError::ConsoleTaken`].
    pub fn console(&self, access: ConsoleAccess) -> Result<Console, MachineError> {
        self.ask(&Request::Console { access }).map(Console::new)
    }

    fn not_running(&self) -> MachineError {
        MachineError::NotRunning { run_dir: self.run_dir.clone() }
    }

    /// Sends one request and reads whether it was taken.
    fn ask(&self, request: &Request) -> Result<UnixStream, MachineError> {
        let path = RunDir(&self.run_dir).socket();
        let mut stream = match socket::connect_stream(&path) {
            Ok(stream) => stream,
            // No socket or nobody behind it: it has ended. Anything else is told as it is.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ECONNREFUSED)) => {
                return Err(self.not_running());
            }
            Err(e) => return Err(MachineError::io("connect to", path)(e)),
        };
        let mut line = serde_json::to_vec(request).map_err(|e| self.odd(&e))?;
        line.push(b'\n');
        match stream.write_all(&line) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Err(self.not_running()),
            other => other.map_err(MachineError::io("write to", &path))?,
        }
        let line = match read_line(&mut stream) {
            // It ended between the two.
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => String::new(),
            other => other.map_err(MachineError::io("read from", &path))?,
        };
        if line.is_empty() {
            return Err(self.not_running());
        }
        match serde_json::from_str(&line).map_err(|e| self.odd(&e))? {
            Answer::Taken => Ok(stream),
            Answer::ConsoleTaken { pid } => Err(MachineError::ConsoleTaken { pid }),
            Answer::Refused { why } => Err(self.odd(&why)),
        }
    }

    fn odd(&self, why: &dyn std::fmt::Display) -> MachineError {
        MachineError::Shim { run_dir: self.run_dir.clone(), why: why.to_string() }
    }

    /// Waits for the connection's end and tells the state after it. The shim
    /// records the end before it closes.
    fn last_words(&self, stream: UnixStream) -> Result<MachineState, MachineError> {
        let mut rest = Vec::new();
        BufReader::new(stream)
            .read_until(b'\n', &mut rest)
            .map_err(MachineError::io("read from", RunDir(&self.run_dir).socket()))?;
        self.state()
    }
}

/// Byte by byte: what follows the line belongs to somebody else.
fn read_line(stream: &mut UnixStream) -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).map_err(std::io::Error::other)
}

/// A stop under way. Dropping it withdraws the kill at the limit; the guest goes
/// on with its shutdown.
#[derive(Debug)]
pub struct Stopping {
    machine: Machine,
    stream: UnixStream,
}

impl Stopping {
    /// A second handle with which another thread can interrupt [`Stopping::wait`]:
    /// `shutdown(Shutdown::Both)` on it makes that return [`MachineError::Interrupted`].
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn interrupter(&self) -> std::io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Blocks until the machine has stopped.
    ///
    /// # Errors
    /// [`MachineError::Interrupted`]; when `state.json` cannot be read.
    pub fn wait(self) -> Result<StopOutcome, MachineError> {
        use crate::state::Exit;
        Ok(match self.machine.last_words(self.stream)? {
            MachineState::Running { .. } => return Err(MachineError::Interrupted),
            MachineState::Stopped { exit: Exit::PoweredOff, .. } => StopOutcome::Graceful,
            MachineState::Stopped { exit: Exit::Killed, .. } => StopOutcome::Killed,
            MachineState::Stopped { .. } | MachineState::Lost { .. } => StopOutcome::Failed,
        })
    }
}

/// Waits for a stop that has begun; a machine that does not run was stopped.
fn ended(begun: Result<Stopping, MachineError>) -> Result<StopOutcome, MachineError> {
    match begun {
        Ok(stopping) => stopping.wait(),
        Err(MachineError::NotRunning { .. }) => Ok(StopOutcome::WasStopped),
        Err(e) => Err(e),
    }
}
