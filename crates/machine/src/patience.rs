//! How long the shim, which does nothing else meanwhile, waits for a VMM's answer.

use std::io;
use std::time::Duration;

/// A button that was not heard is pressed again.
pub(crate) const PRESS: Duration = Duration::from_millis(500);

/// A change is asked for once: on a busy host a VMM may have to wait for a processor.
pub(crate) const CHANGE: Duration = Duration::from_secs(10);

/// A socket's time-out in words; other errors as they are.
pub(crate) fn told(error: io::Error, who: &str, patience: Duration) -> io::Error {
    if error.kind() != io::ErrorKind::WouldBlock {
        return error;
    }
    let words = format!("{who} has not answered for {} s", patience.as_secs_f32());
    io::Error::new(io::ErrorKind::TimedOut, words)
}
