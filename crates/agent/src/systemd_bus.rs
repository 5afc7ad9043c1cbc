//! Asks systemd for the states of units over its private socket, with the one
//! D-Bus call `ListUnitsByNames`. A fork of `systemctl` for each look would cost
//! a paravirtual guest more than all the rest of the agent. Formats are from the
//! D-Bus specification; little-endian messages only.
//!
//! On this socket systemd sends its signals to everybody, asked for or not: that
//! is how a wait for jobs learns that one ended.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::system::UnitStatus;

/// systemd's own socket for root, there before and without any message bus.
const SOCKET: &str = "/run/systemd/private";

/// The whole question must be answered within this time (per read).
const LIMIT: Duration = Duration::from_secs(5);

/// No honest answer is larger.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;
const SERIAL: u32 = 1;
const FIELD_MEMBER: u8 = 3;

/// Each unit's state, in the order asked for.
pub(crate) fn unit_states(units: &[&str]) -> io::Result<Vec<UnitStatus>> {
    Systemd::connect()?.states(units)
}

/// Waits until none of `units` has a job any more, at most for `limit`; their states then.
pub(crate) fn settled(units: &[&str], limit: Duration) -> io::Result<Vec<UnitStatus>> {
    let until = Instant::now() + limit;
    let mut systemd = Systemd::connect()?;
    loop {
        let states = systemd.states(units)?;
        if states.iter().all(|unit| unit.job.is_none()) || !systemd.job_ends(until)? {
            return Ok(states);
        }
    }
}

/// A conversation with systemd.
struct Systemd(BufReader<UnixStream>);

impl Systemd {
    fn connect() -> io::Result<Self> {
        let mut stream = UnixStream::connect(SOCKET)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        // EXTERNAL: the kernel vouches for our uid; nothing else is negotiated.
        stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        let mut reader = BufReader::new(stream);
        // Only then a question: systemd does not look again at a message that came
        // with the handshake, and would answer when something else wakes it.
        authenticated(&mut reader)?;
        Ok(Self(reader))
    }

    fn states(&mut self, units: &[&str]) -> io::Result<Vec<UnitStatus>> {
        self.0.get_mut().set_read_timeout(Some(LIMIT))?;
        self.0.get_mut().write_all(&question(units))?;
        loop {
            let (header, body) = message(&mut self.0)?;
            match header.kind {
                METHOD_RETURN => return states(&body, units),
                ERROR => return Err(io::Error::other("systemd refused to list the units")),
                // A signal that happens to pass by.
                _ => {}
            }
        }
    }

    /// Waits until systemd says that a job ended; false when `until` is reached before.
    fn job_ends(&mut self, until: Instant) -> io::Result<bool> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.0.get_mut().set_read_timeout(Some(left))?;
            match message(&mut self.0) {
                Ok((header, _)) if header.is_end_of_job() => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn authenticated(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let mut line = String::new();
        reader.take(1024).read_line(&mut line)?;
        match line.split_whitespace().next() {
            Some("OK") => return Ok(()),
            Some("DATA") => {}
            _ => return Err(bad("systemd did not accept the connection")),
        }
    }
}

/// Writes D-Bus values with their alignment.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        while !self.0.len().is_multiple_of(to) {
            self.0.push(0);
        }
    }

    fn u32(&mut self, value: usize) {
        self.align(4);
        // Lengths here are far below 4 GiB: unit names and constants.
        self.0.extend(u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn string(&mut self, value: &str) {
        self.u32(value.len());
        self.0.extend(value.as_bytes());
        self.0.push(0);
    }

    fn field(&mut self, code: u8, kind: &str, value: &str) {
        self.align(8);
        self.0.extend([code, 1, kind.as_bytes()[0], 0]);
        if kind == "g" {
            self.0.push(u8::try_from(value.len()).unwrap_or(0));
            self.0.extend(value.as_bytes());
            self.0.push(0);
        } else {
            self.string(value);
        }
    }
}

/// The call `ListUnitsByNames(units)`.
fn question(units: &[&str]) -> Vec<u8> {
    let mut names = Writer::default();
    for unit in units {
        names.string(unit);
    }
    let mut body = Writer::default();
    body.u32(names.0.len());
    body.0.extend(names.0);

    let mut fields = Writer::default();
    fields.field(1, "o", "/org/freedesktop/systemd1");
    fields.field(2, "s", "org.freedesktop.systemd1.Manager");
    fields.field(3, "s", "ListUnitsByNames");
    fields.field(6, "s", "org.freedesktop.systemd1");
    fields.field(8, "g", "as");

    let mut message = Writer(vec![b'l', 1, 0, 1]);
    message.u32(body.0.len());
    message.u32(SERIAL as usize);
    message.u32(fields.0.len());
    message.0.extend(fields.0);
    message.align(8);
    message.0.extend(body.0);
    message.0
}

struct Header {
    kind: u8,
    member: Option<String>,
}

impl Header {
    fn is_end_of_job(&self) -> bool {
        self.kind == SIGNAL && self.member.as_deref() == Some("JobRemoved")
    }
}

/// Reads one message: its header and its body.
fn message(reader: &mut impl Read) -> io::Result<(Header, Vec<u8>)> {
    let mut fixed = [0u8; 16];
    reader.read_exact(&mut fixed)?;
    if fixed[0] != b'l' {
        return Err(bad("systemd answered in an unknown byte order"));
    }
    let mut numbers = Reader { bytes: &fixed, at: 4 };
    let body_length = numbers.u32()? as usize;
    numbers.u32()?;
    let fields_length = numbers.u32()? as usize;
    if body_length > MAX_MESSAGE || fields_length > MAX_MESSAGE {
        return Err(bad("systemd's answer is too large"));
    }
    let mut fields = vec![0u8; fields_length.next_multiple_of(8)];
    reader.read_exact(&mut fields)?;
    let mut body = vec![0u8; body_length];
    reader.read_exact(&mut body)?;
    Ok((Header { kind: fixed[1], member: member(&fields[..fields_length])? }, body))
}

/// Reads D-Bus values with their alignment, which counts from the start of `bytes`.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or_else(|| bad("a D-Bus value is too long"))?;
        let taken = self.bytes.get(self.at..end).ok_or_else(|| bad("a D-Bus value is cut off"))?;
        self.at = end;
        Ok(taken)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.align(4);
        let taken = self.take(4)?;
        Ok(u32::from_le_bytes([taken[0], taken[1], taken[2], taken[3]]))
    }

    fn string(&mut self) -> io::Result<&'a str> {
        let length = self.u32()? as usize;
        let taken = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(taken).map_err(|_| bad("a D-Bus string is not UTF-8"))
    }
}

/// The MEMBER among the header's fields: which signal it is.
fn member(fields: &[u8]) -> io::Result<Option<String>> {
    let mut reader = Reader { bytes: fields, at: 0 };
    while reader.at < fields.len() {
        reader.align(8);
        let head = reader.take(4)?;
        match (head[0], head[2]) {
            (FIELD_MEMBER, b's') => return reader.string().map(|name| Some(name.to_owned())),
            (_, b's' | b'o') => drop(reader.string()?),
            (_, b'u') => drop(reader.u32()?),
            (_, b'g') => {
                let length = reader.take(1)?[0];
                reader.take(usize::from(length) + 1)?;
            }
            _ => return Err(bad("a D-Bus header field has an unknown type")),
        }
    }
    Ok(None)
}

/// Reads `a(ssssssouso)`: name, description, load, active, sub, following, path,
/// job id, job type, job path.
fn states(body: &[u8], units: &[&str]) -> io::Result<Vec<UnitStatus>> {
    let mut reader = Reader { bytes: body, at: 0 };
    let length = reader.u32()? as usize;
    reader.align(8);
    let end = reader.at + length;
    let mut found = Vec::new();
    while reader.at < end {
        reader.align(8);
        let name = reader.string()?;
        reader.string()?;
        reader.string()?;
        let active = reader.string()?;
        for _ in 0..3 {
            reader.string()?;
        }
        let job_id = reader.u32()?;
        let job = reader.string()?;
        reader.string()?;
        let job = (job_id != 0).then(|| job.to_owned());
        found.push((name, UnitStatus { active: active.to_owned(), job }));
    }
    // One entry a name, in order; an alias comes back under the unit's own name.
    Ok(units
        .iter()
        .enumerate()
        .map(|(index, unit)| {
            let by_name = found.iter().find(|(name, _)| name == unit);
            let by_place = found.get(index).filter(|_| found.len() == units.len());
            let status = by_name.or(by_place).map(|(_, status)| status.clone());
            status.unwrap_or_else(UnitStatus::unknown)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_is_laid_out_as_the_specification_says() {
        let message = question(&["a.service", "b.mount"]);
        let fields = u32::from_le_bytes(message[12..16].try_into().unwrap()) as usize;
        let body = u32::from_le_bytes(message[4..8].try_into().unwrap()) as usize;
        assert_eq!(message.len(), (16 + fields).next_multiple_of(8) + body);
        assert_eq!(&message[16..20], &[1, 1, b'o', 0]);
        assert!(message.ends_with(b"b.mount\0"));
    }

    #[test]
    fn states_are_read_in_the_order_asked_for() {
        let mut body = Writer::default();
        body.u32(0);
        body.align(8);
        let start = body.0.len();
        let queued = [("real.service", "active", 7, "restart"), ("b.mount", "failed", 0, "")];
        for (name, active, job_id, job) in queued {
            body.align(8);
            for text in [name, "described", "loaded", active, "running", "", "/x"] {
                body.string(text);
            }
            body.u32(job_id);
            body.string(job);
            body.string("/");
        }
        let length = u32::try_from(body.0.len() - start).unwrap();
        body.0[..4].copy_from_slice(&length.to_le_bytes());
        let restarting =
            UnitStatus { job: Some("restart".to_owned()), ..UnitStatus::new("active") };
        let failed = UnitStatus::new("failed");
        let both = states(&body.0, &["alias.service", "b.mount"]).unwrap();
        assert_eq!(both, [restarting, failed.clone()]);
        assert_eq!(states(&body.0, &["b.mount"]).unwrap(), [failed]);
        assert!(states(&body.0[..20], &["b.mount"]).is_err());
    }

    #[test]
    fn the_end_of_a_job_is_told_from_other_signals() {
        let signal = |member: &str| {
            let mut fields = Writer::default();
            fields.field(1, "o", "/org/freedesktop/systemd1");
            fields.field(8, "g", "uoss");
            fields.field(3, "s", member);
            let mut message = Writer(vec![b'l', SIGNAL, 1, 1]);
            message.u32(0);
            message.u32(9);
            message.u32(fields.0.len());
            message.0.extend(fields.0);
            message.align(8);
            message.0
        };
        let ends = |bytes: Vec<u8>| message(&mut &bytes[..]).unwrap().0.is_end_of_job();
        assert!(ends(signal("JobRemoved")));
        assert!(!ends(signal("JobNew")));
    }
}
