//! The two pipes between a shim and its VMM that are the guest's console.
//!
//! Not a pty: a VMM that waits for room to write by SIGIO, as User-Mode Linux does,
//! can wait for ever on a terminal. There the wish to be told is noted only after
//! the failed write (`n_tty_write` in the kernel's `drivers/tty/n_tty.c`), so a reader
//! that empties the terminal in between tells nobody. A pipe has one lock for both.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};

/// The shim's ends; neither blocks.
#[derive(Debug)]
pub(super) struct Wire {
    /// To the guest.
    pub(super) input: OwnedFd,
    /// From the guest.
    pub(super) output: OwnedFd,
}

/// The VMM's ends: its standard input and output.
#[derive(Debug)]
pub(super) struct FarEnd {
    pub(super) input: OwnedFd,
    pub(super) output: OwnedFd,
}

pub(super) fn lay() -> io::Result<(Wire, FarEnd)> {
    let (far_input, input) = pipe_with(PipeFlags::CLOEXEC)?;
    let (output, far_output) = pipe_with(PipeFlags::CLOEXEC)?;
    for end in [&input, &output] {
        rustix::io::ioctl_fionbio(end, true)?;
    }
    Ok((Wire { input, output }, FarEnd { input: far_input, output: far_output }))
}
