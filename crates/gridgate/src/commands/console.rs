//! `gridgate console`: a node's console, straight from its shim.
//!
//! ```text
//! open ──► history ──► what comes ──┬─ Ctrl-] ───────────────► left
//!                                   ├─ signal ───────────────► left
//!                                   └─ end of the stream ────► machine ended, or console taken by another
//! ```

mod terminal;

use std::fs::File;
use std::io::{self, IsTerminal, stdin};
use std::path::Path;

use clap::Args;
use gridgate_machine::{ConsoleAccess, Machine, MachineError};
use gridgate_protocol::site_api::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};

use crate::commands::ssh::access;
use crate::commands::target::{SiteChoice, node_name};
use crate::daemon::with_runtime;
use crate::failure::{Exit, Failure, INTERRUPTED, Outcome};
use crate::settings::Settings;
use crate::show::screen;
use terminal::{Keyboard, RawMode};

/// Ctrl-], as in telnet: the one key that no guest needs.
const LEAVE: u8 = 0x1d;

/// A node's console: its history, then what comes; Ctrl-] leaves
///
/// Any number may watch, one may write. Without a terminal it only shows.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate console ce               Ctrl-] leaves
  gridgate console ce --no-follow   only what was written so far
  gridgate console ce --steal       write, even when somebody else does")]
pub struct ConsoleCommand {
    /// Node
    #[arg(value_parser = node_name)]
    node: String,
    #[command(flatten)]
    choice: SiteChoice,
    /// Take the keyboard from whoever has it
    #[arg(long, conflicts_with = "no_follow")]
    steal: bool,
    /// Show what was written so far and end
    #[arg(long)]
    no_follow: bool,
}

impl ConsoleCommand {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let node = &self.node;
        let run_dir = access(settings, &self.choice, node)?.run_dir;
        let machine = gridgate_machine::find(&run_dir).map_err(|e| unusable(node, &e))?;
        let Some(machine) = machine else {
            return Err(Failure::new(ErrorKind::Node, format!("{node} was never started"))
                .hint(format!("gridgate start {node}")));
        };
        let running = machine.state().map_err(|e| unusable(node, &e))?.is_running();
        if self.no_follow || !running {
            history(&machine).map_err(|e| unusable(node, &e))?;
            if !running && !self.no_follow {
                screen::error(&format!("note: {node} is not running; this was its console\n"));
            }
            return Ok(Exit::OK);
        }
        let typing = stdin().is_terminal();
        let (stream, writes) = self.open(&machine, typing)?;
        if !settings.quiet {
            let keys = match (writes, typing) {
                (true, _) => "Ctrl-] leaves",
                (false, true) => "read only, Ctrl-] leaves",
                (false, false) => "read only, Ctrl-C leaves",
            };
            screen::error(&format!("console of {node}: {keys}\n"));
        }
        let end = converse(stream, typing, writes)?;
        self.told(&machine, end, settings)
    }

    /// Opens for writing where that can be, else for reading.
    fn open(&self, machine: &Machine, typing: bool) -> Result<(UnixStreamStd, bool), Failure> {
        let access = match (self.steal, typing) {
            (true, _) => ConsoleAccess::Steal,
            (false, true) => ConsoleAccess::Write,
            (false, false) => ConsoleAccess::Watch,
        };
        let failed = |e: MachineError| unusable(&self.node, &e);
        match machine.console(access) {
            Ok(console) => Ok((console.into_stream(), access != ConsoleAccess::Watch)),
            Err(MachineError::ConsoleTaken { pid }) => {
                screen::error(&format!("note: process {pid} has the keyboard; --steal takes it\n"));
                let console = machine.console(ConsoleAccess::Watch).map_err(failed)?;
                Ok((console.into_stream(), false))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn told(&self, machine: &Machine, end: End, settings: &Settings) -> Outcome {
        match end {
            End::Left => Ok(Exit::OK),
            End::Interrupted => Ok(Exit(INTERRUPTED)),
            End::Closed => {
                let running = machine.state().is_ok_and(|state| state.is_running());
                let why =
                    if running { "somebody took the console" } else { "the machine has ended" };
                if !settings.quiet {
                    screen::error(&format!("\n{}: {why}\n", self.node));
                }
                Ok(Exit::OK)
            }
        }
    }
}

type UnixStreamStd = std::os::unix::net::UnixStream;

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By Ctrl-].
    Left,
    /// By a signal.
    Interrupted,
    /// By the other side.
    Closed,
}

/// Copies both ways until one side ends. The terminal is raw meanwhile and as before afterwards.
fn converse(stream: UnixStreamStd, typing: bool, writes: bool) -> Result<End, Failure> {
    let failed = |e: io::Error| Failure::host("the terminal cannot be used").because(&e);
    with_runtime(async {
        stream.set_nonblocking(true).map_err(failed)?;
        let stream = UnixStream::from_std(stream).map_err(failed)?;
        let keyboard = if typing { Some(Keyboard::open().map_err(failed)?) } else { None };
        // Dropped on every way out of here, a panic included.
        let _raw = if typing { Some(RawMode::enter().map_err(failed)?) } else { None };
        copy(stream, keyboard, writes).await.map_err(failed)
    })
}

async fn copy(mut stream: UnixStream, keyboard: Option<Keyboard>, writes: bool) -> io::Result<End> {
    let (mut from_guest, mut to_guest) = stream.split();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let keys = async {
            match &keyboard {
                Some(keyboard) => keyboard.read().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = from_guest.read(&mut buffer) => match read? {
                0 => return Ok(End::Closed),
                length => screen::bytes(&buffer[..length]),
            },
            keys = keys => {
                let keys = keys?;
                let leave = keys.iter().position(|key| *key == LEAVE);
                if writes {
                    to_guest.write_all(&keys[..leave.unwrap_or(keys.len())]).await?;
                }
                if leave.is_some() || keys.is_empty() {
                    return Ok(End::Left);
                }
            }
            _ = terminate.recv() => return Ok(End::Interrupted),
            _ = hang_up.recv() => return Ok(End::Interrupted),
            _ = interrupt.recv() => return Ok(End::Interrupted),
        }
    }
}

/// The console's log, the older part first.
fn history(machine: &Machine) -> io::Result<()> {
    let log = machine.console_log();
    for path in [log.with_extension("log.old"), log] {
        show_file(&path)?;
    }
    Ok(())
}

fn show_file(path: &Path) -> io::Result<()> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut buffer = vec![0; 64 << 10];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(()),
            length => screen::bytes(&buffer[..length]),
        }
    }
}

fn unusable(node: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(ErrorKind::Node, format!("the console of {node} cannot be used")).because(error)
}
