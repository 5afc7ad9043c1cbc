//! The console: on QEMU virtio's, which needs modules (of its driver, or of the bus that it is on). Until they are loaded
//! `/dev/console` is the serial port, which is the other end of the same stream.

use std::fs::{self, File};
use std::io;

/// The consoles of the kernel.
const ACTIVE: &str = "/sys/class/tty/console/active";

/// Virtio's, and the one that is there before it.
const VIRTIO: &str = "hvc0";
const SERIAL: &str = "ttyS0";

/// Goes over to virtio's console if there are both: what is typed comes there. The kernel goes on speaking on the serial port
/// too, since it lets go of virtio's devices before its last words.
pub(super) fn settle() {
    let active = fs::read_to_string(ACTIVE).unwrap_or_default();
    if !both(&active) {
        return;
    }
    if let Err(error) = go_over() {
        tracing::debug!(%error, "the serial port stays the console of this program");
    }
}

fn both(active: &str) -> bool {
    [VIRTIO, SERIAL].iter().all(|name| active.split_whitespace().any(|word| word == *name))
}

fn go_over() -> io::Result<()> {
    let console = File::options().read(true).write(true).open("/dev/console")?;
    rustix::stdio::dup2_stdin(&console)?;
    rustix::stdio::dup2_stdout(&console)?;
    rustix::stdio::dup2_stderr(&console)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::both;

    #[test]
    fn the_serial_port_is_left_for_virtio_alone() {
        assert!(both("ttyS0 hvc0\n") && both("hvc0 ttyS0\n"));
        for other in ["", "ttyS0\n", "hvc0\n", "tty0 hvc0\n", "ttyS0 tty0\n", "ttyS01 hvc0\n"] {
            assert!(!both(other), "{other}");
        }
    }
}
