//! Looks whether the node does its work. Looks that cost nothing (systemd's
//! answer over its socket, tables in /proc) are taken every 200 ms until all
//! pass, then every 5 s. Commands start a program each, so they run only when
//! everything cheap passes, and pause four times as long as they took. Until then
//! it stands behind the node's services.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gridgate_protocol::agent_api::HealthReport;
use gridgate_protocol::node_profile::{HealthCheck, HealthTest};

use crate::apply::accounts_of;
use crate::board::Board;
use crate::kernel;
use crate::place::Tree;
use crate::priority::Priority;
use crate::process::{Call, Finished};
use crate::since::Since;
use crate::system::{System, UnitStatus};

/// While something does not pass yet.
const EAGER: Duration = Duration::from_millis(200);

/// While something has not passed for a minute.
const PATIENT: Duration = Duration::from_secs(2);

/// While all pass.
const CALM: Duration = Duration::from_secs(5);

/// Between runs of a command check that passes.
const COMMAND_CALM: Duration = Duration::from_secs(30);

/// Shortest pause between runs of a command check.
const COMMAND_EAGER: Duration = Duration::from_millis(500);

/// How long a command check may take. On a machine that is slow, or just busy, an answer is late and not
/// missing: after one that did not come the limit doubles …
const COMMAND_LIMIT: Duration = Duration::from_secs(5);

/// … up to this.
const COMMAND_LIMIT_MOST: Duration = Duration::from_secs(40);

/// Waiting for the first checks.
const NOTHING_TO_DO: Duration = Duration::from_secs(3600);

/// What a look found: whether it passes and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    ok: bool,
    detail: String,
}

impl Look {
    fn new(ok: bool, detail: impl Into<String>) -> Self {
        Self { ok, detail: detail.into() }
    }
}

/// A command check's last look, when the next is due and how long that may take.
struct Paced {
    look: Look,
    due: Instant,
    limit: Duration,
}

/// Watches the checks of the board until the agent ends.
pub(crate) fn run(board: &Board, system: &dyn System, tree: &Tree) {
    let mut since = Since::of_this_boot(tree);
    let mut paced: BTreeMap<usize, Paced> = BTreeMap::new();
    let mut failing_since = Instant::now();
    // What is looked for comes sooner when the look does not hold it up.
    Priority::Behind.take();
    let (mut generation, mut checks) = board.checks();
    loop {
        if checks.is_empty() {
            if !board.wait_checks(generation, NOTHING_TO_DO) {
                return;
            }
        } else {
            let cheap = look_cheap(system, &checks);
            board.set_health(generation, &reports(&checks, &cheap, &paced, &mut since));
            if cheap.iter().flatten().all(|look| look.ok) {
                Priority::Ordinary.take();
                run_commands(system, tree, &checks, &mut paced);
            }
            let all = reports(&checks, &cheap, &paced, &mut since);
            board.set_health(generation, &all);
            since.keep();
            let pause = if all.iter().all(|report| report.ok) {
                failing_since = Instant::now();
                CALM
            } else if failing_since.elapsed() < Duration::from_secs(60) {
                EAGER
            } else {
                PATIENT
            };
            if !board.wait_checks(generation, pause) {
                return;
            }
        }
        let (now, current) = board.checks();
        if now != generation {
            (generation, checks) = (now, current);
            paced.clear();
            failing_since = Instant::now();
        }
    }
}

/// Looks at everything but commands, for which there is none.
fn look_cheap(system: &dyn System, checks: &[HealthCheck]) -> Vec<Option<Look>> {
    let units: Vec<&str> = checks
        .iter()
        .filter_map(|check| match &check.test {
            HealthTest::Unit(unit) => Some(unit.as_str()),
            _ => None,
        })
        .collect();
    let states = system.unit_states(&units).unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot ask systemd for the units' states");
        Vec::new()
    });
    let mut states = states.into_iter();
    let wants = |wanted: fn(&HealthTest) -> bool| checks.iter().any(|check| wanted(&check.test));
    let ports = wants(|test| matches!(test, HealthTest::Listening(_)))
        .then(kernel::listening_ports)
        .unwrap_or_default();
    let mounts = wants(|test| matches!(test, HealthTest::Mounted { .. }))
        .then(kernel::mounts)
        .unwrap_or_default();
    checks
        .iter()
        .map(|check| match &check.test {
            HealthTest::Unit(_) => {
                let state = states.next().unwrap_or_else(UnitStatus::unknown);
                Some(Look::new(state.is_lasting(), state.to_string()))
            }
            HealthTest::Listening(port) if ports.contains(port) => {
                Some(Look::new(true, format!("port {port} open")))
            }
            HealthTest::Listening(port) => Some(Look::new(false, format!("port {port} not open"))),
            HealthTest::Mounted { path, filesystem } => Some(mounted(&mounts, path, filesystem)),
            HealthTest::Command { .. } => None,
        })
        .collect()
}

fn mounted(mounts: &[(String, String)], path: &str, filesystem: &str) -> Look {
    let mut here = mounts.iter().filter(|(point, _)| point == path).map(|(_, kind)| kind.as_str());
    // Of mounts on one another the last is seen.
    match here.next_back() {
        Some(kind) if kind == filesystem => Look::new(true, kind),
        Some(kind) => Look::new(false, format!("{path} is {kind}, not {filesystem}")),
        None => Look::new(false, format!("{path} not mounted")),
    }
}

/// Runs the command checks that are due.
fn run_commands(
    system: &dyn System,
    tree: &Tree,
    checks: &[HealthCheck],
    paced: &mut BTreeMap<usize, Paced>,
) {
    for (index, check) in checks.iter().enumerate() {
        let HealthTest::Command { run, user, expect } = &check.test else { continue };
        if paced.get(&index).is_some_and(|paced| paced.due > Instant::now()) {
            continue;
        }
        let limit = paced.get(&index).map_or(COMMAND_LIMIT, |paced| paced.limit);
        let started = Instant::now();
        let answer = run_command(system, tree, (run, user), limit);
        let elapsed = started.elapsed();
        let (look, pause, limit) = match answer {
            // What was waited for was time: it is tried with more of it.
            Ok(done) if done.timed_out => {
                let look = Look::new(false, format!("no answer within {} s", limit.as_secs()));
                (look, elapsed, (limit * 2).min(COMMAND_LIMIT_MOST))
            }
            answer => {
                let look = judge(answer, expect.as_deref());
                let pause = if look.ok { COMMAND_CALM } else { COMMAND_EAGER };
                (look, pause.max(elapsed * 4), limit)
            }
        };
        paced.insert(index, Paced { look, due: Instant::now() + pause, limit });
    }
}

/// Runs a check's command as its user; why that is not possible.
fn run_command(
    system: &dyn System,
    tree: &Tree,
    (run, user): (&[String], &str),
    limit: Duration,
) -> Result<Finished, String> {
    let Some(login) = accounts_of(tree).login(user) else {
        return Err(format!("user {user} does not exist"));
    };
    let parts: Vec<&str> = run.iter().map(String::as_str).collect();
    let mut call = Call::new(&parts, limit);
    call.keep = 64 * 1024;
    // Becoming root is no change; the call then needs no rights.
    call.login = (login.uid != 0).then_some(login);
    system.run(&call).map_err(|error| format!("cannot run: {error}"))
}

/// What a command's answer says.
fn judge(answer: Result<Finished, String>, expect: Option<&str>) -> Look {
    match answer {
        Err(why) => Look::new(false, why),
        Ok(done) if done.exit_code != 0 => {
            let words = last_line(&done.stderr).or_else(|| last_line(&done.stdout));
            let code = format!("exit code {}", done.exit_code);
            Look::new(false, words.map_or(code.clone(), |words| format!("{code}: {words}")))
        }
        Ok(done) => match expect {
            Some(text) if !String::from_utf8_lossy(&done.stdout).contains(text) => {
                Look::new(false, format!("the output does not contain {text:?}"))
            }
            _ => Look::new(true, "exit code 0"),
        },
    }
}

fn last_line(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().take(200).collect())
}

fn reports(
    checks: &[HealthCheck],
    cheap: &[Option<Look>],
    paced: &BTreeMap<usize, Paced>,
    since: &mut Since,
) -> Vec<HealthReport> {
    let report = |(index, check): (usize, &HealthCheck)| {
        let waiting = Look::new(false, "not looked at yet");
        let look = cheap[index].as_ref().or_else(|| paced.get(&index).map(|p| &p.look));
        let look = look.unwrap_or(&waiting).clone();
        if look.ok {
            since.passes(&check.name);
        }
        HealthReport {
            name: check.name.clone(),
            ok: look.ok,
            detail: look.detail,
            since_ms: since.first(&check.name),
        }
    };
    checks.iter().enumerate().map(report).collect()
}

#[cfg(test)]
mod tests {
    use gridgate_protocol::agent_api::Identity;

    use super::*;
    use crate::network::NetworkError;
    use crate::tests::machine::TestMachine;

    #[test]
    fn a_unit_counts_when_it_runs_and_is_not_about_to_be_restarted() {
        let machine = TestMachine::default();
        let test = HealthTest::Unit("slurmd.service".to_owned());
        let check = HealthCheck { name: "slurmd".into(), component: "slurm-worker".into(), test };
        let look = || look_cheap(&machine, std::slice::from_ref(&check)).remove(0).unwrap();
        machine.set_state("slurmd.service", "active");
        assert_eq!(look(), Look::new(true, "active"));
        machine.set_job("slurmd.service", "active", "restart");
        assert_eq!(look(), Look::new(false, "active, restart queued"));
        machine.set_job("slurmd.service", "inactive", "start");
        assert_eq!(look(), Look::new(false, "inactive, start queued"));
    }

    /// A machine on which a program needs its time.
    struct Slow(Duration);

    impl System for Slow {
        fn run(&self, call: &Call) -> std::io::Result<Finished> {
            let timed_out = call.limit < self.0;
            let exit_code = if timed_out { 137 } else { 0 };
            let (stdout, stderr) = (Vec::new(), Vec::new());
            Ok(Finished { exit_code, timed_out, stdout, stderr, elapsed: call.limit.min(self.0) })
        }

        fn unit_states(&self, _: &[&str]) -> std::io::Result<Vec<UnitStatus>> {
            Ok(Vec::new())
        }

        fn settled(&self, _: &[&str], _: Duration) -> std::io::Result<Vec<UnitStatus>> {
            Ok(Vec::new())
        }

        fn bring_up(&self, _: &Identity) -> Result<(), NetworkError> {
            Ok(())
        }

        fn prepare_disks(&self) {}

        fn notify(&self, _: &str) {}
    }

    #[test]
    fn a_command_that_is_late_gets_more_time() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        std::fs::write(folder.path().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        let tree = Tree::new(folder.path());
        let test =
            HealthTest::Command { run: vec!["sinfo".into()], user: "root".into(), expect: None };
        let checks = [HealthCheck { name: "slurm".into(), component: "slurm".into(), test }];
        let mut paced = BTreeMap::new();
        let mut look = |needs: u64| {
            run_commands(&Slow(Duration::from_secs(needs)), &tree, &checks, &mut paced);
            let seen = paced.get_mut(&0).unwrap();
            seen.due = Instant::now();
            seen.look.detail.clone()
        };
        let words: Vec<String> = (0..4).map(|_| look(15)).collect();
        assert_eq!(
            words,
            ["no answer within 5 s", "no answer within 10 s", "exit code 0", "exit code 0"]
        );
        for _ in 0..3 {
            look(1000);
        }
        assert_eq!(look(1000), "no answer within 40 s");
    }

    #[test]
    fn the_uppermost_mount_counts() {
        let mounts = vec![
            ("/home".to_owned(), "autofs".to_owned()),
            ("/home".to_owned(), "nfs4".to_owned()),
            ("/srv".to_owned(), "ext4".to_owned()),
        ];
        assert!(mounted(&mounts, "/home", "nfs4").ok);
        assert_eq!(mounted(&mounts, "/srv", "nfs4").detail, "/srv is ext4, not nfs4");
        assert_eq!(mounted(&mounts, "/data", "nfs4").detail, "/data not mounted");
    }
}
