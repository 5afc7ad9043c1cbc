//! systemd units. Links first, then one reload of systemd when it must read
//! something again, then one call each to stop, restart and start what needs it.
//! Calls never wait for jobs: whether a service came up is for the health checks.
//! Only what is put back is waited for: whoever asked wants to know what came of it.

use std::time::{Duration, Instant};

use gridgate_protocol::drift::Difference;
use gridgate_protocol::node_profile::{NodeProfile, Unit, UnitState};

use super::unit_files::{self, Enabling};
use super::{ApplyError, Effect, Intent, Kind, Moment, Outcome, Session, Tools, report};
use crate::process::Call;
use crate::system::{System, UnitStatus};

const LIMIT: Duration = Duration::from_secs(90);

/// So long is waited for the jobs of what is put back.
const SETTLED: Duration = Duration::from_secs(30);

/// Started once more at the end of the first boot, so that what was enabled
/// after systemd had planned the boot is pulled in exactly as at later boots.
const BOOT_TARGET: &str = "default.target";

/// Its mounts are started by name: the targets that want them are reached before
/// the agent runs, and systemd does not look again at what they want.
const FSTAB: &str = "/etc/fstab";

/// Files that systemd reads only when told to.
const READ_BY_SYSTEMD: [&str; 5] = [
    "/etc/systemd/system/",
    "/usr/lib/systemd/system/",
    "/usr/local/lib/systemd/system/",
    FSTAB,
    "/etc/systemd/system.conf",
];

/// Units.
pub(super) struct Units;

/// One unit on its way.
struct Progress<'a> {
    unit: &'a Unit,
    started: Instant,
    result: Result<Effect, ApplyError>,
    by_systemctl: bool,
}

impl Kind for Units {
    fn doing(&self) -> &'static str {
        "Setting up services"
    }

    fn apply(&self, session: &mut Session<'_>) {
        let tools = session.tools;
        let mut all: Vec<Progress<'_>> =
            session.profile.units.iter().map(|unit| set_links(tools, unit)).collect();
        let by_systemctl: Vec<&str> =
            all.iter().filter(|p| p.by_systemctl).map(|p| p.unit.name.as_str()).collect();
        if session.looking() {
            return look(session, &all, &by_systemctl);
        }
        let enabled_by = enable_by_systemctl(tools.system, &by_systemctl);
        for progress in &mut all {
            if let Some((_, result)) =
                enabled_by.iter().find(|(name, _)| *name == progress.unit.name)
            {
                progress.merge(result.as_deref());
            }
        }
        let links_changed = all.iter().any(|p| matches!(p.result, Ok(Effect::Changed)));
        let texts_changed = session
            .changed
            .iter()
            .any(|path| READ_BY_SYSTEMD.iter().any(|start| path.starts_with(start)));
        let installed = session.replaced || session.before.installed != session.state.installed;
        if links_changed || texts_changed || installed {
            (tools.progress)("Having systemd read its units again");
            reload(session);
        }
        drive(session, &mut all);
        for progress in all {
            let unit = progress.unit;
            if progress.result.is_ok() {
                session.state.units.insert(unit.name.clone(), unit.state);
            }
            session.record("unit", &unit.name, &unit.component, progress.started, progress.result);
        }
        let wanted = &session.profile.units;
        session.state.restarted.retain(|name, _| wanted.iter().any(|unit| unit.name == *name));
    }
}

impl Progress<'_> {
    /// Adds the outcome of a step: nothing, or why it failed.
    fn merge(&mut self, refusal: Option<&str>) {
        if self.result.is_ok() {
            self.result = match refusal {
                None => Ok(Effect::Changed),
                Some(reason) => Err(ApplyError::Unit {
                    unit: self.unit.name.clone(),
                    reason: reason.to_owned(),
                }),
            };
        }
    }
}

fn set_links<'a>(tools: &Tools<'_>, unit: &'a Unit) -> Progress<'a> {
    let started = Instant::now();
    let mut by_systemctl = false;
    let tree = tools.tree;
    let mut work = || match unit.state {
        UnitState::Masked => unit_files::mask(tree, &unit.name),
        UnitState::Stopped => unit_files::disable(tree, &unit.name),
        UnitState::Running | UnitState::Enabled => {
            let unmasked = unit_files::unmask(tree, &unit.name)?;
            match unit_files::enabling(tree, &unit.name) {
                Enabling::Links(links) => Ok(unmasked.and(unit_files::enable(tree, &links)?)),
                Enabling::Systemctl => {
                    by_systemctl = true;
                    Ok(unmasked)
                }
            }
        }
    };
    let result = work();
    Progress { unit, started, result, by_systemctl }
}

/// Notes what would be enabled, masked, started and stopped.
fn look(session: &mut Session<'_>, all: &[Progress<'_>], by_systemctl: &[&str]) {
    let system = session.tools.system;
    let names: Vec<&str> = all.iter().map(|progress| progress.unit.name.as_str()).collect();
    let states = states_of(system, &names);
    let disabled =
        if by_systemctl.is_empty() { Vec::new() } else { not_enabled(system, by_systemctl) };
    for (progress, state) in all.iter().zip(&states) {
        let unit = progress.unit;
        session.resource("unit", &unit.name, &unit.component, |session| {
            let linked = match &progress.result {
                Ok(effect) => *effect == Effect::Changed,
                Err(error) => {
                    let reason = error.to_string();
                    return Err(ApplyError::Unit { unit: unit.name.clone(), reason });
                }
            };
            let mut effect = Effect::Unchanged;
            if linked || disabled.contains(&unit.name.as_str()) {
                session.note(enabling(unit.state));
                effect = Effect::Changed;
            }
            if let Some(difference) = running(unit.state, state) {
                session.note(difference);
                effect = Effect::Changed;
            }
            Ok(effect)
        });
    }
}

/// The difference in a unit's links, which are not as this state wants them.
fn enabling(state: UnitState) -> Difference {
    match state {
        UnitState::Masked => Difference::new("masked", "no", "yes"),
        UnitState::Stopped => Difference::new("enabled", "yes", "no"),
        UnitState::Running | UnitState::Enabled => Difference::new("enabled", "no", "yes"),
    }
}

/// The difference in whether a unit runs or will; a unit of which systemd says nothing has none.
fn running(wanted: UnitState, status: &UnitStatus) -> Option<Difference> {
    let up = status.will_be_up();
    match wanted {
        _ if status.is_unknown() => None,
        UnitState::Running if !up => Some(Difference::new("state", status.to_string(), "active")),
        UnitState::Stopped | UnitState::Masked if up => {
            Some(Difference::new("state", status.to_string(), "inactive"))
        }
        _ => None,
    }
}

fn states_of(system: &dyn System, units: &[&str]) -> Vec<UnitStatus> {
    system.unit_states(units).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot ask systemd for the units' states");
        vec![UnitStatus::unknown(); units.len()]
    })
}

/// What became of a call for one unit: nothing for success, or the complaint.
type Complaint = Option<String>;

/// Enables what links alone do not, and only what is not enabled yet. All in one
/// call; one by one only when that fails, to know which of them it was.
fn enable_by_systemctl<'a>(system: &dyn System, units: &[&'a str]) -> Vec<(&'a str, Complaint)> {
    if units.is_empty() {
        return Vec::new();
    }
    let missing = not_enabled(system, units);
    if missing.is_empty() || systemctl(system, &["enable", "--no-reload"], &missing).is_ok() {
        return missing.into_iter().map(|unit| (unit, None)).collect();
    }
    let one = |unit| (unit, systemctl(system, &["enable", "--no-reload"], &[unit]).err());
    missing.into_iter().map(one).collect()
}

/// `systemctl is-enabled` prints one word a unit; a missing unit has none on
/// standard output in some versions, and then all are taken as not enabled.
fn not_enabled<'a>(system: &dyn System, units: &[&'a str]) -> Vec<&'a str> {
    let command: Vec<&str> =
        ["systemctl", "is-enabled"].into_iter().chain(units.iter().copied()).collect();
    let Ok(done) = system.run(&Call::new(&command, LIMIT)) else { return units.to_vec() };
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let words: Vec<&str> = text.lines().map(str::trim).collect();
    if words.len() != units.len() {
        return units.to_vec();
    }
    let fine = ["enabled", "static", "alias", "generated", "indirect", "enabled-runtime"];
    units
        .iter()
        .zip(words)
        .filter(|(_, word)| !fine.contains(word))
        .map(|(unit, _)| *unit)
        .collect()
}

fn reload(session: &mut Session<'_>) {
    let started = Instant::now();
    if let Err(reason) = systemctl(session.tools.system, &["daemon-reload"], &[]) {
        let error = ApplyError::Unit { unit: "systemd".into(), reason };
        session.record("unit", "daemon-reload", "", started, Err(error));
    }
}

/// Stops, restarts and starts what is not as it should be.
fn drive(session: &mut Session<'_>, all: &mut [Progress<'_>]) {
    let names: Vec<&str> = all.iter().map(|p| p.unit.name.as_str()).collect();
    let states = states_of(session.tools.system, &names);
    let mut steps = Steps::default();
    for (progress, state) in all.iter_mut().zip(&states) {
        if progress.result.is_ok() {
            plan(session, progress, state, &mut steps);
        }
    }
    if session.changed.contains(FSTAB) {
        for mount in unit_files::generated_mounts(session.tools.tree) {
            if !steps.start.contains(&mount) {
                steps.start.push(mount);
            }
        }
    }
    let system = session.tools.system;
    let calls = [
        (["stop", "--no-block"], &steps.stop),
        (["restart", "--no-block"], &steps.restart),
        (["reload-or-restart", "--no-block"], &steps.reload),
    ];
    for (verb, units) in calls {
        carry_out(system, all, &verb, units);
    }
    match session.moment {
        Moment::Booting => session.start = steps.start,
        Moment::Running => carry_out(system, all, &["start", "--no-block"], &steps.start),
    }
    if session.tools.intent == Intent::PutBack && session.moment == Moment::Running {
        settle(system, all);
    }
}

/// Who has something put back is told what came of it: waits for the jobs of the units that
/// were stopped, restarted or started, and looks at each. One whose job takes longer is no failure.
fn settle(system: &dyn System, all: &mut [Progress<'_>]) {
    let mut driven: Vec<&mut Progress<'_>> =
        all.iter_mut().filter(|p| matches!(p.result, Ok(Effect::Changed))).collect();
    if driven.is_empty() {
        return;
    }
    let names: Vec<&str> = driven.iter().map(|p| p.unit.name.as_str()).collect();
    let states = match system.settled(&names, SETTLED) {
        Ok(states) => states,
        Err(error) => {
            tracing::warn!(%error, "cannot wait for systemd's jobs");
            return;
        }
    };
    for (progress, status) in driven.iter_mut().zip(&states) {
        if let Some(job) = &status.job {
            tracing::warn!(unit = progress.unit.name, job, "systemd is not done with it yet");
        } else if running(progress.unit.state, status).is_some() {
            progress.merge(Some(&format!("systemd was told, and now it is {status}")));
        }
    }
}

fn carry_out(system: &dyn System, all: &mut [Progress<'_>], verb: &[&str], units: &[String]) {
    if units.is_empty() {
        return;
    }
    let units: Vec<&str> = units.iter().map(String::as_str).collect();
    let complaints = systemctl(system, verb, &units).err().unwrap_or_default();
    for progress in all.iter_mut().filter(|p| units.contains(&p.unit.name.as_str())) {
        let refusal = unit_files::refusal(&complaints, &progress.unit.name);
        progress.merge(refusal.as_deref());
    }
}

/// Units for each verb of systemctl.
#[derive(Default)]
struct Steps {
    stop: Vec<String>,
    start: Vec<String>,
    restart: Vec<String>,
    reload: Vec<String>,
}

fn plan(
    session: &mut Session<'_>,
    progress: &Progress<'_>,
    status: &UnitStatus,
    steps: &mut Steps,
) {
    let unit = progress.unit;
    let up = status.is_up();
    let linked = matches!(progress.result, Ok(Effect::Changed));
    let inputs = session.fingerprint_of(&unit.restart_on);
    let stale = (session.replaced && runs_packages(&unit.name))
        || session.any_changed(&unit.restart_on)
        || session.before.restarted.get(&unit.name).is_some_and(|before| *before != inputs);
    session.state.restarted.insert(unit.name.clone(), inputs);
    let name = unit.name.clone();
    match unit.state {
        // A unit that the boot has planned but not started looks inactive.
        UnitState::Stopped | UnitState::Masked if up || status.will_be_up() || linked => {
            steps.stop.push(name);
        }
        UnitState::Stopped | UnitState::Masked => {}
        UnitState::Running | UnitState::Enabled if up && stale => {
            if unit.reload {
                steps.reload.push(name);
            } else {
                steps.restart.push(name);
            }
        }
        UnitState::Running if !up || !status.will_be_up() => steps.start.push(name),
        UnitState::Enabled if linked && session.moment == Moment::Booting => {
            if !steps.start.iter().any(|name| name == BOOT_TARGET) {
                steps.start.push(BOOT_TARGET.to_owned());
            }
        }
        UnitState::Running | UnitState::Enabled => {}
    }
}

/// Whether a unit starts anew when a package was replaced: which service uses it, or a library of it,
/// is not known. Nothing of a package runs in a mount or a swap area, and taking those away hurts; at a
/// getty there may be somebody, who would be thrown out, and its next login is new by itself.
fn runs_packages(unit: &str) -> bool {
    unit.ends_with(".service") && !unit.contains("getty")
}

/// Starts what an application at boot left to start.
pub(super) fn start(tools: &Tools<'_>, profile: &NodeProfile, outcome: &mut Outcome) {
    let units: Vec<&str> = outcome.start.iter().map(String::as_str).collect();
    if units.is_empty() {
        return;
    }
    let began = Instant::now();
    let Err(complaints) = systemctl(tools.system, &["start", "--no-block"], &units) else { return };
    for unit in profile.units.iter().filter(|unit| units.contains(&unit.name.as_str())) {
        if let Some(reason) = unit_files::refusal(&complaints, &unit.name) {
            let error = ApplyError::Unit { unit: unit.name.clone(), reason };
            outcome.resources.retain(|done| done.kind != "unit" || done.name != unit.name);
            outcome.resources.extend(report(
                "unit",
                &unit.name,
                &unit.component,
                began,
                Err(error),
            ));
        }
    }
}

/// One call of systemctl; its complaints when it fails.
fn systemctl(system: &dyn System, verb: &[&str], units: &[&str]) -> Result<(), String> {
    let command: Vec<&str> = ["systemctl"].iter().chain(verb).chain(units).copied().collect();
    match system.run(&Call::new(&command, LIMIT)) {
        Ok(done) if done.ok() => Ok(()),
        Ok(done) => {
            let text = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            let silent = format!("systemctl {} ended with code {}", verb.join(" "), done.exit_code);
            let text = if text.is_empty() { silent } else { text };
            tracing::warn!(?units, text, "systemctl complained");
            // A complaint that names no unit is about all of them.
            let named = units.iter().any(|unit| text.contains(unit));
            Err(if named {
                text
            } else {
                units.iter().map(|unit| format!("{unit}: {text}\n")).collect()
            })
        }
        Err(error) => Err(units.iter().map(|unit| format!("{unit}: {error}\n")).collect()),
    }
}
