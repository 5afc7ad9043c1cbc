//! QEMU's machine protocol: JSON objects, one a line, on a Unix socket. Its reference
//! is QEMU's `docs/interop/qemu-qmp-ref`.
//!
//! The socket serves one client at a time, and the shim is the only one: it connects,
//! says one command, hears the answer and leaves, so that nothing is held open and a
//! QEMU that hangs hangs nobody else. The socket's folder belongs to the VMM's user, who
//! may put anything there: no symbolic link in it is followed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde_json::{Value, json};

use crate::patience::Deadline;
use crate::vmm::Seat;

/// Longest line and most lines of events before an answer: a VMM that a guest has taken
/// over must not fill the shim's memory.
const LONGEST: u64 = 64 << 10;
const EVENTS: usize = 64;

/// Has QEMU carry out `command` and gives back what it returns. It answers from its main loop: at once where that has a
/// processor.
pub(super) fn command(
    seat: &Seat<'_>,
    path: &Path,
    command: &str,
    arguments: &Value,
    patience: Duration,
) -> io::Result<Value> {
    let deadline = Deadline::of("QEMU", patience);
    let mut session = Session::open(connect(seat, path)?, deadline)?;
    session.ask("qmp_capabilities", &json!({}))?;
    session.ask(command, arguments)
}

fn connect(seat: &Seat<'_>, path: &Path) -> io::Result<UnixStream> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(seat.directory, flags, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let target = openat2(&directory, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    UnixStream::connect(format!("/proc/self/fd/{}", target.as_raw_fd()))
}

struct Session {
    reader: BufReader<Connection>,
}

/// To QEMU, until its deadline.
struct Connection {
    stream: UnixStream,
    deadline: Deadline,
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.deadline.left()?))?;
        self.stream.read(buffer).map_err(|e| self.deadline.told(e))
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.deadline.left()?))?;
        self.stream.write(bytes).map_err(|e| self.deadline.told(e))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Session {
    /// Begins with QEMU's greeting.
    fn open(stream: UnixStream, deadline: Deadline) -> io::Result<Self> {
        let mut session = Self { reader: BufReader::new(Connection { stream, deadline }) };
        let greeting = session.line()?;
        match greeting.get("QMP") {
            Some(_) => Ok(session),
            None => Err(io::Error::other(format!("QEMU does not greet: {greeting}"))),
        }
    }

    fn ask(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        let mut request = json!({"execute": command, "arguments": arguments}).to_string();
        request.push('\n');
        self.reader.get_mut().write_all(request.as_bytes())?;
        for _ in 0..EVENTS {
            let mut answer = self.line()?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                let words = error.get("desc").and_then(Value::as_str).unwrap_or("no reason");
                return Err(io::Error::other(format!("QEMU: {words}")));
            }
        }
        Err(io::Error::other(format!("QEMU does not answer {command:?}")))
    }

    fn line(&mut self) -> io::Result<Value> {
        let mut line = Vec::new();
        (&mut self.reader).take(LONGEST).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patience::CHANGE;

    fn open(stream: UnixStream, patience: Duration) -> io::Result<Session> {
        Session::open(stream, Deadline::of("QEMU", patience))
    }

    /// The other side: says these lines, each after it has heard one, the first at once.
    fn speaks(lines: &'static [&'static str]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(theirs.try_clone().unwrap());
            let mut theirs = theirs;
            for line in lines {
                theirs.write_all(line.as_bytes()).unwrap();
                let mut heard = String::new();
                if reader.read_line(&mut heard).unwrap_or(0) == 0 {
                    return;
                }
            }
        });
        ours
    }

    const GREETING: &str = "{\"QMP\": {\"version\": {}}}\n";

    #[test]
    fn an_answer_is_found_behind_events() {
        let answer = "{\"event\": \"STOP\"}\n{\"return\": {\"x\": 1}}\n";
        let lines: &[&str] = Box::leak(Box::new([GREETING, answer]));
        let mut session = open(speaks(lines), CHANGE).unwrap();
        assert_eq!(session.ask("stop", &json!({})).unwrap(), json!({"x": 1}));
    }

    #[test]
    fn a_refusal_is_told_in_qemus_words() {
        let refusal = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such disk\"}}\n";
        let lines: &[&str] = Box::leak(Box::new([GREETING, refusal]));
        let mut session = open(speaks(lines), CHANGE).unwrap();
        let error = session.ask("stop", &json!({})).unwrap_err();
        assert_eq!(error.to_string(), "QEMU: no such disk");
        assert!(open(speaks(&["hello\n"]), CHANGE).is_err());
        assert!(open(speaks(&["{}\n"]), CHANGE).is_err());
    }

    #[test]
    fn a_silent_qemu_is_told_with_the_time() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let error = open(ours, Duration::from_millis(10)).err().unwrap();
        assert_eq!(error.to_string(), "QEMU has not answered for 0.01 s");
    }

    #[test]
    fn a_qemu_that_answers_ever_so_slowly_is_given_up() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            while theirs.write_all(b" ").is_ok() {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        });
        let error = open(ours, Duration::from_millis(20)).err().unwrap();
        assert_eq!(error.to_string(), "QEMU has not answered for 0.02 s");
    }
}
