//! The `gridgate` command line: parse, call the site daemon, show.
//!
//! The same executable is also daemon, shim, jailed first process, build chamber and agent; [`entry`] tells
//! them apart before anything else is built. It never changes a site itself: the daemon alone does.
//!
//! | module | does |
//! |---|---|
//! | [`entry`] | the executable's other lives |
//! | [`cli`] | the command tree, one file per command in [`commands`] |
//! | [`daemon`] | finding, starting and calling the site daemon |
//! | [`show`] | everything that is written on the screen |
//! | [`failure`] | what went wrong, and the exit code |
//! | [`logging`] | the libraries' own words |

mod cli;
mod commands;
mod daemon;
mod entry;
mod failure;
mod logging;
mod settings;
mod show;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match entry::other_life(&arguments) {
        Some(code) => code,
        None => cli::main(arguments),
    }
}
