//! The executable's other lives: agent, shim, jail, build chamber.
//!
//! They are told apart by the first argument alone, before the command tree is built and before any thread
//! starts: a shim lives as long as its machine and must stay small, and the jail and the chamber enter
//! namespaces, which only a process of one thread can do.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs another life and gives its exit code; none when this is the command line.
pub fn other_life(arguments: &[OsString]) -> Option<ExitCode> {
    let name = arguments.get(1)?.to_str()?;
    let _rest = &arguments[2..];
    match name {
        "agent" | "shim" | "jail" | "chamber" => Some(ExitCode::FAILURE),
        _ => None,
    }
}
