//! The terminal on standard input: every key as it is pressed, and as it was before afterwards.

use std::io::{self, stdin};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Keys go through unseen and uninterpreted while this lives; when it is dropped the terminal is as before.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Begins.
    pub fn enter() -> io::Result<RawMode> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Flush, &raw)?;
        Ok(RawMode { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no mending.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// What is typed. Its descriptor stays in blocking mode, which other processes of the terminal share; it is read
/// only when there is something.
#[derive(Debug)]
pub struct Keyboard(AsyncFd<OwnedFd>);

impl Keyboard {
    /// On standard input.
    pub fn open() -> io::Result<Keyboard> {
        let input = stdin().as_fd().try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` is open and the same descriptor for as long as it lives, and the `AsyncFd` owns it.
        let input = unsafe { AsyncFd::register_with_interest(input, Interest::READABLE) };
        Ok(Keyboard(input.map_err(io::Error::from)?))
    }

    /// The next keys; none when the terminal is gone. Loses nothing when it is dropped while it waits.
    pub async fn read(&self) -> io::Result<Vec<u8>> {
        let mut ready = self.0.readable().await?;
        let mut keys = vec![0; 1024];
        let length = rustix::io::read(&self.0, &mut keys)?;
        keys.truncate(length);
        // The kernel tells of new keys only, so what is left must be remembered as there.
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&now))? == 0 {
            ready.clear_ready();
        }
        Ok(keys)
    }
}
