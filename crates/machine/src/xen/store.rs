//! Xen's store, as a client of its daemon: `docs/misc/xenstore.txt` and
//! `xen/include/public/io/xs_wire.h` of Xen. One connection, one request at a time; events of
//! watches are kept aside until they are asked for.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Where its daemon listens.
pub(super) const SOCKET: &str = "/run/xenstored/socket";

/// The longest content of a message, `XENSTORE_PAYLOAD_MAX`.
const LONGEST: usize = 4096;

/// Message types, `enum xsd_sockmsg_type`.
const DIRECTORY: u32 = 1;
const READ: u32 = 2;
const WATCH: u32 = 4;
const WRITE: u32 = 11;
const EVENT: u32 = 15;
const ERROR: u32 = 16;

/// A connection.
#[derive(Debug)]
pub(super) struct Store {
    stream: UnixStream,
    events: VecDeque<String>,
}

impl Store {
    /// Connects.
    pub(super) fn open() -> io::Result<Self> {
        let stream = UnixStream::connect(SOCKET).map_err(|e| {
            io::Error::other(format!(
                "Xen's store does not answer ({SOCKET}: {e}); is the toolstack running? (xenstored, xenconsoled)"
            ))
        })?;
        Ok(Self { stream, events: VecDeque::new() })
    }

    /// A value; none when it is not there.
    pub(super) fn read(&mut self, path: &str) -> io::Result<Option<String>> {
        let found = absent(self.ask(READ, format!("{path}\0").as_bytes()))?;
        Ok(found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The names below a path; none are there when the path is not.
    pub(super) fn names(&mut self, path: &str) -> io::Result<Vec<String>> {
        let found =
            absent(self.ask(DIRECTORY, format!("{path}\0").as_bytes()))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&found);
        Ok(text.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// Sets a value.
    pub(super) fn write(&mut self, path: &str, value: &str) -> io::Result<()> {
        self.ask(WRITE, format!("{path}\0{value}").as_bytes()).map(drop)
    }

    /// Asks to be told of changes below a path; the first event comes at once.
    pub(super) fn watch(&mut self, path: &str) -> io::Result<()> {
        self.ask(WATCH, format!("{path}\0gridgate\0").as_bytes()).map(drop)
    }

    /// Waits until something that is watched has changed, or the moment has come.
    pub(super) fn wait(&mut self, until: Instant) -> io::Result<bool> {
        if self.events.pop_front().is_some() {
            return Ok(true);
        }
        if !readable(self.stream.as_fd(), until.saturating_duration_since(Instant::now()))? {
            return Ok(false);
        }
        self.take_event().map(|()| true)
    }

    /// Takes the events that have come, without waiting; whether there was one.
    pub(super) fn changed(&mut self) -> io::Result<bool> {
        while readable(self.stream.as_fd(), Duration::ZERO)? {
            self.take_event()?;
            self.events.push_back(String::new());
        }
        let any = !self.events.is_empty();
        self.events.clear();
        Ok(any)
    }

    fn take_event(&mut self) -> io::Result<()> {
        let (kind, _) = self.message()?;
        if kind == EVENT { Ok(()) } else { Err(odd("an answer to no question")) }
    }

    /// The number of the domain with this UUID.
    pub(super) fn domain_of(&mut self, uuid: &str) -> io::Result<Option<u32>> {
        let wanted = format!("/vm/{uuid}");
        for name in self.names("/local/domain")? {
            if self.read(&format!("/local/domain/{name}/vm"))?.as_deref() == Some(&wanted) {
                return Ok(name.parse().ok());
            }
        }
        Ok(None)
    }

    fn ask(&mut self, kind: u32, content: &[u8]) -> io::Result<Vec<u8>> {
        if content.len() > LONGEST {
            return Err(odd("a message that is too long"));
        }
        let length = content.len() as u32;
        let mut message: Vec<u8> =
            [kind, 0, 0, length].iter().flat_map(|word| word.to_ne_bytes()).collect();
        message.extend(content);
        self.stream.write_all(&message)?;
        loop {
            match self.message()? {
                (EVENT, path) => self.events.push_back(String::from_utf8_lossy(&path).into_owned()),
                (ERROR, name) => {
                    let name = String::from_utf8_lossy(&name);
                    let name = name.trim_end_matches('\0');
                    return Err(match name {
                        "ENOENT" => io::ErrorKind::NotFound.into(),
                        _ => odd(name),
                    });
                }
                (answered, bytes) if answered == kind => return Ok(bytes),
                _ => return Err(odd("an answer to another question")),
            }
        }
    }

    fn message(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let mut header = [0; 16];
        self.stream.read_exact(&mut header)?;
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let length = word(12) as usize;
        if length > LONGEST {
            return Err(odd("a message that is too long"));
        }
        let mut content = vec![0; length];
        self.stream.read_exact(&mut content)?;
        Ok((word(0), content))
    }
}

impl AsFd for Store {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::other(format!("Xen's store says {what}"))
}

fn absent(answer: io::Result<Vec<u8>>) -> io::Result<Option<Vec<u8>>> {
    match answer {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn readable(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut polled, Some(&limit)))? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daemon that answers each request with the next of these.
    fn answered(answers: Vec<(u32, &'static [u8])>) -> Store {
        let (stream, mut far) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            for (kind, content) in answers {
                let words = [kind, 0, 0, content.len() as u32];
                far.write_all(&words.map(u32::to_ne_bytes).concat()).unwrap();
                far.write_all(content).unwrap();
            }
            // Questions that come after the last answer are read, until there are no more.
            let _ = far.read_to_end(&mut Vec::new());
        });
        Store { stream, events: VecDeque::new() }
    }

    #[test]
    fn values_lists_and_what_is_not_there() {
        let mut store =
            answered(vec![(READ, b"/dev/pts/0"), (ERROR, b"ENOENT\0"), (ERROR, b"EACCES\0")]);
        assert_eq!(store.read("/a").unwrap().as_deref(), Some("/dev/pts/0"));
        assert_eq!(store.read("/a").unwrap(), None);
        assert_eq!(store.read("/a").unwrap_err().to_string(), "Xen's store says EACCES");
        let mut store = answered(vec![(DIRECTORY, b"0\x0017\0")]);
        assert_eq!(store.names("/local/domain").unwrap(), ["0", "17"]);
    }

    #[test]
    fn an_event_between_question_and_answer_is_kept() {
        let event: &[u8] = b"@releaseDomain\0gridgate\0";
        let mut store = answered(vec![(EVENT, event), (READ, b"x"), (EVENT, event)]);
        assert_eq!(store.read("/a").unwrap().as_deref(), Some("x"));
        let moment = Instant::now() + Duration::from_secs(10);
        assert!(store.wait(moment).unwrap() && store.wait(moment).unwrap());
    }
}
