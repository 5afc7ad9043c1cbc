//! `/init`: the first program of a machine that was started with gridgate's initial RAM file system.
//!
//! ```text
//! mounts ─ modules ─┬─ standard: wait for the root ─ mount ─ modules disk ─ switch root ─ exec the root's init
//!                   └─ `gridgate.mode=install`: the installer ─ power off
//! ```
//! It knows no VMM: devices are found by what the kernel says of them. It waits by the kernel's device events and says
//! on the console what for. What it cannot do it says there, and ends: the kernel then stops the machine.

mod ahead;
mod command_line;
mod console;
mod devices;
mod events;
mod inside;
mod modules;
mod mounts;
mod no_bpf;
mod switch;

use std::fmt;
use std::io::Write;
use std::time::Duration;

pub(crate) use command_line::CommandLine;
pub(crate) use devices::{Block, blocks};
pub(crate) use events::Events;
pub(crate) use inside::spawn as spawn_inside;
pub(crate) use modules::Modules;
pub(crate) use mounts::NEW_ROOT;

use devices::RootName;
use gridgate_protocol::boot::NO_BPF_ARGUMENT;
use gridgate_protocol::install_api::INSTALL_ARGUMENT;

/// How long an image's own kernel modules are waited for: not every VMM has a disk with them.
const MODULES_DISK: Duration = Duration::from_secs(5);

/// Something that keeps the machine from starting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("cannot {action} {target}: {source}")]
    Io { action: &'static str, target: String, source: std::io::Error },
    #[error(
        "the kernel's command line names no root; it needs root=PARTLABEL=NAME or root=/dev/NAME"
    )]
    NoRoot,
}

/// Makes an [`InitError`] that says what was being done.
pub(crate) fn io<E: Into<std::io::Error>>(
    action: &'static str,
    target: impl fmt::Display,
) -> impl FnOnce(E) -> InitError {
    let target = target.to_string();
    move |source| InitError::Io { action, target, source: source.into() }
}

/// Says a line on the console. One that cannot be written has no other place to go.
pub(crate) fn say(words: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "gridgate: {words}");
}

/// Runs as the machine's first process. It comes back only when it cannot go on; the exit code is then 1.
#[must_use]
pub fn init_main() -> i32 {
    if std::process::id() != 1 {
        let arguments: Vec<_> = std::env::args_os().collect();
        if let Some(code) = inside::life(&arguments) {
            return code;
        }
    }
    if std::process::id() != 1 || !mounts::root_is_in_memory() {
        say("/init is for the kernel to run, as process 1 in an initial RAM file system");
        return 1;
    }
    let ended = run();
    if let Err(error) = ended {
        say(format_args!("this machine cannot start: {error}"));
    }
    1
}

fn run() -> Result<(), InitError> {
    mounts::basic()?;
    let line = CommandLine::read()?;
    let mut events = Events::open().map_err(io("listen for", "device events"))?;
    let mut modules = Modules::read(&line);
    modules.load_always();
    modules.load_wanted();
    console::settle();
    if line.has(INSTALL_ARGUMENT) {
        crate::install::run(&line, &mut events, &mut modules);
        return Ok(());
    }
    standard(&line, &mut events, &mut modules)
}

/// Starts the system on the machine's own disk.
fn standard(
    line: &CommandLine,
    events: &mut Events,
    modules: &mut Modules,
) -> Result<(), InitError> {
    let name = line.value("root").and_then(RootName::parse).ok_or(InitError::NoRoot)?;
    let root = events.until(&format!("the root, {name}"), None, || {
        modules.load_wanted();
        devices::root(&name)
    });
    // Without a limit the wait ends only with an answer.
    let Some(root) = root else { return Err(InitError::NoRoot) };
    let kind = line.value("rootfstype").unwrap_or("ext4");
    mounts::file_system(&root.device, mounts::NEW_ROOT, kind, line.has("rw"))?;
    modules_disk(modules.release(), events)?;
    ahead::put()?;
    let init = line.value("init").unwrap_or("/sbin/init");
    let libraries = line.has(NO_BPF_ARGUMENT).then(no_bpf::folder).transpose()?;
    switch::to_new_root(init, &line.for_init(), libraries)
}

/// Mounts the disk with the kernel's modules where the root's own would be, unless it has them.
fn modules_disk(release: &str, events: &mut Events) -> Result<(), InitError> {
    let place = format!("{}/usr/lib/modules", mounts::NEW_ROOT);
    if std::path::Path::new(&place).join(release).is_dir() {
        return Ok(());
    }
    let what = format!("the disk with the modules of kernel {release}");
    match events.until(&what, Some(MODULES_DISK), devices::modules_disk) {
        Some(disk) => {
            mounts::file_system(&disk.device, &place, "ext4", false)?;
            mounts::left_to_the_end("usr-lib-modules")
        }
        None => {
            say(format_args!(
                "there is no disk with the modules of kernel {release}: none can be loaded later"
            ));
            Ok(())
        }
    }
}
