//! UML's management console: one datagram there, one or more back.
//! Format: the kernel's `arch/um/drivers/mconsole.h`.
//!
//! The guest's side of the directory belongs to the VMM's user, who may put
//! anything there: no symbolic link in it is followed.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, openat2};

use crate::patience::Deadline;
use crate::vmm::{SEAT, Seat};

const MAGIC: u32 = 0xcafe_babe;
const VERSION: u32 = 2;
const DATA: usize = 512;

/// Of an answer: a guest must not fill the shim's memory.
const LONGEST: usize = 64 << 10;

/// Sends `command` to the socket at `path` below the seat and gives back the answer. A guest gives it from its interrupt
/// handler: at once where it has a processor, which on a busy host may take a while.
pub(super) fn command(
    seat: &Seat<'_>,
    path: &Path,
    command: &str,
    patience: Duration,
) -> io::Result<String> {
    let directory = rustix::fs::open(
        seat.directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let target = openat2(&directory, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    let socket = answering_socket(seat)?;
    let deadline = Deadline::of("the guest's kernel", patience);
    socket.set_write_timeout(Some(patience))?;
    socket.send_to(&request(command)?, format!("/proc/self/fd/{}", target.as_raw_fd()))?;
    let mut answer = [0; 12 + DATA];
    let mut words = String::new();
    loop {
        socket.set_read_timeout(Some(deadline.left()?))?;
        let length = socket.recv(&mut answer).map_err(|e| deadline.told(e))?;
        let part = parse(&answer[..length])?;
        words.push_str(&part.text);
        if words.len() > LONGEST {
            return Err(io::Error::other("the guest's kernel does not stop answering"));
        }
        if part.error {
            return Err(io::Error::other(words));
        }
        if !part.more {
            return Ok(words);
        }
    }
}

/// A socket that the guest can answer to: UML sends to the sender's address as it
/// is, and resolves it in its jail. So the address must be the same path on both
/// sides, which it is relative to the directory above the seat: there, the
/// shim's working directory; here, the jail's root.
fn answering_socket(seat: &Seat<'_>) -> io::Result<UnixDatagram> {
    let address = Path::new(SEAT).strip_prefix("/").map_err(io::Error::other)?.join("answer");
    match std::fs::remove_file(seat.directory.join("answer")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let socket = UnixDatagram::bind(&address)?;
    let (owner, group) = (Uid::from_raw(seat.spec.uid), Gid::from_raw(seat.spec.gid));
    chownat(CWD, &address, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(socket)
}

/// `struct mconsole_request`.
fn request(command: &str) -> io::Result<Vec<u8>> {
    if command.len() >= DATA {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let length = u32::try_from(command.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(12 + DATA);
    for word in [MAGIC, VERSION, length] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(command.as_bytes());
    bytes.resize(12 + DATA, 0);
    Ok(bytes)
}

#[derive(Debug, PartialEq, Eq)]
struct Part {
    error: bool,
    more: bool,
    text: String,
}

/// `struct mconsole_reply`.
fn parse(bytes: &[u8]) -> io::Result<Part> {
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    let (Some(error), Some(more), Some(length)) = (word(0), word(4), word(8)) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let rest = &bytes[12..];
    let text = &rest[..rest.len().min(length as usize)];
    let text = String::from_utf8_lossy(text).trim_end_matches(['\0', '\n']).to_owned();
    Ok(Part { error: error != 0, more: more != 0, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_kernels_layout() {
        let bytes = request("cad").unwrap();
        assert_eq!(bytes.len(), 524);
        assert_eq!(bytes[..4], MAGIC.to_ne_bytes());
        assert_eq!(bytes[8..12], 3u32.to_ne_bytes());
        assert_eq!(&bytes[12..16], b"cad\0");
    }

    #[test]
    fn an_answer_is_read_whatever_length_it_claims() {
        let mut bytes = [1u32, 0, 99].map(u32::to_ne_bytes).concat();
        bytes.extend(b"no\0");
        assert_eq!(parse(&bytes).unwrap(), Part { error: true, more: false, text: "no".into() });
        assert!(parse(&bytes[..11]).is_err());
    }
}
