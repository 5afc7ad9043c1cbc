//! Runs the site checks through the agents, in the order and concurrency that `gridgate-grid` says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gridgate_grid::checks::{
    GridUser, Host, Planned, Schedule, SiteCheck, SiteFacts, judge, site_checks,
};
use gridgate_protocol::agent_api::{RunRequest, RunResult};
use gridgate_protocol::site_api::{
    CheckOutcome, CheckResult, CheckRun, ErrorKind, Event, NodeState,
};

use crate::failure::{Failure, Hint, failure};
use crate::pace;
use crate::site::Site;
use crate::task::Task;
use crate::wait::look;
use crate::wanted::Wanted;

/// What an agent may take beyond a script's own limit before its answer is given up, seconds.
const GRACE: u64 = 20;

/// Runs are numbered within this daemon's life.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What the checks must know of the site.
fn facts(wanted: &Wanted, pace: u32) -> SiteFacts {
    let host = |component: &str| {
        let mut nodes = wanted.compiled.nodes.iter();
        let node = nodes.find(|node| node.profile.components.iter().any(|c| c == component))?;
        Some(Host { node: node.name.clone(), fqdn: node.profile.fqdn() })
    };
    let workers =
        wanted.compiled.nodes.iter().filter(|node| {
            node.profile.components.iter().any(|component| component == "slurm-worker")
        });
    let user = wanted.site.users.first();
    let se = host("gridftp-server");
    // The storage component gives each grid user a directory: the first one that this user owns.
    let storage = se.as_ref().zip(user).and_then(|(se, user)| {
        let directories = &wanted.node(&se.node)?.profile.directories;
        let mut of_server = directories.iter().filter(|d| d.component == "gridftp-server");
        of_server.find(|directory| directory.owner == user.name).map(|d| d.path.clone())
    });
    SiteFacts {
        domain: wanted.site.domain.clone(),
        ce: host("gram-gatekeeper"),
        se,
        ui: host("ui-clients"),
        workers: workers.map(|node| node.name.clone()).collect(),
        user: user.map(|user| GridUser {
            name: user.name.clone(),
            subject: wanted
                .site
                .user_subject(user)
                .iter()
                .map(|(kind, value)| format!("/{kind}={value}"))
                .collect(),
        }),
        storage: storage.unwrap_or_else(|| "/tmp".into()),
        pace,
    }
}

/// Runs all checks; each result is an event of the task. An `Err` means that they could not be run.
pub async fn run(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    task: &Arc<Task>,
) -> Result<CheckRun, Failure> {
    let started = Instant::now();
    let planned = site_checks(&facts(wanted, pace::of(site)));
    needs_running(site, wanted, &planned).await?;
    let mut results: BTreeMap<&'static str, CheckResult> = BTreeMap::new();
    for entry in &planned {
        if let Planned::NotApplicable { id, title, why } = entry {
            let outcome = CheckOutcome::NotApplicable { why: why.clone() };
            note(&mut results, task, id, title, outcome, 0);
        }
    }
    let mut schedule = Schedule::new(&planned);
    let mut running = tokio::task::JoinSet::new();
    while !schedule.is_done() {
        for check in schedule.startable() {
            let site = site.clone();
            running.spawn(async move {
                let begun = Instant::now();
                let outcome = one(&site, &check).await;
                (check, outcome, begun.elapsed().as_millis() as u64)
            });
        }
        let Some(Ok((check, outcome, millis))) = running.join_next().await else {
            return Err(failure(ErrorKind::Internal, "the site checks stopped half-way"));
        };
        let passed = matches!(outcome, CheckOutcome::Passed { .. });
        note(&mut results, task, check.id, &check.title, outcome, millis);
        for skipped in schedule.finished(check.id, passed) {
            let outcome = CheckOutcome::Skipped { because: skipped.because.to_owned() };
            note(&mut results, task, skipped.id, &skipped.title, outcome, 0);
        }
    }
    let run = CheckRun {
        at: jiff::Timestamp::now().to_string(),
        millis: started.elapsed().as_millis() as u64,
        results: planned.iter().filter_map(|entry| results.remove(entry.id())).collect(),
    };
    site.set_checks(run.clone());
    Ok(run)
}

fn note(
    results: &mut BTreeMap<&'static str, CheckResult>,
    task: &Task,
    id: &'static str,
    title: &str,
    outcome: CheckOutcome,
    millis: u64,
) {
    let result = CheckResult { id: id.to_owned(), title: title.to_owned(), outcome, millis };
    task.emit(Event::Check(result.clone()));
    results.insert(id, result);
}

async fn needs_running(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    planned: &[Planned],
) -> Result<(), Failure> {
    let nodes = planned.iter().filter_map(|entry| match entry {
        Planned::Check(check) => Some(check.node.clone()),
        Planned::NotApplicable { .. } => None,
    });
    for node in nodes.collect::<std::collections::BTreeSet<_>>() {
        let status = look(site, wanted, &node).await?;
        if matches!(
            status.state,
            NodeState::Absent | NodeState::Stopped | NodeState::Failed | NodeState::Booting
        ) {
            return Err(failure(
                ErrorKind::Node,
                format!("the site checks run from {node}, which is {:?}", status.state)
                    .to_lowercase(),
            )
            .hint(format!("bring it up first: `gridgate start {node}` or `gridgate up`")));
        }
    }
    Ok(())
}

async fn one(site: &Site, check: &SiteCheck) -> CheckOutcome {
    match command(site, &check.node, &check.user, &check.script, check.limit_s).await {
        Ok(result) => {
            tracing::debug!(check = check.id, ?result);
            judge(check, &result).into()
        }
        Err(failure) => CheckOutcome::Failed {
            what: failure.what,
            hint: failure
                .hint
                .unwrap_or_else(|| format!("gridgate status; gridgate console {}", check.node)),
        },
    }
}

/// Runs a script in a node, as a user, through its agent.
pub async fn command(
    site: &Site,
    node: &str,
    user: &str,
    script: &str,
    limit_s: u32,
) -> Result<RunResult, Failure> {
    let request = RunRequest {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        user: user.to_owned(),
        script: script.to_owned(),
        limit_s,
    };
    let answer = site
        .links
        .run(node, request)
        .ok_or_else(|| failure(ErrorKind::NotFound, format!("the site has no node {node}")))?;
    let limit = Duration::from_secs(u64::from(limit_s) + GRACE);
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(_)) => {
            Err(failure(ErrorKind::Node, format!("{node} was restarted while the command ran")))
        }
        Err(_) => Err(failure(
            ErrorKind::Node,
            format!("{node}'s agent did not answer within {} s", limit.as_secs()),
        )),
    }
}
