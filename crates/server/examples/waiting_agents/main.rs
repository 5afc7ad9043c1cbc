//! What it costs one install server to have many agents waiting for news of their profile, and how soon they know:
//! simulated agents in a process of their own, over TLS, each with a question for work that the server holds back, and
//! with a report every 10 s, as real ones have.
//!
//! ```sh
//! cargo run -p gridgate-server --example waiting_agents -- [AGENTS [SECONDS]]
//! ```
//! 100 agents and 60 s of idling unless said otherwise. Agents apply nothing: they fetch the profile and report it as
//! applied, so that the figure is the way there and back.

#![allow(clippy::print_stdout, reason = "the figures are this program's output")]

mod agent;
#[allow(dead_code, reason = "nothing is installed here")]
#[path = "../../tests/install_server/client.rs"]
mod client;

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use gridgate_server::rehearsal::Rehearsal;
use rustix::time::{ClockId, clock_gettime};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["agents", address, ca, tokens @ ..] => agent::all(address.parse()?, ca, tokens),
        [] => serve(100, 60),
        [agents] => serve(agents.parse()?, 60),
        [agents, seconds] => serve(agents.parse()?, seconds.parse()?),
        _ => Err("usage: waiting_agents [AGENTS [SECONDS]]".into()),
    }
}

fn serve(nodes: u32, idle: u64) -> Result<(), Box<dyn Error>> {
    // Nobody else is in this process.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let folder = tempfile::tempdir_in(".")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let rehearsal = runtime.block_on(async { Rehearsal::open(folder.path(), nodes) });
    let rehearsal = rehearsal.map_err(|e| e.what)?;
    let mut agents = rehearsal.agents().map_err(|e| e.what)?;
    agents.truncate(nodes as usize);
    let names: Vec<String> = agents.iter().map(|(name, _)| name.clone()).collect();
    let before = memory()?;

    let ca = folder.path().join("ca.pem");
    fs::write(&ca, &rehearsal.ca)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["agents", &rehearsal.address.to_string(), &ca.display().to_string()])
        .args(agents.iter().map(|(_, token)| token))
        .stdout(Stdio::piped())
        .spawn()?;
    let woken = Woken::of(&mut child)?;
    let measured = (|| {
        let first = runtime.block_on(rehearsal.applied(&names));
        println!(
            "{nodes} agents connected, first profile applied by all after {}",
            show(&first, 1.0)
        );
        woken.take(names.len())?;
        println!("server's memory: {} MiB without agents, {} MiB with", before, memory()?);
        idling(Duration::from_secs(idle));

        let mut times = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let one = std::slice::from_ref(name);
            rehearsal.publish_news(one, &format!("{number}")).map_err(|e| e.what)?;
            times.extend(runtime.block_on(rehearsal.applied(one)));
        }
        println!("published for one node after the other: answered after {}", summary(times));
        woken.take(names.len())?;

        let (began, busy) = (Instant::now(), cpu());
        rehearsal.publish_news(&names, "for all").map_err(|e| e.what)?;
        let all = summary(runtime.block_on(rehearsal.applied(&names)));
        println!("published for all at once: answered after {all}");
        let (took, busy) = (began.elapsed().as_secs_f64(), cpu() - busy);
        println!("  {:.0} ms in all, {:.0} ms of server CPU", took * 1e3, busy * 1e3);
        woken.take(names.len())?;
        println!(
            "each publication woke the agent of its own node only; server's memory: {} MiB",
            memory()?
        );
        Ok(())
    })();
    child.kill()?;
    child.wait()?;
    measured
}

/// What the agents say of being woken: a line each time.
struct Woken(Receiver<String>);

impl Woken {
    fn of(child: &mut Child) -> Result<Woken, Box<dyn Error>> {
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let (sender, receiver) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Woken(receiver))
    }

    /// Takes so many, one of each agent; it is an error when there are others.
    fn take(&self, agents: usize) -> Result<(), Box<dyn Error>> {
        let mut woken: Vec<String> = self.0.iter().take(agents).collect();
        woken.sort_unstable();
        woken.dedup();
        let more = self.0.try_iter().count();
        match (woken.len(), more) {
            (all, 0) if all == agents => Ok(()),
            (some, more) => {
                Err(format!("{some} of {agents} agents were woken, and {more} more times").into())
            }
        }
    }
}

/// Waits, and says what that cost the server.
fn idling(time: Duration) {
    let (began, busy) = (Instant::now(), cpu());
    thread::sleep(time);
    let (took, busy) = (began.elapsed().as_secs_f64(), cpu() - busy);
    let share = 100.0 * busy / took;
    println!(
        "idle for {took:.0} s: {:.0} ms of server CPU, {share:.2} % of one processor",
        busy * 1e3
    );
}

/// CPU time of this process, seconds.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Resident memory of this process, MiB.
fn memory() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.split_whitespace().next().ok_or("no figure")?.parse()?;
    Ok(kib / 1024)
}

/// Median and largest.
fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    format!("{} (median), {} (longest)", show(&times, 0.5), show(&times, 1.0))
}

/// The time below which this part of the sorted times lies.
fn show(times: &[Duration], part: f64) -> String {
    let place = (times.len().saturating_sub(1)) as f64 * part;
    let time = times.get(place as usize).copied().unwrap_or_default();
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
