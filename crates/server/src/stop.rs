//! Stopping machines in an order that lets each one unmount what it has from others, and removing a site.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gridgate_machine::StopOutcome;
use gridgate_protocol::node_profile::{HealthTest, NodeProfile};
use gridgate_protocol::site_api::ErrorKind;

use crate::failure::{Failure, Hint, caused};
use crate::home::SiteDir;
use crate::observe::{self, Found};
use crate::pace;
use crate::reunion;
use crate::site::Site;
use crate::task::{Stage, Task};
use crate::wait::blocking;

/// Time a node gets to power off before its machine is killed, where machines are not slow.
const LIMIT: Duration = Duration::from_secs(30);

/// A machine that has run so long is not booting any more, also when its agent is not heard.
const BOOTED: Duration = Duration::from_secs(600);

/// Stops one node's machine; says how it ended. `Ok(false)`: it was not running. Without a limit it has [`LIMIT`], and
/// more where machines are slow to come up.
pub async fn node(
    site: &Arc<Site>,
    name: &str,
    limit: Option<Duration>,
    task: &Arc<Task>,
) -> Result<bool, Failure> {
    let limit = limit.unwrap_or_else(|| LIMIT * pace::of(site));
    let dir = site.dir.node(name);
    let found = blocking(move || observe::machine(&dir)).await?;
    let Found::Running(machine, since) = found else { return Ok(false) };
    let stage = task.stage(name, "stop", String::new());
    let listens = listens(site, name, since, &stage).await?;
    stage.waiting(format!("powering off, at most {} s", limit.as_secs()), machine.last_line());
    let outcome = blocking(move || match listens {
        true => machine.stop_listening(limit),
        false => machine.stop(limit),
    })
    .await?;
    site.links.reset(name);
    match outcome {
        Ok(outcome) => {
            stage.finish(outcome_word(outcome));
            Ok(true)
        }
        Err(e) => {
            Err(stage.fail(caused(ErrorKind::Node, format!("{name} could not be stopped"), &e)))
        }
    }
}

/// Whether a node's init is known to listen: its agent has spoken, or its machine has run for long (milliseconds).
async fn listens(site: &Arc<Site>, name: &str, since: u64, stage: &Stage) -> Result<bool, Failure> {
    let known = || site.links.heard(name).is_some() || since > BOOTED.as_millis() as u64;
    if let Some(wanted) = site.wanted().filter(|_| !known()) {
        // A moment, and only when this daemon is new.
        stage.waiting("its agent's word, if it has one", None);
        reunion::wait(site, &wanted).await?;
    }
    Ok(known())
}

fn outcome_word(outcome: StopOutcome) -> &'static str {
    match outcome {
        StopOutcome::WasStopped => "was stopped",
        StopOutcome::Graceful => "powered off",
        StopOutcome::Killed => "killed at the time limit",
        StopOutcome::Failed => "ended by itself",
    }
}

/// Kills one node's machine at once.
pub async fn kill(site: &Arc<Site>, name: &str, task: &Arc<Task>) -> Result<bool, Failure> {
    let dir = site.dir.node(name);
    let Found::Running(machine, _) = blocking(move || observe::machine(&dir)).await? else {
        return Ok(false);
    };
    let stage = task.stage(name, "kill", String::new());
    let killed = blocking(move || machine.kill()).await?;
    site.links.reset(name);
    match killed {
        Ok(()) => {
            stage.finish("killed");
            Ok(true)
        }
        Err(e) => {
            Err(stage.fail(caused(ErrorKind::Node, format!("{name} could not be killed"), &e)))
        }
    }
}

/// Stops every machine of the site: first those that mount something from another node, then the rest.
pub async fn all(
    site: &Arc<Site>,
    limit: Option<Duration>,
    task: &Arc<Task>,
) -> Result<bool, Failure> {
    let names = names(&site.dir);
    let (clients, servers): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| {
        let published = site.links.published(name);
        published.is_some_and(|published| mounts_from_others(&published.profile))
    });
    let mut changed = false;
    for group in [clients, servers] {
        let stops = group.into_iter().map(|name| {
            let (site, task) = (site.clone(), task.clone());
            tokio::spawn(async move { node(&site, &name, limit, &task).await })
        });
        let mut first = None;
        for stop in stops.collect::<Vec<_>>() {
            match stop.await {
                Ok(Ok(stopped)) => changed |= stopped,
                Ok(Err(failure)) => first = first.or(Some(failure)),
                Err(e) => first = Some(caused(ErrorKind::Internal, "a stop ended early", &e)),
            }
        }
        if let Some(failure) = first {
            return Err(failure);
        }
    }
    Ok(changed)
}

/// Names of all nodes that have a folder, in the profile or not.
pub fn names(dir: &SiteDir) -> Vec<String> {
    let entries = fs::read_dir(dir.nodes()).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn mounts_from_others(profile: &NodeProfile) -> bool {
    profile.checks.iter().any(
        |check| matches!(&check.test, HealthTest::Mounted { filesystem, .. } if filesystem.starts_with("nfs")),
    )
}

/// Kills the machines, removes the network, the cgroups and every file of the site.
pub async fn destroy(site: &Arc<Site>, task: &Arc<Task>) -> Result<(), Failure> {
    let mut kills = Vec::new();
    for name in names(&site.dir) {
        let (site, task) = (site.clone(), task.clone());
        kills.push(tokio::spawn(async move {
            kill(&site, &name, &task).await?;
            let run = site.dir.node(&name).run();
            let swept = blocking(move || gridgate_machine::sweep(&run)).await?;
            swept.map_err(|e| {
                caused(ErrorKind::Host, format!("something of {name}'s machine is left"), &e)
                    .hint("`gridgate destroy` again goes on")
            })
        }));
    }
    for kill in kills {
        kill.await.map_err(|e| caused(ErrorKind::Internal, "a kill ended early", &e))??;
    }
    let stage = task.stage("site", "remove", "network, disks, keys");
    drop(site.services(std::mem::take));
    let removed = gridgate_net::remove(&site.dir.namespace()).await;
    if let Err(e) = removed {
        return Err(stage.fail(caused(
            ErrorKind::Host,
            "the site's network could not be removed",
            &e,
        )));
    }
    let dir = site.dir.clone();
    let cleared = blocking(move || {
        remove_cgroups(&dir.cgroup_root())?;
        match fs::remove_dir_all(dir.path()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    })
    .await?;
    match cleared {
        Ok(()) => {
            stage.finish("nothing is left; the depot is kept");
            Ok(())
        }
        Err(e) => Err(stage.fail(
            caused(ErrorKind::Host, "the site's files could not all be removed", &e)
                .hint("`gridgate destroy` again goes on"),
        )),
    }
}

/// Removes the site's folders from every cgroup hierarchy, and ours when no other site has one.
fn remove_cgroups(root: &str) -> std::io::Result<()> {
    let mounts = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_dir(mounts)?.flatten().map(|entry| entry.path());
    for hierarchy in controllers.chain([mounts.to_owned()]) {
        match fs::remove_dir(hierarchy.join(root)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        // Not empty while another site of this host runs.
        let _ = fs::remove_dir(hierarchy.join("gridgate"));
    }
    Ok(())
}
