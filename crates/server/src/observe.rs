//! What is: disks, machines and what the agents say, turned into states that do not lie.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use gridgate_machine::{Exit, Machine, MachineState};
use gridgate_profile::CompiledNode;
use gridgate_protocol::agent_api::{AgentPhase, Outcome, Report};
use gridgate_protocol::site_api::{NodeState, NodeStatus, SiteStatus};

use crate::arrangement::Arrangement;
use crate::home::NodeDir;
use crate::install::link::Heard;
use crate::launch;
use crate::reunion;
use crate::rollout::{Journal, State};
use crate::site::Site;
use crate::wanted::Wanted;

/// What a node's machine is.
pub enum Found {
    /// Never started, or its folder is gone.
    None,
    /// Runs, since so many milliseconds.
    Running(Machine, u64),
    /// Ended, with the reason in words and whether that was in order.
    Ended {
        /// How.
        how: String,
        /// Whether somebody wanted it.
        wanted: bool,
    },
}

/// Looks for a node's machine. Blocking.
pub fn machine(dir: &NodeDir) -> Found {
    let machine = match gridgate_machine::find(&dir.run()) {
        Ok(Some(machine)) => machine,
        Ok(None) => return Found::None,
        Err(e) => return Found::Ended { how: e.to_string(), wanted: false },
    };
    match machine.state() {
        Ok(MachineState::Running { since, .. }) => {
            let now = jiff::Timestamp::now().as_millisecond();
            Found::Running(machine, u64::try_from(now - since.as_millisecond()).unwrap_or(0))
        }
        Ok(MachineState::Stopped { exit, .. }) => Found::Ended {
            wanted: matches!(exit, Exit::PoweredOff | Exit::Killed),
            how: exit.to_string(),
        },
        Ok(MachineState::Lost { .. }) => Found::Ended {
            how: "its shim was killed, and the machine ended with it".into(),
            wanted: false,
        },
        Err(e) => Found::Ended { how: e.to_string(), wanted: false },
    }
}

/// The whole site. Blocking.
pub fn site(site: &Site, wanted: &Wanted) -> SiteStatus {
    SiteStatus {
        site: site.name.clone(),
        domain: wanted.site.domain.clone(),
        profile: wanted.source.path.clone(),
        task: site.task().map(|task| task.name.clone()),
        nodes: wanted
            .compiled
            .nodes
            .iter()
            .map(|node| node_status(site, wanted, node, Detail::WithUsage))
            .collect(),
        checks: site.checks(),
    }
}

/// How closely a node is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// State and what the agent said: for waits, which look often.
    State,
    /// Also what the machine uses of the host. Adding up the memory of hundreds of guest processes costs
    /// the kernel as much time as a guest needs to start a service.
    WithUsage,
}

/// One node. Blocking.
pub fn node_status(
    site: &Site,
    wanted: &Wanted,
    node: &CompiledNode,
    detail: Detail,
) -> NodeStatus {
    let dir = site.dir.node(&node.name);
    let disk = std::fs::metadata(dir.disk()).ok();
    let mut status = blank(node);
    let started = launch::last_spec(&dir).filter(|_| disk.is_some());
    let engine = match started {
        Some(spec) => Some(Arrangement::of(&spec.vmm).engine()),
        None => wanted.choice(&node.name).ok().map(|choice| choice.engine),
    };
    status.vmm = engine.map_or_else(|| "none".to_owned(), |engine| engine.to_string());
    status.disk_used = disk.as_ref().map(|meta| meta.blocks() * 512);
    if let Some(published) = site.links.published(&node.name) {
        status.published = Some(published.version);
        status.staying.published_packages = published.packages;
        status.staying.reconcile = published.profile.reconcile;
    }
    status.published_ports = site.services(|services| {
        let ports = services.ports.iter().filter(|(name, ..)| *name == node.name);
        ports.map(|(_, publish, _)| format!("{} -> {}", publish.listen, publish.port)).collect()
    });
    if let Ok(Some(journal)) = Journal::load(&dir) {
        status.staying.earlier = journal.earlier_disk(&dir);
        let held = journal.state == State::Held;
        status.staying.held = journal.why.filter(|_| held);
    }
    match machine(&dir) {
        Found::None if disk.is_none() => status.state = NodeState::Absent,
        Found::None => status.state = NodeState::Stopped,
        Found::Ended { how, wanted } => {
            status.state = match (wanted, disk.is_some()) {
                (_, false) => NodeState::Absent,
                (true, true) => NodeState::Stopped,
                (false, true) => NodeState::Failed,
            };
            status.detail = how;
        }
        Found::Running(machine, since) => running(site, &mut status, &machine, since, detail),
    }
    status
}

fn running(site: &Site, status: &mut NodeStatus, machine: &Machine, since: u64, detail: Detail) {
    status.uptime_ms = Some(since);
    status.last_line = machine.last_line();
    if detail == Detail::WithUsage
        && let Ok(usage) = machine.usage()
    {
        status.host_memory = Some(usage.pss);
        status.shim_memory = Some(usage.shim_rss);
        status.cpu_ms = Some(usage.cpu_time.as_millis() as u64);
    }
    let (state, detail) = match site.links.heard(&status.name) {
        None => (NodeState::Booting, unheard(site, &status.name, since)),
        Some(heard) => {
            let list = status.staying.published_packages.as_deref();
            let checks = site.links.published(&status.name).map_or(0, |p| p.profile.checks.len());
            let judged = judge(&heard, status.published.as_deref(), list, checks);
            // When an agent first spoke to an earlier daemon is not known.
            let here = !reunion::is_older(site, since);
            let after = |ago: Duration| since.checked_sub(ago.as_millis() as u64);
            status.first_word_ms = here.then_some(heard.since_first).and_then(after);
            tell(status, heard.report);
            if here {
                status.ready_ms = heard.since_healthy.and_then(after);
            }
            judged
        }
    };
    status.state = state;
    status.detail = detail;
}

/// What a node whose agent has not spoken waits for.
fn unheard(site: &Site, node: &str, since: u64) -> String {
    match site.installations.incomplete(node) {
        Some(record) => {
            let stage = crate::install::record::current(&record).word();
            format!("it installs itself: {stage}")
        }
        None if reunion::is_older(site, since) => {
            "its agent has not spoken since the daemon began".to_owned()
        }
        None => "its agent's first word".to_owned(),
    }
}

fn tell(status: &mut NodeStatus, report: Report) {
    status.applied.clone_from(&report.applied);
    status.memory_used = Some(report.memory_used);
    status.staying.applied_packages = report.packages;
    status.staying.put_back = report.put_back;
    if report.health.iter().all(|check| check.since_ms.is_some()) {
        status.ready_ms = report.health.iter().filter_map(|check| check.since_ms).max();
    }
    status.failures = report
        .resources
        .into_iter()
        .filter(|resource| matches!(resource.outcome, Outcome::Failed(_)))
        .collect();
    status.health = report.health;
}

/// State and reason from what the agent said.
/// `checks` is how many health checks the published profile has.
fn judge(
    heard: &Heard,
    published: Option<&str>,
    list: Option<&str>,
    checks: usize,
) -> (NodeState, String) {
    let report = &heard.report;
    let failing: Vec<_> = report.health.iter().filter(|check| !check.ok).collect();
    let name_them = || {
        failing
            .iter()
            .map(|check| format!("{} ({})", check.name, check.detail))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if heard.silent {
        return (NodeState::Degraded, "its agent has gone silent".into());
    }
    match report.phase {
        AgentPhase::Starting => (NodeState::Starting, "its agent fetches the profile".into()),
        AgentPhase::Applying => (NodeState::Starting, "its agent applies the profile".into()),
        AgentPhase::Failed => {
            let failed = report.resources.iter().find_map(|resource| match &resource.outcome {
                Outcome::Failed(why) => Some(format!("{} {}: {why}", resource.kind, resource.name)),
                Outcome::Changed => None,
            });
            (NodeState::Failed, failed.unwrap_or_else(|| "the profile could not be applied".into()))
        }
        AgentPhase::Applied if report.applied.as_deref() != published => {
            (NodeState::Starting, "a newer profile is published".into())
        }
        AgentPhase::Applied if report.packages.as_deref().is_some_and(|has| Some(has) != list) => {
            (NodeState::Starting, "another list of packages is published".into())
        }
        AgentPhase::Applied if report.health.len() < checks => {
            (NodeState::Starting, "its health has not been looked at yet".into())
        }
        AgentPhase::Applied if failing.is_empty() => (NodeState::Running, String::new()),
        AgentPhase::Applied if failing.iter().any(|check| check.since_ms.is_some()) => {
            (NodeState::Degraded, name_them())
        }
        AgentPhase::Applied => (NodeState::Starting, name_them()),
    }
}

fn blank(node: &CompiledNode) -> NodeStatus {
    NodeStatus {
        name: node.name.clone(),
        fqdn: node.profile.fqdn(),
        role: node.role.clone(),
        address: node.profile.address,
        vmm: String::new(),
        state: NodeState::Absent,
        detail: String::new(),
        published: None,
        applied: None,
        uptime_ms: None,
        ready_ms: None,
        first_word_ms: None,
        memory_used: None,
        memory: node.memory,
        host_memory: None,
        shim_memory: None,
        cpu_ms: None,
        disk_used: None,
        disk: node.disk,
        health: Vec::new(),
        failures: Vec::new(),
        last_line: None,
        published_ports: Vec::new(),
        staying: Default::default(),
    }
}
