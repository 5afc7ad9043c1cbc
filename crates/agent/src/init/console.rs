//! The console: on QEMU virtio's, whose driver is a module. Until that is loaded the kernel speaks on the serial port, which
//! is the other end of the same stream.

use std::fs::{self, File};
use std::io;

/// The consoles on which the kernel speaks.
const ACTIVE: &str = "/sys/class/tty/console/active";

/// Virtio's, and the one that it takes the place of.
const VIRTIO: &str = "hvc0";
const SERIAL: &str = "ttyS0";

/// Goes over to virtio's console if the kernel speaks on both.
pub(super) fn settle() {
    let active = fs::read_to_string(ACTIVE).unwrap_or_default();
    if !both(&active) {
        return;
    }
    if let Err(error) = go_over() {
        tracing::debug!(%error, "the serial port stays a console");
    }
}

fn both(active: &str) -> bool {
    [VIRTIO, SERIAL].iter().all(|name| active.split_whitespace().any(|word| word == *name))
}

fn go_over() -> io::Result<()> {
    fs::write(format!("/sys/class/tty/{SERIAL}/console"), "N")?;
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
