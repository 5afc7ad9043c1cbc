//! The shim's poll loop: the console, the clients, stops and the VMM's end.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use super::change;
use super::client::{Client, Heard, Role};
use super::launch::Live;
use super::note;
use super::request::{Answer, Request};
use crate::capability::Change;
use crate::console::ConsoleAccess;
use crate::placement::Placement;
use crate::state::{Exit, Phase};
use crate::vmm::{End, Seat, Sign};

/// Most connections at once.
const CLIENTS: usize = 32;

/// Most input for the guest that is held until it takes it.
const INPUT: usize = 4096;

/// Between two presses of a power button that is not there yet.
const PRESS_AGAIN: Duration = Duration::from_millis(250);

/// A guest that listens is left alone at least so long once it was asked: with a short limit it is rather killed.
const LEFT_ALONE: Duration = Duration::from_secs(10);

/// So often the pause between two presses doubles.
const MOST_DOUBLED: u32 = 3;

/// What poll says of each descriptor.
type Readiness = Vec<PollFlags>;

/// How the shim itself ended the VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It was told to kill it.
    Killed,
    /// The guest had shut down, but was going to start again, or to stay halted.
    ShutDown,
    /// The guest's kernel had panicked, and was going to start again, or to stay so.
    Panicked,
}

/// The VMM's power button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Button {
    /// Nothing to do.
    Idle,
    /// To be pressed then (again, when the VMM did not listen yet).
    Again(Instant),
}

fn placement(live: &Live) -> Option<Placement> {
    let Phase::Running { vmm, .. } = &live.record.phase else { return None };
    if !live.spec.limits.one_processor {
        return None;
    }
    Placement::of(vmm.pid, live.ground.group.clone())
}

/// The loop's state.
pub(super) struct Watch {
    live: Live,
    clients: Vec<Client>,
    /// For the guest, not yet taken by it.
    input: Vec<u8>,
    console_open: bool,
    button: Button,
    /// The guest was asked to shut down, whoever still waits for it: so often.
    presses: u32,
    /// Not to be pressed again before this.
    patient: Option<Instant>,
    ending: Option<Ending>,
    panic: Option<String>,
    /// Of a machine that is kept on one processor.
    placement: Option<Placement>,
}

impl Watch {
    /// Records that the machine runs, then has that reported.
    pub(super) fn new(
        live: Live,
        report: impl FnOnce() -> std::io::Result<()>,
    ) -> std::io::Result<Self> {
        live.ground.record(&live.record);
        report()?;
        Ok(Self {
            placement: placement(&live),
            live,
            clients: Vec::new(),
            input: Vec::new(),
            console_open: true,
            button: Button::Idle,
            presses: 0,
            patient: None,
            ending: None,
            panic: None,
        })
    }

    /// Returns when the machine has ended, the end is recorded and the ground is
    /// cleared; the clients, still connected, learn of it when they are dropped.
    pub(super) fn run(mut self) -> Vec<Client> {
        while !self.turn() {}
        self.wind_up()
    }

    /// One turn; whether the VMM has ended.
    fn turn(&mut self) -> bool {
        let ready = match self.wait() {
            Ok(ready) => ready,
            Err(Errno::INTR) => return false,
            Err(e) => {
                // Without polling there is no owning: the machine must not run unseen.
                note(&format!("cannot poll: {e}"));
                self.end_it(Ending::Killed);
                return true;
            }
        };
        let [end, output, input, listener, clients @ ..] = ready.as_slice() else { return true };
        if output.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.read_console();
        }
        if input.intersects(PollFlags::OUT | PollFlags::ERR) {
            self.write_console();
        }
        self.serve(clients);
        if listener.contains(PollFlags::IN) {
            self.accept();
        }
        self.pursue_stop();
        if self.placement.as_mut().is_some_and(|placement| placement.look().is_err()) {
            // It is about to be seen to have ended; else it stays where it is.
            self.placement = None;
        }
        !end.is_empty()
    }

    /// What is ready: the VMM's end, the console's two directions, the listener, each client.
    fn wait(&self) -> rustix::io::Result<Readiness> {
        let asked = |wanted: &[(bool, PollFlags)]| {
            wanted.iter().filter(|(want, _)| *want).map(|(_, flag)| *flag).collect::<PollFlags>()
        };
        let mut fds = vec![PollFd::new(&self.live.end, PollFlags::IN)];
        // Closed or with nothing to say: looked at, but not for anything.
        let (wire, ended) = (&self.live.wire, &self.live.end);
        fds.push(match self.console_open {
            true => PollFd::new(&wire.output, PollFlags::IN),
            false => PollFd::new(ended, PollFlags::empty()),
        });
        fds.push(match self.input.is_empty() {
            true => PollFd::new(ended, PollFlags::empty()),
            false => PollFd::new(&wire.input, PollFlags::OUT),
        });
        let room = self.clients.len() < CLIENTS;
        fds.push(PollFd::new(&self.live.listener, asked(&[(room, PollFlags::IN)])));
        for client in &self.clients {
            let hear = !client.writes() || self.input.len() < INPUT;
            let behind = client.is_behind(&self.live.feed.history);
            let flags = asked(&[(hear, PollFlags::IN), (behind, PollFlags::OUT)]);
            fds.push(PollFd::from_borrowed_fd(client.stream.as_fd(), flags));
        }
        let limit = self.next_moment().map(|moment| {
            let left = moment.saturating_duration_since(Instant::now());
            // A wait of more than i64 seconds is as good as one of an hour.
            Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 })
        });
        poll(&mut fds, limit.as_ref())?;
        Ok(fds.iter().map(PollFd::revents).collect())
    }

    /// When something is to be done even if nothing happens.
    fn next_moment(&self) -> Option<Instant> {
        let again = match self.button {
            Button::Again(moment) => Some(moment),
            Button::Idle => None,
        };
        let look = self.placement.as_ref().map(Placement::next);
        self.deadline().into_iter().chain(again).chain(look).min()
    }

    fn deadline(&self) -> Option<Instant> {
        let deadlines = self.clients.iter().filter_map(|client| match client.role {
            Role::Stopping { deadline } => Some(deadline),
            _ => None,
        });
        deadlines.min()
    }

    fn read_console(&mut self) {
        let mut bytes = [0; 16 << 10];
        match rustix::io::read(&self.live.wire.output, &mut bytes) {
            Ok(0) => self.console_open = false,
            Ok(length) => {
                let signs = self.live.feed.take(&bytes[..length], &*self.live.vmm);
                signs.into_iter().for_each(|sign| self.heed(sign));
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.console_open = false,
        }
    }

    fn heed(&mut self, sign: Sign) {
        match sign {
            // The first is the cause of the others.
            Sign::Panic(words) => {
                self.panic.get_or_insert(words);
            }
            Sign::Restarting if self.presses > 0 => self.end_it(Ending::ShutDown),
            Sign::Restarting => self.panic = None,
            Sign::Halted => self.end_it(Ending::ShutDown),
            Sign::Dead if self.panic.is_some() => self.end_it(Ending::Panicked),
            Sign::Dead => {}
        }
    }

    fn write_console(&mut self) {
        match rustix::io::write(&self.live.wire.input, &self.input) {
            Ok(length) => drop(self.input.drain(..length)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.input.clear(),
        }
    }

    fn accept(&mut self) {
        match self.live.listener.accept() {
            Ok((stream, _)) => match Client::new(stream) {
                Ok(client) => self.clients.push(client),
                Err(e) => note(&format!("a client: {e}")),
            },
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(e) => note(&format!("accept: {e}")),
        }
    }

    /// Hears and feeds the clients that are ready, and lets go of those that left.
    fn serve(&mut self, ready: &[PollFlags]) {
        let mut leaving = Vec::new();
        for (number, flags) in ready.iter().enumerate() {
            let mut stays = true;
            if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                let room = INPUT.saturating_sub(self.input.len());
                stays = match self.clients[number].hear(room) {
                    Heard::Nothing => true,
                    Heard::Gone => false,
                    Heard::Input(bytes) => {
                        self.input.extend(bytes);
                        true
                    }
                    Heard::Asked(request) => self.take(number, request),
                };
            }
            if !(stays && self.clients[number].feed(&self.live.feed.history)) {
                leaving.push(number);
            }
        }
        let mut number = 0;
        self.clients.retain(|client| {
            number += 1;
            !leaving.contains(&(number - 1)) && !matches!(&client.role, Role::Dismissed)
        });
    }

    /// Does what a client asked for; whether it stays.
    fn take(&mut self, number: usize, request: Request) -> bool {
        let mut kill = false;
        let role = match request {
            Request::Console { access } => match self.open_console(number, access) {
                Ok(role) => role,
                Err(answer) => {
                    self.clients[number].answer(&answer);
                    return false;
                }
            },
            Request::Stop { limit_ms, listens } => {
                let limit = Duration::from_millis(limit_ms).min(Duration::from_secs(86400 * 365));
                self.wake();
                let now = Instant::now();
                // Each stop presses: the guest may have missed an earlier one.
                self.button = Button::Again(now);
                self.patient = listens.then(|| now + LEFT_ALONE.max(limit / 2));
                Role::Stopping { deadline: now + limit }
            }
            Request::Change { change } => {
                let answer = match self.live.change(&change) {
                    Ok(()) => Answer::Taken,
                    Err(e) => Answer::Refused { why: e.to_string() },
                };
                self.clients[number].answer(&answer);
                return false;
            }
            Request::Kill => {
                kill = true;
                Role::Waiting
            }
            Request::Wait => Role::Waiting,
        };
        let client = &mut self.clients[number];
        client.role = role;
        let stays = client.answer(&Answer::Taken);
        if kill {
            self.end_it(Ending::Killed);
        }
        stays
    }

    fn open_console(&mut self, number: usize, access: ConsoleAccess) -> Result<Role, Answer> {
        let writes = access != ConsoleAccess::Watch;
        let by = self.clients[number].pid;
        if writes && let Some(writer) = self.clients.iter_mut().find(|client| client.writes()) {
            if access == ConsoleAccess::Write {
                return Err(Answer::ConsoleTaken { pid: writer.pid });
            }
            writer.dismiss(by);
            self.input.clear();
        }
        Ok(Role::Console { position: 0, writes })
    }

    /// Presses the power button until it is there, and kills at the limit.
    fn pursue_stop(&mut self) {
        if self.ending.is_some() {
            return;
        }
        let now = Instant::now();
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            return self.end_it(Ending::Killed);
        }
        if !matches!(self.button, Button::Again(moment) if moment <= now) {
            return;
        }
        if self.deadline().is_none() {
            // Whoever wanted the stop has left before the guest heard of it.
            self.button = Button::Idle;
            return;
        }
        let Some(button) = self.live.vmm.power_button() else {
            self.button = Button::Idle;
            return;
        };
        let directory = self.live.ground.seat();
        let seat = Seat { directory: &directory, spec: &self.live.spec };
        self.button = match button.press(&seat) {
            Ok(()) => {
                // Each costs a guest that is shutting down already: ever more seldom.
                let wait = button.again() * (1 << self.presses.min(MOST_DOUBLED));
                self.presses += 1;
                Button::Again(self.patient.take().unwrap_or(now + wait))
            }
            Err(_) => Button::Again(Instant::now() + PRESS_AGAIN),
        };
    }

    /// A guest that is held cannot shut down.
    fn wake(&mut self) {
        if self.live.record.paused
            && let Err(e) = self.live.change(&Change::Resume)
        {
            note(&format!("cannot let the guest go on: {e}"));
        }
    }

    fn end_it(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
        if let Err(e) = self.live.bury() {
            note(&format!("cannot end the machine: {e}"));
        }
        // It may have ended already; then its end is about to be seen.
        let _ = pidfd_send_signal(&self.live.end, Signal::KILL);
    }

    fn wind_up(mut self) -> Vec<Client> {
        let status = self.live.last_status();
        while self.console_open {
            let before = self.live.feed.history.end();
            self.read_console();
            if self.live.feed.history.end() == before {
                break;
            }
        }
        let exit = match status {
            Ok(status) => self.judge(status),
            Err(e) => Exit::VmmFailed { reason: format!("its end was not seen: {e}") },
        };
        let mut record = self.live.record.clone();
        record.paused = false;
        record.phase = Phase::Stopped { at: Timestamp::now(), exit };
        if let Err(e) = self.live.bury() {
            note(&format!("something of the machine is left: {e}"));
        }
        change::lift_network_limit(&self.live.spec);
        self.live.ground.record(&record);
        self.live.ground.clear();
        self.live.release_disks();
        let history = &self.live.feed.history;
        self.clients.iter_mut().for_each(|client| client.farewell(history));
        self.clients
    }

    fn judge(&self, status: std::process::ExitStatus) -> Exit {
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        match self.ending {
            Some(Ending::Killed) if killed => return Exit::Killed,
            Some(Ending::ShutDown) => return Exit::PoweredOff,
            _ => {}
        }
        if killed && self.live.ground.group.out_of_memory_kills() > 0 {
            let reason = "the host ended it: it wanted more memory than its limit".into();
            return Exit::Crashed { reason };
        }
        let (panic, last_line) = (self.panic.clone(), self.live.feed.last_line());
        self.live.vmm.judge(&End { status, panic, last_line })
    }
}
