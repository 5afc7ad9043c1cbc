//! How fast the host's time stamp counter runs. QEMU's emulation shows that counter to its guests, and its `microvm`
//! has no second clock by which a kernel could measure it well: on a busy host it would measure nothing, and hang.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// Between two readings. A reading is true to some ten nanoseconds, so the result is to a few millionths.
const SPAN: Duration = Duration::from_millis(10);

/// Readings of which the quickest is taken: a slow one was interrupted.
const READINGS: usize = 16;

/// Counts in a millisecond, which is kHz; none on a host without such a counter. The first call takes 10 ms.
pub(super) fn per_millisecond() -> Option<u64> {
    static RATE: OnceLock<Option<u64>> = OnceLock::new();
    *RATE.get_or_init(|| measured(SPAN))
}

fn measured(span: Duration) -> Option<u64> {
    let (began, first) = reading()?;
    thread::sleep(span);
    let (ended, last) = reading()?;
    let nanoseconds = ended.duration_since(began).as_nanos();
    let counts = u128::from(last.checked_sub(first)?);
    u64::try_from(counts * 1_000_000 / nanoseconds.max(1)).ok().filter(|rate| *rate > 0)
}

/// A moment and what the counter showed then.
fn reading() -> Option<(Instant, u64)> {
    let mut best: Option<(Duration, Instant, u64)> = None;
    for _ in 0..READINGS {
        let before = Instant::now();
        let count = counter()?;
        let took = before.elapsed();
        if best.is_none_or(|(least, ..)| took < least) {
            best = Some((took, before + took / 2, count));
        }
    }
    best.map(|(_, moment, count)| (moment, count))
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "the counter is read by an instruction of its own")]
fn counter() -> Option<u64> {
    // SAFETY: every x86-64 processor has the instruction, which reads a register and changes nothing.
    Some(unsafe { std::arch::x86_64::_rdtsc() })
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> Option<u64> {
    None
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let (one, two) = (measured(SPAN).unwrap(), measured(SPAN * 2).unwrap());
        assert!(one.abs_diff(two) * 1000 < one, "{one} and {two} kHz");
    }
}
