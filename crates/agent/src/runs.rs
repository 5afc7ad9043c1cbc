//! Runs a script for the install server as a user of the node, in an environment
//! like after a login: `/etc/profile` is read, so that middleware's settings hold.

use std::time::{Duration, Instant};

use gridgate_protocol::agent_api::{RUN_OUTPUT, RunRequest, RunResult};

use crate::apply::accounts_of;
use crate::place::Tree;
use crate::process::Call;
use crate::system::System;

/// As the shell's for what cannot be found.
const NOT_FOUND: i32 = 127;

/// As env(1)'s for its own failure.
const NOT_RUN: i32 = 125;

/// Runs the request to its end.
pub(crate) fn run(system: &dyn System, tree: &Tree, request: &RunRequest) -> RunResult {
    let started = Instant::now();
    let login = match accounts_of(tree).login(&request.user) {
        Some(login) => login,
        None => {
            let reason = format!("gridgate: user {} does not exist on this node\n", request.user);
            return refused(NOT_FOUND, reason, started);
        }
    };
    let mut call =
        Call::new(&["/bin/sh", "-l", "-s"], Duration::from_secs(u64::from(request.limit_s)));
    call.input = request.script.clone().into_bytes();
    if !request.script.ends_with('\n') {
        call.input.push(b'\n');
    }
    call.keep = RUN_OUTPUT;
    call.login = Some(login);
    match system.run(&call) {
        Err(error) => refused(NOT_RUN, format!("gridgate: cannot run a shell: {error}\n"), started),
        Ok(done) => RunResult {
            exit_code: done.exit_code,
            timed_out: done.timed_out,
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
            millis: millis(done.elapsed),
        },
    }
}

fn refused(exit_code: i32, stderr: String, started: Instant) -> RunResult {
    RunResult {
        exit_code,
        timed_out: false,
        stdout: String::new(),
        stderr,
        millis: millis(started.elapsed()),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
