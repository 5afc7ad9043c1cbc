//! The installer: what `/init` does when the machine is to install itself.
//!
//! ```text
//! identity ─ clock ─ network ─ begin ─▶ partition ─▶ file systems ─┬─ image:    pieces ────────────┬─▶ seed ─▶ flush ─▶ done ─▶ power off
//!                      (start)                                     └─ packages: unpack, configure ─┘
//!        └ any failure is told to the install server and on the console; then the machine powers off
//! ```
//! It knows no VMM and asks nothing of one: the disk is the one that has a node's partitions, else the
//! only writable one. All that comes from the network is checked before it is used.

mod clock;
mod course;
mod disk;
mod image;
mod packages;
mod progress;
mod seed;

use gridgate_protocol::install_api::{InstallFailure, Stage};
use rustix::system::{RebootCommand, reboot};

use crate::init::{CommandLine, Events, Modules, say};

/// Runs the installation and powers the machine off; comes back only when that cannot be done.
pub(crate) fn run(line: &CommandLine, events: &mut Events, modules: &mut Modules) {
    match course::run(line, events, modules) {
        Ok(()) => say("installed; powering off"),
        Err(failure) => {
            say(format_args!("not installed: {} ({})", failure.what, failure.stage.word()));
        }
    }
    rustix::fs::sync();
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        say(format_args!("cannot power off: {error}"));
    }
}

/// A failure in `stage` that trying again may mend.
pub(crate) fn again(stage: Stage, what: impl std::fmt::Display) -> InstallFailure {
    InstallFailure {
        stage,
        what: what.to_string(),
        package: None,
        output: String::new(),
        again: true,
    }
}

/// A failure in `stage` that trying again does not mend.
pub(crate) fn never(stage: Stage, what: impl std::fmt::Display) -> InstallFailure {
    InstallFailure { again: false, ..again(stage, what) }
}
