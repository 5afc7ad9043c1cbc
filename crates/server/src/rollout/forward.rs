//! From the packages a node has to those that are locked.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use gridgate_depot::RoleImage;
use gridgate_profile::CompiledNode;
use gridgate_protocol::agent_api::PublishedProfile;
use gridgate_protocol::site_api::{ErrorKind, Event, NodeState, Plan, PlanAction};

use super::back;
use super::journal::{Earlier, Journal, State, Target, remove_disks_but};
use crate::failure::{Failure, Hint, caused, failure};
use crate::images::{self, Images, Installed};
use crate::reunion;
use crate::site::Site;
use crate::task::{Stage, Task};
use crate::vmms::Vmms;
use crate::wait::{self, blocking};
use crate::wanted::Wanted;
use crate::{disks, plan, services, stop, up};

/// An updated node gets so long to become healthy, unless said otherwise.
const PATIENCE: Duration = Duration::from_secs(180);

/// What all nodes of a roll-out share.
#[derive(Clone)]
pub(super) struct Course {
    pub site: Arc<Site>,
    pub wanted: Arc<Wanted>,
    pub vmms: Arc<Vmms>,
    pub task: Arc<Task>,
    pub patience: Duration,
}

/// Updates the nodes that the plan names, one after the other.
pub async fn run(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    plan: &Plan,
    (vmms, images): (Arc<Vmms>, Option<&Images>),
    patience_s: Option<u32>,
    task: &Arc<Task>,
) -> Result<(), Failure> {
    let mut nodes: Vec<&CompiledNode> = wanted
        .compiled
        .nodes
        .iter()
        .filter(|node| plan::has(plan, &node.name, PlanAction::Update))
        .collect();
    if nodes.is_empty() {
        return Ok(());
    }
    nodes.sort_by_key(|node| turn(node));
    let course = Course {
        site: site.clone(),
        wanted: wanted.clone(),
        vmms,
        task: task.clone(),
        patience: patience_s.map_or(PATIENCE, |s| Duration::from_secs(u64::from(s))),
    };
    let mut healthy = healthy(&course).await?;
    for (index, node) in nodes.iter().enumerate() {
        task.go_on().map_err(|given_up| ended(given_up, &nodes[index..]))?;
        let image = images.and_then(|images| images.by_node.get(&node.name).cloned());
        let grow = plan::has(plan, &node.name, PlanAction::GrowDisk);
        if let Err(failed) = one(&course, node, image, grow, &healthy).await {
            return Err(ended(failed, &nodes[index + 1..]));
        }
        if !healthy.contains(&node.name) {
            healthy.push(node.name.clone());
        }
    }
    Ok(())
}

/// Nodes that only need others go first, those that others need go last.
fn turn(node: &CompiledNode) -> u8 {
    let has = |name: &str| node.profile.components.iter().any(|component| component == name);
    match node.role.as_str() {
        "wn" => 0,
        "ui" => 1,
        "se" => 3,
        "ce" => 4,
        _ if has("gram-gatekeeper") || has("slurm-controller") => 4,
        _ if has("gridftp-server") => 3,
        _ if has("slurm-worker") => 0,
        _ => 2,
    }
}

fn ended(mut failed: Failure, left: &[&CompiledNode]) -> Failure {
    let left: Vec<&str> = left.iter().map(|node| node.name.as_str()).collect();
    if !left.is_empty() {
        failed.why.push(format!("not begun: {}", left.join(", ")));
    }
    failed
}

/// Names of the nodes that are healthy now.
async fn healthy(course: &Course) -> Result<Vec<String>, Failure> {
    reunion::wait(&course.site, &course.wanted).await?;
    let mut names = Vec::new();
    for node in &course.wanted.compiled.nodes {
        let status = wait::look(&course.site, &course.wanted, &node.name).await?;
        if status.state == NodeState::Running {
            names.push(node.name.clone());
        }
    }
    Ok(names)
}

/// One node, from wherever its journal says that it is.
async fn one(
    course: &Course,
    node: &CompiledNode,
    image: Option<Arc<RoleImage>>,
    grow: bool,
    healthy: &[String],
) -> Result<(), Failure> {
    let dir = course.site.dir.node(&node.name);
    let found = Journal::load(&dir)?;
    if let Some(mut journal) = found.clone().filter(|journal| journal.state == State::Restoring) {
        let why = journal.why.clone().unwrap_or_default();
        back::restore(course, &node.name, &mut journal).await?;
        if !journal.by_hand {
            return Err(back::rolled_back(&node.name, &why));
        }
        tell_held(&course.task, &node.name, &why);
        return Ok(());
    }
    let target = target(node, image.as_deref(), &dir)?;
    let to = Target { packages: target.list.fingerprint(), profile: node.profile.version() };
    let mut journal = match found.filter(|journal| journal.state == State::Applying) {
        Some(mut journal) => {
            // What is wanted may be another by now; the earlier disk is still the way back.
            journal.to = to;
            journal.enter(State::Applying, &dir)?;
            journal
        }
        None => save(course, node, to).await?,
    };
    match apply(course, node, &target, grow, healthy).await {
        Ok(()) => keep(node, &mut journal, &dir),
        Err(failed) => Err(back::roll_back(course, &node.name, journal, failed).await),
    }
}

/// The packages that the node shall have: its new image's, or, when an update was interrupted after its image was
/// noted, those noted.
fn target(
    node: &CompiledNode,
    image: Option<&RoleImage>,
    dir: &crate::home::NodeDir,
) -> Result<Installed, Failure> {
    match image {
        Some(image) => Ok(images::installed(node, image)),
        None => Installed::load(dir).ok_or_else(|| {
            failure(ErrorKind::Internal, format!("no packages are known for {}", node.name))
        }),
    }
}

/// Stops the machine and keeps its disk.
async fn save(course: &Course, node: &CompiledNode, to: Target) -> Result<Journal, Failure> {
    let Course { site, task, .. } = course;
    let dir = site.dir.node(&node.name);
    let published = fs::read(dir.profile())
        .ok()
        .and_then(|bytes| serde_json::from_slice::<PublishedProfile>(&bytes).ok());
    let installed = Installed::load(&dir).ok_or_else(|| {
        failure(ErrorKind::Internal, format!("no packages are known for {}", node.name))
    })?;
    let mut journal = Journal {
        state: State::Saving,
        from: Earlier { installed, published },
        to,
        at: jiff::Timestamp::now().to_string(),
        why: None,
        by_hand: false,
    };
    stop::node(site, &node.name, None, task).await?;
    journal.enter(State::Saving, &dir)?;
    let stage = task.stage(&node.name, "keep the disk", String::new());
    let target = dir.earlier_disk(&journal.earlier_packages());
    let disk = dir.disk();
    let copied = blocking(move || {
        // A copy of an update that was interrupted may be older than the disk.
        match fs::remove_file(&target) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(stage.fail(caused(ErrorKind::Host, "an old copy is in the way", &e)));
            }
            _ => {}
        }
        copy(&disk, &target, stage)
    });
    copied.await??;
    journal.enter(State::Applying, &dir)?;
    Ok(journal)
}

/// Copies a disk. Blocking.
fn copy(disk: &std::path::Path, target: &std::path::Path, stage: Stage) -> Result<(), Failure> {
    let copied = gridgate_disk::copy(disk, target, &mut |done, total| {
        stage.progress(done, total, "bytes");
    });
    match copied {
        Ok(copied) => {
            stage.finish(format!("{} MiB ({:?})", copied.bytes >> 20, copied.method));
            Ok(())
        }
        Err(e) => Err(stage.fail(
            caused(ErrorKind::Host, format!("{} could not be copied", disk.display()), &e)
                .hint("free some space, then `gridgate up` again; the node is as it was"),
        )),
    }
}

/// Goes over to the new packages and waits for health: the node's own and that of all who were healthy.
async fn apply(
    course: &Course,
    node: &CompiledNode,
    target: &Installed,
    grow: bool,
    healthy: &[String],
) -> Result<(), Failure> {
    let Course { site, wanted, vmms, task, patience } = course;
    let dir = site.dir.node(&node.name);
    // After an interruption the machine may run already; it is started anew, so that all is as written down.
    stop::node(site, &node.name, None, task).await?;
    if grow {
        disks::grow(&dir, node)?;
    }
    target.store(&dir)?;
    services::publish_node(site, node, Some(target.clone()))?;
    let stage = up::launch(site, wanted, &node.name, vmms, task, "update").await?;
    match wait::within(site, wanted, &node.name, &stage, Some(*patience)).await {
        Ok(status) => stage.finish(format!("{} health checks pass", status.health.len())),
        Err(failed) => return Err(stage.fail(failed)),
    }
    for other in healthy.iter().filter(|name| **name != node.name) {
        let stage = task.stage(other, "health", format!("after {} was updated", node.name));
        match wait::within(site, wanted, other, &stage, Some(*patience)).await {
            Ok(_) => stage.finish(""),
            Err(failed) => return Err(stage.fail(failed)),
        }
    }
    Ok(())
}

/// The update is done: its earlier disk is the one that is kept.
fn keep(
    node: &CompiledNode,
    journal: &mut Journal,
    dir: &crate::home::NodeDir,
) -> Result<(), Failure> {
    journal.enter(State::Updated, dir)?;
    remove_disks_but(dir, Some(&journal.earlier_packages())).map_err(|e| {
        caused(ErrorKind::Host, format!("an old disk of {} could not be removed", node.name), &e)
    })
}

/// Says which nodes are held, since an `up` does not change them.
pub fn tell_held(task: &Task, node: &str, why: &str) {
    task.emit(Event::Warning {
        text: format!(
            "{node} is held at its earlier packages: {why}; another lock or profile ends that, \
             `gridgate rollback --discard {node}` has the next `gridgate up` try the same again"
        ),
    });
}
