//! The keeper: a machine's own process on the host, since a domain has none. The shim runs
//! this program again as `xen-keeper RUN_DIR`, in the jail's place; when the domain ends so
//! does the keeper, and tells how.
//!
//! ```text
//! domain made, paused ─▶ console opened ─▶ unpaused ─▶ pump ◀───────────┐
//!                                                       │ domain ends   │ reboot: destroyed,
//!                                                       ▼               │ made again
//!                                   destroyed ◀── look at its reason ───┘
//!                                       │ powered off: 0, crashed: 3, other: 4
//!                                       ▼ taken away by somebody: as a process that was killed
//! ```
//! The console is the terminal that Xen's console daemon makes for the domain; the store
//! tells its name, and tells when a domain ends.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::report::{Domain, Shutdown};
use super::store::Store;
use super::toolstack::Toolstack;
use super::{Identity, create, destroy};
use crate::atomic;
use crate::spec::{MachineSpec, RunDir};

/// The keeper's exit codes; 0 is a guest that has powered off.
pub(super) const CRASHED: i32 = 3;
const ENDED_OTHERWISE: i32 = 4;
const FAILED: i32 = 5;

/// How long the console daemon may take to make a terminal.
const TERMINAL_LIMIT: Duration = Duration::from_secs(20);

/// The console daemon has passed on all that it had when nothing came for so long.
const QUIET: Duration = Duration::from_millis(200);

/// How a life of the domain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Ended(Shutdown),
    /// Somebody destroyed it.
    Gone,
}

/// Hidden command `xen-keeper RUN_DIR`.
#[must_use]
pub fn keeper_main(run_dir: &Path) -> i32 {
    match keep(run_dir) {
        Ok(code) => code,
        Err(e) => {
            // The console is where the machine's last words are looked for.
            let _ = writeln!(io::stdout(), "\r\nthe domain's keeper fails: {e}");
            FAILED
        }
    }
}

fn keep(run_dir: &Path) -> io::Result<i32> {
    let spec: MachineSpec =
        atomic::read_json(&RunDir(run_dir).spec())?.ok_or(io::ErrorKind::NotFound)?;
    let tools = Toolstack::find()?;
    let uuid = Identity::of(&spec).uuid;
    loop {
        let mut store = Store::open()?;
        store.watch("@releaseDomain")?;
        let id = store.domain_of(&uuid)?.ok_or_else(|| io::Error::other("its domain is gone"))?;
        let terminal = open_terminal(&mut store, id)?;
        tools.ask(&["unpause", &id.to_string()])?;
        let fate =
            Pump { terminal, store, input: Vec::new(), input_open: true, terminal_open: true }
                .run(|| look(&tools, &uuid))?;
        match fate {
            Fate::Gone => return Err(killed()),
            Fate::Ended(how) => {
                destroy(&tools, &uuid)?;
                match how {
                    Shutdown::PowerOff => return Ok(0),
                    Shutdown::Crash => return Ok(CRASHED),
                    Shutdown::Reboot => create(&spec).map_err(io::Error::other)?,
                    other => {
                        let _ = writeln!(io::stdout(), "\r\nthe domain has ended: {other:?}");
                        return Ok(ENDED_OTHERWISE);
                    }
                }
            }
        }
    }
}

/// Ends this process as its domain was ended; returns only when that fails.
fn killed() -> io::Error {
    let own = rustix::process::getpid();
    match rustix::process::kill_process(own, rustix::process::Signal::KILL) {
        Ok(()) => io::Error::other("its domain was destroyed"),
        Err(e) => e.into(),
    }
}

fn look(tools: &Toolstack, uuid: &str) -> io::Result<Option<Fate>> {
    Ok(match tools.domain(uuid)? {
        None | Some(Domain { dying: true, .. }) => Some(Fate::Gone),
        Some(Domain { ended, .. }) => ended.map(Fate::Ended),
    })
}

fn open_terminal(store: &mut Store, id: u32) -> io::Result<OwnedFd> {
    let path = format!("/local/domain/{id}/console/tty");
    store.watch(&path)?;
    let end = Instant::now() + TERMINAL_LIMIT;
    loop {
        if let Some(tty) = store.read(&path)?.filter(|tty| !tty.is_empty()) {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            return Ok(rustix::fs::open(&tty, flags, Mode::empty())?);
        }
        if !store.wait(end)? {
            let why =
                "Xen's console daemon makes no terminal for the domain: does xenconsoled run?";
            return Err(io::Error::other(why));
        }
    }
}

/// Between the guest's terminal and this process's standard input and output.
struct Pump {
    terminal: OwnedFd,
    store: Store,
    /// For the guest, not yet taken by it.
    input: Vec<u8>,
    input_open: bool,
    terminal_open: bool,
}

impl Pump {
    /// Pumps until `look`, asked whenever some domain ends, knows this one's fate.
    fn run(mut self, look: impl Fn() -> io::Result<Option<Fate>>) -> io::Result<Fate> {
        let mut ask = true;
        loop {
            if ask && let Some(fate) = look()? {
                while self.turn(Some(QUIET))?.1 {}
                return Ok(fate);
            }
            ask = self.turn(None)?.0;
        }
    }

    /// One turn: whether to look at the domain, and whether anything came from the guest.
    fn turn(&mut self, limit: Option<Duration>) -> io::Result<(bool, bool)> {
        let limit = limit.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        let asked = |wanted: bool, flag| if wanted { flag } else { PollFlags::empty() };
        let stdin = io::stdin();
        let hear = self.input_open && self.input.is_empty();
        let terminal = match self.terminal_open {
            true => PollFlags::IN | asked(!self.input.is_empty(), PollFlags::OUT),
            false => PollFlags::empty(),
        };
        let mut polled = vec![PollFd::new(&self.store, PollFlags::IN)];
        let (mut of_terminal, mut of_input) = (None, None);
        // A closed end would be ready for ever.
        if self.terminal_open {
            of_terminal = Some(polled.len());
            polled.push(PollFd::new(&self.terminal, terminal));
        }
        if hear {
            of_input = Some(polled.len());
            polled.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut polled, limit.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok((false, true)),
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
        drop(polled);
        let of = |at: Option<usize>| at.map_or(PollFlags::empty(), |at| ready[at]);
        if !of(of_input).is_empty() {
            self.hear()?;
        }
        let from_guest = of(of_terminal);
        if from_guest.contains(PollFlags::OUT) {
            self.speak();
        }
        let came = !from_guest.difference(PollFlags::OUT).is_empty() && self.listen()?;
        Ok((!ready[0].is_empty() && self.store.changed()?, came))
    }

    /// From standard input.
    fn hear(&mut self) -> io::Result<()> {
        let mut bytes = [0; 1024];
        match rustix::io::read(io::stdin(), &mut bytes) {
            Ok(0) => self.input_open = false,
            Ok(length) => self.input.extend(&bytes[..length]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    /// To the guest.
    fn speak(&mut self) {
        match rustix::io::write(&self.terminal, &self.input) {
            Ok(length) => drop(self.input.drain(..length)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.terminal_open = false,
        }
    }

    /// From the guest; whether anything came.
    fn listen(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16 << 10];
        match rustix::io::read(&self.terminal, &mut bytes) {
            Ok(0) | Err(Errno::IO) => self.terminal_open = false,
            Ok(length) => {
                let mut out = io::stdout().lock();
                out.write_all(&bytes[..length])?;
                out.flush()?;
                return Ok(true);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(false)
    }
}
