//! Back to what a node was before its last update.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use gridgate_protocol::site_api::{ErrorKind, Event};

use super::forward::Course;
use super::journal::{Journal, State, Target, remove_disks_but};
use crate::failure::{Failure, Hint, caused, failure};
use crate::images::Installed;
use crate::site::Site;
use crate::task::Task;
use crate::vmms::{Needs, Sources, Vmms};
use crate::wait::{self, blocking};
use crate::wanted::Wanted;
use crate::{services, stop, up};

/// A node that was healthy before gets so long to be so again.
const PATIENCE: Duration = Duration::from_secs(300);

/// Puts a node back by hand.
pub async fn rollback(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    name: &str,
    task: &Arc<Task>,
) -> Result<bool, Failure> {
    let dir = site.dir.node(name);
    let journal = Journal::load(&dir)?;
    let going_back = |journal: &Journal| journal.state == State::Restoring;
    let usable = |journal: &Journal| journal.earlier_disk(&dir).is_some() || going_back(journal);
    let Some(mut journal) = journal.filter(usable) else {
        let mut refused =
            failure(ErrorKind::Input, format!("{name} has no earlier disk to go back to"));
        refused.why.push("one is kept by an update and goes with the next".into());
        return Err(refused.hint("`gridgate status` names the nodes that have one"));
    };
    services::open(site, wanted, Some(task)).await?;
    let needs =
        Needs { launches: [wanted.choice(name)?.engine].into(), images: false, portable: false };
    let vmms = Vmms::gather(site, wanted, needs, Sources::default(), task).await?;
    let course = Course {
        site: site.clone(),
        wanted: wanted.clone(),
        vmms: Arc::new(vmms),
        task: task.clone(),
        patience: PATIENCE,
    };
    if !going_back(&journal) {
        journal.why = Some("it was rolled back by hand".into());
        journal.by_hand = true;
        // What the node is now is what it shall not become again.
        if let (Some(now), Some(node)) = (Installed::load(&dir), wanted.node(name)) {
            journal.to =
                Target { packages: now.list.fingerprint(), profile: node.profile.version() };
        }
    }
    restore(&course, name, &mut journal).await?;
    Ok(true)
}

/// Removes the earlier disk, and lets a held node be updated again.
pub fn discard(site: &Site, name: &str) -> Result<bool, Failure> {
    let dir = site.dir.node(name);
    let Some(journal) = Journal::load(&dir)? else {
        return Err(failure(
            ErrorKind::Input,
            format!("{name} has no earlier disk and is not held"),
        ));
    };
    if journal.unfinished() {
        return Err(failure(ErrorKind::Input, format!("an update of {name} was interrupted"))
            .hint(format!("`gridgate up` goes on with it, `gridgate rollback {name}` goes back")));
    }
    let fault = |e: std::io::Error| {
        caused(ErrorKind::Host, format!("the earlier disk of {name} could not be removed"), &e)
    };
    remove_disks_but(&dir, None).map_err(fault)?;
    fs::remove_file(dir.update()).map_err(fault)?;
    Ok(true)
}

/// After a failed update: puts the node back, and gives the failure that the roll-out ends with.
pub(super) async fn roll_back(
    course: &Course,
    name: &str,
    mut journal: Journal,
    failed: Failure,
) -> Failure {
    let why = std::iter::once(failed.what).chain(failed.why).collect::<Vec<_>>().join(": ");
    course.task.emit(Event::Warning { text: format!("{name} is rolled back: {why}") });
    journal.why = Some(why.clone());
    match restore(course, name, &mut journal).await {
        Ok(()) => rolled_back(name, &why),
        Err(mut worse) => {
            worse.why.push(format!("it was being rolled back because {why}"));
            worse.hint(format!("`gridgate rollback {name}` goes on with it"))
        }
    }
}

/// What a roll-out that went back says.
pub(super) fn rolled_back(name: &str, why: &str) -> Failure {
    let what = format!(
        "{name} could not be updated; it is healthy again with its earlier disk and packages, and the roll-out ended"
    );
    let mut failure = failure(ErrorKind::Node, what);
    failure.why.push(why.to_owned());
    failure.hint(format!(
        "`gridgate logs {name}` shows what happened; then another lock or profile, or \
         `gridgate rollback --discard {name}` and `gridgate up` to try the same again"
    ))
}

/// Stops the machine, puts disk, packages and profile back, starts it, waits for its health.
pub(super) async fn restore(
    course: &Course,
    name: &str,
    journal: &mut Journal,
) -> Result<(), Failure> {
    let Course { site, wanted, vmms, task, .. } = course;
    let dir = site.dir.node(name);
    journal.enter(State::Restoring, &dir)?;
    // Its disk goes away: there is nothing to be stopped in good order.
    stop::kill(site, name, task).await?;
    let stage = task.stage(name, "put the disk back", String::new());
    let back = {
        let (dir, journal) = (dir.clone(), journal.clone());
        blocking(move || put_back(&dir, &journal)).await?
    };
    match back {
        Ok(()) => stage.finish(""),
        Err(failure) => return Err(stage.fail(failure)),
    }
    let node = wanted
        .node(name)
        .ok_or_else(|| failure(ErrorKind::NotFound, format!("the site has no node {name}")))?;
    services::publish_node(site, node, Some(journal.from.installed.clone()))?;
    let stage = up::launch(site, wanted, name, vmms, task, "roll back").await?;
    match wait::within(site, wanted, name, &stage, Some(PATIENCE)).await {
        Ok(status) => stage.finish(format!("{} health checks pass", status.health.len())),
        Err(failed) => return Err(stage.fail(failed)),
    }
    journal.enter(State::Held, &dir)
}

/// Can be done twice: a disk that is not there any more was put back before. Blocking.
fn put_back(dir: &crate::home::NodeDir, journal: &Journal) -> Result<(), Failure> {
    let fault = |e: &dyn std::error::Error| {
        caused(ErrorKind::Host, "the earlier disk could not be put back", e)
    };
    match fs::rename(dir.earlier_disk(&journal.earlier_packages()), dir.disk()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fault(&e)),
        _ => {}
    }
    if let Some(folder) = dir.disk().parent() {
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| fault(&e))?;
    }
    journal.from.installed.store(dir)
}
