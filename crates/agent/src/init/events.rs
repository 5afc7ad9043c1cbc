//! The kernel's device events: how one waits for a disk without looking again and again.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use super::say;

/// The kernel's own events; 2 would be udev's.
const KERNEL_EVENTS: u32 = 1;

/// When a wait is first spoken of, and how often after that.
const FIRST_WORD: Duration = Duration::from_secs(1);
const NEXT_WORD: Duration = Duration::from_secs(10);

/// A socket on which the kernel tells of devices.
pub(crate) struct Events {
    socket: OwnedFd,
}

impl Events {
    /// Events that come after this call are not missed.
    pub(crate) fn open() -> io::Result<Events> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(KOBJECT_UEVENT),
        )?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, KERNEL_EVENTS))?;
        Ok(Events { socket })
    }

    /// Looks for something now and whenever the kernel tells of a device, until it is there or, if there is one, the
    /// limit is over.
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        limit: Option<Duration>,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let started = Instant::now();
        let mut word = FIRST_WORD;
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            let waited = started.elapsed();
            if limit.is_some_and(|limit| waited >= limit) {
                return None;
            }
            if waited >= word {
                say(format_args!("waiting for {what} ({} s)", waited.as_secs()));
                word = waited + NEXT_WORD;
            }
            let next = limit.map_or(word, |limit| limit.min(word));
            self.sleep(next.saturating_sub(waited));
        }
    }

    /// Until an event comes or `time` is over.
    fn sleep(&mut self, time: Duration) {
        let timeout =
            Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
        let mut watched = [PollFd::new(&self.socket, PollFlags::IN)];
        if let Err(error) = poll(&mut watched, Some(&timeout)) {
            tracing::debug!(%error, "waiting for device events");
        }
        // What they say is not needed: what is there is looked at.
        let mut buffer = [0_u8; 4096];
        while rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty()).is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_what_it_waits_for_or_with_its_limit() {
        let mut events = Events::open().unwrap();
        assert_eq!(events.until("nothing", None, || Some(7)), Some(7));
        let limit = Some(Duration::from_millis(5));
        assert_eq!(events.until("nothing", limit, || None::<()>), None);
    }
}
