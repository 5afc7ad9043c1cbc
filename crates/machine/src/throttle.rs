//! Limits on what a network card carries, kept by the host's kernel on the card's interface, whatever VMM is behind it.
//!
//! ```text
//! guest sends ──▶ filter against forgery ──▶ limit ──▶ bridge ──▶ limit ──▶ guest receives
//! ```
//! A limit is a table of nftables (family `netdev`) in the machine's network namespace, with one chain for each
//! direction. What is beyond the limit is dropped; senders such as TCP's slow down to it. The kernel replaces a
//! table as a whole, so that no frame meets half of one. It goes with the namespace at the latest.
//!
//! [`message`] holds the kernel's language; here is who speaks it. No program of the host is run.

mod message;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::capability::Rate;
use crate::spec::Nic;
use message::{Batch, Bucket};

/// More than any link here carries; beyond, the kernel's arithmetic ends.
const MOST_BYTES: u64 = 10_000_000_000;
const MOST_FRAMES: u64 = 100_000_000;

/// What may pass at once after silence, beside a second's worth: a frame as large as a card hands it to the host.
const BURST_BYTES: u32 = 64 << 10;

/// An answer: a message's header and its verdict, then what was asked.
const ANSWER: usize = 4096;

/// Slows the card down, each direction by itself; replaces an earlier limit. The calling thread is inside the
/// card's namespace for a moment.
///
/// # Errors
/// Why it cannot be: the limit, the card or the host's kernel; an earlier limit stands then.
pub fn limit(nic: &Nic, rate: Rate) -> io::Result<()> {
    let buckets = buckets(rate)?;
    let mut batch = Batch::begin(&table(nic)?);
    batch.replace_table();
    for direction in message::DIRECTIONS {
        batch.chain(direction, &nic.tap);
        buckets.iter().for_each(|bucket| batch.rule(direction, bucket));
    }
    let socket = socket(nic)?;
    match tell(socket.as_fd(), batch) {
        Ok(()) => Ok(()),
        Err((step, why)) => Err(io::Error::other(format!(
            "the kernel does not {step} {}: {}; limits on the network need its nf_tables with the family netdev, \
             since Linux 5.16",
            nic.tap,
            io::Error::from(why)
        ))),
    }
}

/// Takes the card's limit away; whether there was one. The calling thread is inside the card's namespace for a moment.
///
/// # Errors
/// Why it may still be there.
pub fn lift(nic: &Nic) -> io::Result<bool> {
    let mut batch = Batch::begin(&table(nic)?);
    batch.remove_table();
    let socket = match socket(nic) {
        Ok(socket) => socket,
        // No namespace, or one that was unmounted: the limit went with it. No nftables: no limit.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => {
            return Ok(false);
        }
        Err(e) if e.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(false),
        Err(e) => return Err(e),
    };
    match tell(socket.as_fd(), batch) {
        Ok(()) => Ok(true),
        Err((_, Errno::NOENT | Errno::OPNOTSUPP | Errno::AFNOSUPPORT)) => Ok(false),
        Err((_, why)) => Err(why.into()),
    }
}

/// The name of a card's table.
fn table(nic: &Nic) -> io::Result<String> {
    if nic.tap.is_empty() || nic.tap.contains('\0') {
        let why = format!("{:?} is not a name of an interface", nic.tap);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(format!("gridgate-limit-{}", nic.tap))
}

/// What the rules count.
fn buckets(rate: Rate) -> io::Result<Vec<Bucket>> {
    let check = |value: u64, most: u64, unit: &str| match value {
        0 => Err(format!("a limit of 0 {unit} in a second would cut the card off")),
        value if value > most => Err(format!("{value} {unit} in a second is no limit; {most} are")),
        value => Ok(value),
    };
    let bytes = rate.bytes_per_second.map(|value| check(value, MOST_BYTES, "bytes"));
    let frames = rate.operations_per_second.map(|value| check(value, MOST_FRAMES, "frames"));
    let bytes = bytes.map(|value| Ok(Bucket::Bytes { rate: value?, burst: BURST_BYTES }));
    let frames = frames.map(|value| {
        let rate = value?;
        Ok(Bucket::Frames { rate, burst: u32::try_from(rate).unwrap_or(u32::MAX) })
    });
    let buckets = bytes.into_iter().chain(frames).collect::<Result<Vec<_>, String>>();
    buckets.map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// A connection to nftables in the card's namespace: a socket stays where it was made. Not on a thread of its own:
/// one that has been joined may still count as one for a moment, and a process of several threads cannot
/// be given new process namespaces, which is what the shim does next when it launches.
fn socket(nic: &Nic) -> io::Result<OwnedFd> {
    let own = File::open("/proc/thread-self/ns/net")?;
    let theirs = File::open(&nic.namespace)?;
    let enter =
        |file: &File| move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
    enter(&theirs)?;
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::NETFILTER),
    );
    enter(&own)?;
    Ok(socket?)
}

/// Has the kernel do all of a batch, or nothing. It answers while it is told.
fn tell(socket: BorrowedFd<'_>, batch: Batch) -> Result<(), (&'static str, Errno)> {
    let (bytes, steps) = batch.end();
    send(socket, &bytes, SendFlags::empty()).map_err(|why| ("hear of a limit on", why))?;
    let mut done = 0;
    let mut answer = [0; ANSWER];
    while done < steps.len() {
        let (_, length) = match recv(socket, &mut answer, RecvFlags::DONTWAIT) {
            Err(Errno::INTR) => continue,
            other => other.map_err(|why| ("answer about a limit on", why))?,
        };
        let Some((number, verdict)) = message::verdict(&answer[..length.min(ANSWER)]) else {
            continue;
        };
        let step = steps.get(number).copied().unwrap_or("take a limit on");
        verdict.map_err(|why| (step, why))?;
        done += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: Option<u64>, frames: Option<u64>) -> String {
        let rate = Rate { bytes_per_second: bytes, operations_per_second: frames };
        buckets(rate).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_limit_is_refused_in_words() {
        assert!(words(Some(0), None).contains("0 bytes in a second would cut the card off"));
        assert!(words(Some(1), Some(0)).contains("0 frames in a second would cut the card off"));
        assert!(words(Some(u64::MAX), None).contains("bytes in a second is no limit"));
    }

    #[test]
    fn both_limits_hold_at_once() {
        let rate = Rate { bytes_per_second: Some(7), operations_per_second: Some(8) };
        let expected =
            [Bucket::Bytes { rate: 7, burst: BURST_BYTES }, Bucket::Frames { rate: 8, burst: 8 }];
        assert_eq!(buckets(rate).unwrap(), expected);
    }
}
