//! The node's clock, as far as certificates need it: a machine without a battery, or with an old one, may be
//! years off, and then no certificate is valid.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_settime};

use crate::init::say;

/// A clock that is no more off than this is left as it is, seconds.
const TOLERABLE: u64 = 300;

/// Seconds since 1970 by this machine's clock.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_secs().cast_signed()
}

/// Where the host says what time it was when it made this initramfs, seconds since 1970.
const FILE: &str = "/gridgate/clock";

/// Sets the clock by the host's, as it was when this machine was launched. Gives the seconds by which it was set back.
pub(super) fn correct_from_file() -> i64 {
    let text = std::fs::read_to_string(FILE).unwrap_or_default();
    match text.trim().parse() {
        Ok(truth) => correct(truth),
        Err(_) => {
            say("no one has told the time; the clock is left as it is");
            0
        }
    }
}

/// Sets the clock to `truth`, seconds since 1970, when it is off by more than [`TOLERABLE`]. Gives the seconds by which
/// it was set back: none when it was left as it was.
pub(super) fn correct(truth: i64) -> i64 {
    let off = now() - truth;
    if off.unsigned_abs() <= TOLERABLE {
        return 0;
    }
    match clock_settime(ClockId::Realtime, Timespec { tv_sec: truth, tv_nsec: 0 }) {
        Ok(()) => {
            say(format_args!("the clock was {off} s off and is set right"));
            off
        }
        Err(error) => {
            say(format_args!("the clock is {off} s off and cannot be set: {error}"));
            0
        }
    }
}
