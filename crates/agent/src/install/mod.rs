//! The installer.
use crate::init::{CommandLine, Events, Modules, say};

/// Runs the installation.
pub(crate) fn run(_line: &CommandLine, _events: &mut Events, _modules: &mut Modules) {
    say("this initial RAM file system has no installer yet");
}
