//! `install`: a node installs itself in its own machine, from an empty disk or over an old one.
//!
//! ```text
//! software ─> stop ─> disk ─> installer's machine ─follow─> done, powered off ─> its own machine ─> boot ─> services
//!                                 ▲      │ killed, failed
//!                                 └──────┘ --resume
//! ```
//! The machine goes on when the daemon is killed; what was begun is joined by the same command, or by `--resume`.

mod begin;
mod boot;
mod follow;

use std::sync::Arc;

use gridgate_machine::MachineSpec;
use gridgate_protocol::install_api::{INSTALL_ARGUMENT, InstallOutcome};
use gridgate_protocol::site_api::{ErrorKind, Event, InstallRequest};

use crate::failure::{Failure, Hint, failure};
use crate::install::installation::{Look, Phase};
use crate::install::record;
use crate::launch;
use crate::observe::{self, Found};
use crate::site::Site;
use crate::task::Task;
use crate::vmms::{Needs, Sources, Vmms};
use crate::wait::blocking;
use crate::wanted::{self, Wanted};
use crate::{services, up};

/// Installs a node, or goes on with it.
pub async fn run(
    site: &Arc<Site>,
    node: &str,
    request: InstallRequest,
    task: &Arc<Task>,
) -> Result<bool, Failure> {
    let before = site.wanted();
    let wanted = wanted_by(site, node, &request).await?;
    let start = match start(site, &wanted, node, &request, task).await {
        Ok(start) => start,
        Err(failure) => {
            if request.source.is_some() {
                up::take_back(site, before);
            }
            return Err(failure);
        }
    };
    if request.source.is_some() {
        wanted::store(&site.dir, &wanted.source)?;
    }
    match start {
        Start::Join => {
            task.emit(Event::Warning { text: format!("{node} is installing itself: joined") });
            services::open(site, &wanted, Some(task)).await?;
            follow::to_its_end(site, node, task).await?;
        }
        Start::Boot => {}
        Start::Launch(prepared) => {
            begin::launch(site, &wanted, node, *prepared, task).await?;
            follow::to_its_end(site, node, task).await?;
        }
    }
    let needs =
        Needs { launches: [wanted.choice(node)?.engine].into(), images: false, portable: false };
    let sources = Sources { mirror: request.mirror, environment: request.environment };
    let vmms = Vmms::gather(site, &wanted, needs, sources, task).await?;
    let booted = boot::from_its_disk(site, &wanted, node, &vmms, task).await;
    if let Err(failure) = &booted {
        site.installations.note(node, |known| record::fail(known, &failure.what))?;
    }
    booted.map(|()| true)
}

/// What is to be done first.
enum Start {
    Join,
    Boot,
    Launch(Box<begin::Prepared>),
}

/// Looks at everything that may be wrong, and touches nothing of the node.
async fn start(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    node: &str,
    request: &InstallRequest,
    task: &Arc<Task>,
) -> Result<Start, Failure> {
    if wanted.node(node).is_none() {
        return Err(failure(ErrorKind::NotFound, format!("{} has no node {node}", site.name)));
    }
    let look = site.installations.look(node);
    let installer_runs = installer_runs(site, node).await?;
    let prepared = match way(node, look.as_ref(), installer_runs, request.resume)? {
        Way::Join => return Ok(Start::Join),
        Way::Boot => return Ok(Start::Boot),
        Way::Again => begin::again(site, wanted, node, request, task).await?,
        Way::New => begin::new(site, wanted, node, request, task).await?,
    };
    Ok(Start::Launch(Box::new(prepared)))
}

/// How a command is to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From the beginning.
    New,
    /// The installer is launched again and goes on.
    Again,
    /// The installer runs: it is watched.
    Join,
    /// It is done: the node is started from its disk.
    Boot,
}

fn way(
    node: &str,
    look: Option<&Look>,
    installer_runs: bool,
    resume: bool,
) -> Result<Way, Failure> {
    let Some(look) = look else {
        return if resume { Err(nothing_to_resume(node)) } else { Ok(Way::New) };
    };
    match look.phase {
        Phase::Open | Phase::Installed
            if installer_runs && look.record.outcome == InstallOutcome::UnderWay =>
        {
            Ok(Way::Join)
        }
        Phase::Open if resume => Ok(Way::Again),
        Phase::Installed if resume => Ok(Way::Boot),
        Phase::Over if resume => Err(nothing_to_resume(node)),
        _ => Ok(Way::New),
    }
}

fn nothing_to_resume(node: &str) -> Failure {
    failure(ErrorKind::NotFound, format!("no installation of {node} is unfinished"))
        .hint(format!("`gridgate install {node}` begins one"))
}

/// What the site must be: as it is known, or as the profile of the request says, which is not stored yet.
async fn wanted_by(
    site: &Arc<Site>,
    node: &str,
    request: &InstallRequest,
) -> Result<Arc<Wanted>, Failure> {
    let wanted = match &request.source {
        None => site.wanted(),
        Some(source) => {
            let (home, source) = (site.home.clone(), source.clone());
            let (wanted, ca) = blocking(move || wanted::compile(&home, source)).await??;
            Some(site.set_wanted(wanted, ca))
        }
    };
    wanted.ok_or_else(|| {
        failure(ErrorKind::NotFound, format!("{} has not been brought up yet", site.name))
            .hint(format!("name its profile: `gridgate install {node} --profile site.toml`"))
    })
}

/// Whether a machine was launched to install its node.
pub fn is_installer(spec: &MachineSpec) -> bool {
    spec.kernel_arguments.iter().any(|argument| argument == INSTALL_ARGUMENT)
}

async fn installer_runs(site: &Arc<Site>, node: &str) -> Result<bool, Failure> {
    let dir = site.dir.node(node);
    blocking(move || {
        let runs = matches!(observe::machine(&dir), Found::Running(..));
        runs && launch::last_spec(&dir).is_some_and(|spec| is_installer(&spec))
    })
    .await
}

#[cfg(test)]
mod tests;
