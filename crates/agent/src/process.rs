//! Runs a program to its end within a time limit, keeping a bounded part of what
//! it prints. The program leads its own process group; when the limit ends it,
//! the whole group is killed. One thread, no polling: it sleeps in `poll` on the
//! pipes and on the process itself.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::login::{Login, run_as};

/// `PATH` of everything that the agent runs.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program to run.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Program and arguments.
    pub command: Vec<String>,
    /// As whom; none: as the agent.
    pub login: Option<Login>,
    /// Its environment besides what every call gets.
    pub environment: Vec<(String, String)>,
    /// What it reads on standard input.
    pub input: Vec<u8>,
    /// When to kill it.
    pub limit: Duration,
    /// How much of each output stream is kept, in bytes.
    pub keep: usize,
}

impl Call {
    /// A call as the agent, with nothing to read, of at most `limit`.
    pub(crate) fn new(command: &[&str], limit: Duration) -> Self {
        Self {
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            login: None,
            environment: Vec::new(),
            input: Vec::new(),
            limit,
            keep: 8 * 1024,
        }
    }
}

/// What came of a [`Call`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Exit code; 128+n when signal n ended it.
    pub exit_code: i32,
    /// Whether the limit ended it.
    pub timed_out: bool,
    /// Standard output, cut.
    pub stdout: Vec<u8>,
    /// Standard error, cut.
    pub stderr: Vec<u8>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Finished {
    /// Whether it ended well.
    pub(crate) fn ok(&self) -> bool {
        self.exit_code == 0 && !self.timed_out
    }
}

/// One output stream of the program.
struct Stream {
    pipe: Option<Box<dyn Pipe>>,
    kept: Vec<u8>,
    keep: usize,
}

trait Pipe: Read + AsFd {}
impl<T: Read + AsFd> Pipe for T {}

impl Stream {
    fn new(pipe: Option<impl Pipe + 'static>, keep: usize) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let pipe = pipe.map(|pipe| Box::new(pipe) as Box<dyn Pipe>);
        Ok(Self { pipe, kept: Vec::new(), keep })
    }

    /// Reads what is there now; what exceeds `keep` is thrown away, so that the
    /// program never blocks on it.
    fn drain(&mut self) {
        let mut buffer = [0u8; 8192];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(read) => {
                    let room = self.keep.saturating_sub(self.kept.len()).min(read);
                    self.kept.extend_from_slice(&buffer[..room]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }
}

/// Runs `call` to its end.
pub(crate) fn run(call: &Call) -> io::Result<Finished> {
    let started = Instant::now();
    let mut child = command(call)?.spawn()?;
    let watched = watch(&mut child, call, started);
    let timed_out = matches!(watched, Ok((true, ..)));
    if timed_out || watched.is_err() {
        kill_group(&child);
    }
    let status = child.wait()?;
    let (_, mut stdout, mut stderr) = watched?;
    stdout.drain();
    stderr.drain();
    Ok(Finished {
        exit_code: exit_code(status),
        timed_out,
        stdout: stdout.kept,
        stderr: stderr.kept,
        elapsed: started.elapsed(),
    })
}

fn command(call: &Call) -> io::Result<Command> {
    let (program, arguments) = call
        .command
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program is named"))?;
    let mut command = Command::new(program);
    let input = if call.input.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.args(arguments).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8").process_group(0);
    let home = match &call.login {
        Some(login) => {
            command.env("USER", &login.name).env("LOGNAME", &login.name);
            command.env("SHELL", &login.shell);
            run_as(&mut command, login);
            login.home.as_str()
        }
        None => "/root",
    };
    command.env("HOME", home).envs(call.environment.iter().map(|(k, v)| (k, v)));
    let directory = PathBuf::from(home);
    let directory = if call.login.is_some() && directory.is_dir() { home } else { "/" };
    command.current_dir(directory);
    Ok(command)
}

/// Feeds and reads the program until it ends (false) or its time is over (true).
fn watch(child: &mut Child, call: &Call, started: Instant) -> io::Result<(bool, Stream, Stream)> {
    let process = pidfd(child)?;
    let mut stdout = Stream::new(child.stdout.take(), call.keep)?;
    let mut stderr = Stream::new(child.stderr.take(), call.keep)?;
    let mut input = child.stdin.take();
    if let Some(input) = &input {
        rustix::io::ioctl_fionbio(input, true)?;
    }
    let mut unsent = call.input.as_slice();
    loop {
        let Some(left) = call.limit.checked_sub(started.elapsed()) else {
            return Ok((true, stdout, stderr));
        };
        let ended = wait(&process, input.as_ref(), [&stdout, &stderr], left)?;
        if let Some(pipe) = &mut input {
            match pipe.write(unsent) {
                Ok(sent) => unsent = &unsent[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It does not want to read on.
                Err(_) => unsent = &[],
            }
        }
        if unsent.is_empty() {
            input = None;
        }
        stdout.drain();
        stderr.drain();
        if ended {
            return Ok((false, stdout, stderr));
        }
    }
}

/// Sleeps until something happens; true when the program has ended.
fn wait(
    process: &OwnedFd,
    input: Option<&impl AsFd>,
    outputs: [&Stream; 2],
    left: Duration,
) -> io::Result<bool> {
    let mut watched = vec![PollFd::new(process, PollFlags::IN)];
    for pipe in outputs.iter().filter_map(|stream| stream.pipe.as_ref()) {
        watched.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
    }
    if let Some(input) = input {
        watched.push(PollFd::new(input, PollFlags::OUT));
    }
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut watched, Some(&timeout)) {
        Ok(_) => Ok(!watched[0].revents().is_empty()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn pid(child: &Child) -> io::Result<Pid> {
    let raw = i32::try_from(child.id()).map_err(io::Error::other)?;
    Pid::from_raw(raw).ok_or_else(|| io::Error::other("a process without an id"))
}

fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    Ok(pidfd_open(pid(child)?, PidfdFlags::empty())?)
}

/// The child has not been waited for, so the group's id cannot be another's.
fn kill_group(child: &Child) {
    match pid(child).map(|pid| kill_process_group(pid, Signal::KILL)) {
        Ok(Ok(())) => {}
        outcome => tracing::warn!(?outcome, "cannot kill a process group"),
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Finished {
        let mut call = Call::new(&["/bin/sh", "-s"], limit);
        call.input = script.as_bytes().to_vec();
        run(&call).unwrap()
    }

    #[test]
    fn output_and_exit_code_come_back() {
        let done = shell("echo out; echo err >&2; exit 3\n", Duration::from_secs(10));
        assert_eq!((done.exit_code, done.timed_out), (3, false));
        assert_eq!(
            (done.stdout.as_slice(), done.stderr.as_slice()),
            (&b"out\n"[..], &b"err\n"[..])
        );
    }

    #[test]
    fn a_signal_shows_in_the_code() {
        assert_eq!(shell("kill -9 $$\n", Duration::from_secs(10)).exit_code, 137);
    }

    #[test]
    fn the_limit_kills_the_whole_group() {
        let started = Instant::now();
        let done = shell("sleep 1000 & sleep 1000\n", Duration::from_millis(100));
        assert!(done.timed_out && done.exit_code == 137);
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn too_much_output_is_cut_and_does_not_block() {
        let mut call =
            Call::new(&["/bin/sh", "-c", "head -c 1000000 /dev/zero"], Duration::from_secs(20));
        call.keep = 100;
        let done = run(&call).unwrap();
        assert_eq!((done.stdout.len(), done.exit_code), (100, 0));
    }

    #[test]
    fn a_background_process_does_not_hold_the_answer() {
        let done = shell("sleep 3 & echo $!\n", Duration::from_secs(60));
        assert!(done.elapsed < Duration::from_secs(3), "{:?}", done.elapsed);
        let left: i32 = String::from_utf8(done.stdout).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(left).unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn a_long_script_is_fed_while_output_is_read() {
        let script = "echo 0123456789012345678901234567890123456789\n".repeat(20_000);
        let mut call = Call::new(&["/bin/cat"], Duration::from_secs(20));
        call.input = script.clone().into_bytes();
        call.keep = usize::MAX;
        assert_eq!(run(&call).unwrap().stdout.len(), script.len());
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let call = Call::new(&["/nonexistent/program"], Duration::from_secs(1));
        assert_eq!(run(&call).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
