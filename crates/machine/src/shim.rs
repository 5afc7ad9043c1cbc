//! The process that owns one machine. It outlives whoever started it; when it is
//! killed, the kernel ends its VMM with it.
//!
//! ```text
//! detach ─▶ launch ─▶ watch ─────────────────────────────▶ wind up
//!            │        console, clients, stop and kill      record the end, clear the
//!            │        until the VMM ends                   ground, let the clients go
//!            └─ failure: record it, clear the ground, report
//! ```
//! One thread, one poll loop, bounded memory: whatever the guest prints and whoever
//! connects. It knows of its site what the machine's spec says.

mod change;
mod client;
mod feed;
mod ground;
mod history;
mod launch;
mod log;
pub(crate) mod request;
mod watch;
mod wire;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;

use crate::atomic;
use crate::error::StartFailure;
use crate::process::ProcessId;
use crate::spec::{MachineSpec, RunDir};
use crate::state::{Exit, Phase, Record};
use ground::Ground;
use request::StartReport;

/// Set for the second of the two processes that a start makes.
const DETACHED: &str = "GRIDGATE_SHIM_DETACHED";

/// Hidden command `shim RUN_DIR`: starts the machine of the spec on standard input, reports
/// on standard output and stays until the machine has ended. Call it before any thread exists.
#[must_use]
pub fn shim_main(run_dir: &Path) -> i32 {
    let done = if std::env::var_os(DETACHED).is_some() { own(run_dir) } else { detach(run_dir) };
    match done {
        Ok(()) => 0,
        Err(e) => {
            note(&format!("the shim fails: {e}"));
            1
        }
    }
}

/// Runs the shim proper in a session of its own and leaves it to init, so that
/// nobody has to wait for it.
fn detach(run_dir: &Path) -> std::io::Result<()> {
    rustix::process::setsid()?;
    Command::new("/proc/self/exe").arg("shim").arg(run_dir).env(DETACHED, "1").spawn()?;
    Ok(())
}

/// Removes what a killed shim may have left of the machine. The caller has the run directory to itself.
pub(crate) fn sweep(run_dir: &Path, spec: &MachineSpec) -> std::io::Result<()> {
    clear_up(&Ground::of(run_dir, &spec.limits.cgroup)?, spec)
}

/// Its processes, its control group, its limits, its domain.
fn clear_up(ground: &Ground, spec: &MachineSpec) -> std::io::Result<()> {
    // A killed shim's VMM dies with it, but not in no time.
    ground.clear();
    change::lift_network_limit(spec);
    spec.vmm.vmm().undertaker().map_or(Ok(()), |undertaker| undertaker.end(spec))
}

fn own(run_dir: &Path) -> std::io::Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Short socket addresses, and the same ones as in the jail.
    std::env::set_current_dir(run_dir)?;
    let lock = match crate::lock::take_run_dir(run_dir) {
        Ok(lock) => lock,
        Err(why) => return report(&StartReport::Failed { why }),
    };
    match launch::launch(run_dir) {
        Ok(live) => {
            let ended = watch::Watch::new(live, || report(&StartReport::Started))?.run();
            drop(lock);
            // The clients hear of the end by their connections' closing: last of all.
            drop(ended);
            Ok(())
        }
        Err(why) => {
            record_failure(run_dir, &why);
            drop(lock);
            report(&StartReport::Failed { why })
        }
    }
}

/// Tells the starter, if it still listens, and lets go of its pipe.
fn report(report: &StartReport) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    // A starter that was killed meanwhile does not matter: `find` tells the rest.
    let _ = std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().flush());
    rustix::stdio::dup2_stdout(std::fs::OpenOptions::new().write(true).open("/dev/null")?)?;
    Ok(())
}

fn record_failure(run_dir: &Path, why: &StartFailure) {
    let Some(shim) = ProcessId::own() else { return };
    let exit = Exit::VmmFailed { reason: why.to_string() };
    let phase = Phase::Stopped { at: Timestamp::now(), exit };
    let record = Record { shim, unenforced: Vec::new(), paused: false, phase };
    if let Err(e) = atomic::write_json(&RunDir(run_dir).state(), &record) {
        note(&format!("cannot write state.json: {e}"));
    }
}

/// A line in `shim.log`, which is this process's standard error.
fn note(line: &str) {
    // With nowhere to write there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{} {line}", Timestamp::now());
}
