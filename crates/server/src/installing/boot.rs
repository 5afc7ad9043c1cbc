//! The end of an installation: the node's own machine from its disk, its agent's first word, its services.

use std::sync::Arc;

use gridgate_protocol::install_api::Stage;
use gridgate_protocol::site_api::ErrorKind;

use crate::failure::{Failure, Hint, caused, failure};
use crate::install::record;
use crate::site::Site;
use crate::task::Task;
use crate::vmms::Vmms;
use crate::wait::{self, blocking};
use crate::wanted::Wanted;
use crate::{access, disks, launch, services};

/// Launches the node from its disk and waits until its services run; then the installation is over.
pub async fn from_its_disk(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    name: &str,
    vmms: &Vmms,
    task: &Arc<Task>,
) -> Result<(), Failure> {
    tell(site, wanted, name).await?;
    services::open(site, wanted, Some(task)).await?;
    site.links.reset(name);
    let stage = task.stage(name, Stage::Boot.word(), String::new());
    note(site, name, record::start, Stage::Boot)?;
    let booted = match launch(site, wanted, name, vmms).await {
        Ok(()) => wait::for_first_word(site, wanted, name, &stage).await,
        Err(failure) => Err(failure),
    };
    match booted {
        Ok(()) => stage.finish("its agent speaks"),
        Err(failure) => return Err(stage.fail(in_stage(name, Stage::Boot, failure))),
    }
    note(site, name, record::end, Stage::Boot)?;
    let stage = task.stage(name, Stage::Services.word(), String::new());
    note(site, name, record::start, Stage::Services)?;
    match wait::for_node(site, wanted, name, &stage).await {
        Ok(status) => stage.finish(format!("{} health checks pass", status.health.len())),
        Err(failure) => return Err(stage.fail(in_stage(name, Stage::Services, failure))),
    }
    note(site, name, record::end, Stage::Services)?;
    site.installations.over(name)
}

/// Says in which stage, and how to go on.
fn in_stage(name: &str, stage: Stage, mut failure: Failure) -> Failure {
    failure.what = format!("stage {} of {name}'s installation: {}", stage.word(), failure.what);
    let resume = format!("`gridgate install {name} --resume` starts it from its disk again");
    let hint = failure.hint.take().map_or(resume.clone(), |hint| format!("{resume}; {hint}"));
    failure.hint(hint)
}

type Note = fn(&mut gridgate_protocol::install_api::InstallRecord, Stage, jiff::Timestamp);

fn note(site: &Site, name: &str, note: Note, stage: Stage) -> Result<(), Failure> {
    let now = jiff::Timestamp::now();
    site.installations.note(name, |known| note(known, stage, now))
}

/// From here on the node is known as one that was cloned would be: its packages, its published profile, and that its
/// host key is a new one.
async fn tell(site: &Arc<Site>, wanted: &Arc<Wanted>, name: &str) -> Result<(), Failure> {
    let (site, wanted, name) = (site.clone(), wanted.clone(), name.to_owned());
    blocking(move || {
        let unknown = || failure(ErrorKind::NotFound, format!("no node {name}"));
        let node = wanted.node(&name).ok_or_else(unknown)?;
        let kept = site.installations.kept(&name).ok_or_else(unknown)?;
        kept.installed.store(&site.dir.node(&name))?;
        let names = [node.profile.fqdn(), node.profile.address.to_string(), name.clone()];
        access::forget_host(&site.dir, &names).map_err(|e| {
            caused(ErrorKind::Host, "the list of known hosts could not be changed", &e)
        })?;
        services::publish_node(&site, node, Some(kept.installed))
    })
    .await?
}

async fn launch(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    name: &str,
    vmms: &Vmms,
) -> Result<(), Failure> {
    let (site, wanted, name, vmms) = (site.clone(), wanted.clone(), name.to_owned(), vmms.clone());
    blocking(move || {
        let unknown = || failure(ErrorKind::NotFound, format!("no node {name}"));
        let node = wanted.node(&name).ok_or_else(unknown)?;
        let dir = site.dir.node(&name);
        disks::write_seed(&dir, node, &wanted, &site.ca_certificate()?)?;
        disks::give(&dir, wanted.uid(&name))?;
        launch::start(&launch::spec(&site.dir, node, &wanted, &vmms)?, &name, &wanted)
    })
    .await?
}
