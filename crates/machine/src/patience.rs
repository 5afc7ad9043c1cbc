//! How long the shim, which does nothing else meanwhile, waits for a VMM's answer. A guest may have taken its VMM over:
//! an answer that comes in ever so many pieces takes no longer.

use std::io;
use std::time::{Duration, Instant};

/// A button that was not heard is pressed again.
pub(crate) const PRESS: Duration = Duration::from_millis(500);

/// A change is asked for once: on a busy host a VMM may have to wait for a processor.
pub(crate) const CHANGE: Duration = Duration::from_secs(10);

/// The end of the wait for one answer, all pieces of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    who: &'static str,
    patience: Duration,
    end: Instant,
}

impl Deadline {
    pub(crate) fn of(who: &'static str, patience: Duration) -> Self {
        Self { who, patience, end: Instant::now() + patience }
    }

    /// What is left of it, for a socket's time-out.
    ///
    /// # Errors
    /// When it has passed, in words.
    pub(crate) fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.passed()) } else { Ok(left) }
    }

    /// A socket's time-out in words; other errors as they are.
    pub(crate) fn told(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::WouldBlock { self.passed() } else { error }
    }

    fn passed(&self) -> io::Error {
        let words = format!("{} has not answered for {} s", self.who, self.patience.as_secs_f32());
        io::Error::new(io::ErrorKind::TimedOut, words)
    }
}
