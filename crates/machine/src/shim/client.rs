//! One connection to the shim.
//!
//! ```text
//! Asking ──request──▶ Console(watch or write) ─┐
//!    │                Waiting(deadline?)       ├─▶ closed
//!    └── nonsense ─────────────────────────────┘
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::history::History;
use super::request::{Answer, LONGEST, Request};

/// How long a client that does not read is waited for at the end.
const FAREWELL: Duration = Duration::from_millis(200);

/// What a connection is for.
#[derive(Debug)]
pub(super) enum Role {
    /// Its request has not been read to the end.
    Asking(Vec<u8>),
    /// Reads the console from `position` on.
    Console { position: u64, writes: bool },
    /// Waits for the machine's end.
    Waiting,
    /// Waits for the machine's end; at `deadline` it is killed.
    Stopping { deadline: Instant },
    /// Another took its console; it is let go.
    Dismissed,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: UnixStream,
    pub(super) role: Role,
    /// The process at the other end.
    pub(super) pid: u32,
}

/// What reading from a client gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing of interest.
    Nothing,
    /// A request.
    Asked(Request),
    /// Bytes for the guest.
    Input(Vec<u8>),
    /// It has gone, or spoke nonsense.
    Gone,
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let pid = rustix::net::sockopt::socket_peercred(&stream)
            .map_or(0, |peer| peer.pid.as_raw_pid().unsigned_abs());
        Ok(Self { stream, role: Role::Asking(Vec::new()), pid })
    }

    /// Whether it is the one that writes to the console.
    pub(super) fn writes(&self) -> bool {
        matches!(self.role, Role::Console { writes: true, .. })
    }

    /// Whether it has not been sent all of the console.
    pub(super) fn is_behind(&self, history: &History) -> bool {
        matches!(self.role, Role::Console { position, .. } if position < history.end())
    }

    /// Reads once, at most `room` bytes of input for the guest.
    pub(super) fn hear(&mut self, room: usize) -> Heard {
        let mut bytes = [0; 1024];
        let room = if self.writes() { room.min(bytes.len()) } else { bytes.len() };
        let length = match self.stream.read(&mut bytes[..room]) {
            Ok(0) => return Heard::Gone,
            Ok(length) => length,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Heard::Nothing;
            }
            Err(_) => return Heard::Gone,
        };
        match &mut self.role {
            Role::Asking(line) => {
                line.extend(&bytes[..length]);
                match line.iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        serde_json::from_slice(&line[..end]).map_or(Heard::Gone, Heard::Asked)
                    }
                    None if line.len() > LONGEST => Heard::Gone,
                    None => Heard::Nothing,
                }
            }
            Role::Console { writes: true, .. } => Heard::Input(bytes[..length].to_vec()),
            _ => Heard::Nothing,
        }
    }

    /// Sends an answer; whether the client is still there.
    pub(super) fn answer(&mut self, answer: &Answer) -> bool {
        let Ok(mut line) = serde_json::to_vec(answer) else { return false };
        line.push(b'\n');
        // The first bytes on this connection: they fit into its buffer.
        self.stream.write_all(&line).is_ok()
    }

    /// Sends what it takes of the console; whether it is still there. One that
    /// has fallen behind the history is told how much it misses.
    pub(super) fn feed(&mut self, history: &History) -> bool {
        let Role::Console { position, .. } = &mut self.role else { return true };
        loop {
            let missed = history.start().saturating_sub(*position);
            if missed > 0 && *position > 0 {
                let words = format!("\r\n[gridgate: {missed} bytes were left out]\r\n");
                // Cut short or not: there is no room for it twice.
                match self.stream.write(words.as_bytes()) {
                    Ok(0) => return false,
                    Ok(_written) => {}
                    Err(e) => return e.kind() == ErrorKind::WouldBlock,
                }
            }
            *position = (*position).max(history.start());
            let run = history.from(*position);
            if run.is_empty() {
                return true;
            }
            match self.stream.write(run) {
                Ok(written) => *position += written as u64,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    /// Tells a writer who took its console.
    pub(super) fn dismiss(&mut self, by: u32) {
        let words = format!("\r\n[gridgate: process {by} took over the console]\r\n");
        // It is disconnected in any case.
        let _ = self.stream.write(words.as_bytes());
        self.role = Role::Dismissed;
    }

    /// Sends the rest of the console, for a moment even to one that is slow.
    pub(super) fn farewell(&mut self, history: &History) {
        if self.is_behind(history)
            && self.stream.set_nonblocking(false).is_ok()
            && self.stream.set_write_timeout(Some(FAREWELL)).is_ok()
        {
            self.feed(history);
        }
    }
}
