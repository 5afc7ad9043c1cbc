//! What is there of a site on this host, as the plan compares it.

use std::collections::BTreeSet;
use std::sync::Arc;

use gridgate_depot::Lock;
use gridgate_protocol::agent_api::PublishedProfile;
use gridgate_protocol::site_api::{ErrorKind, Plan};

use crate::failure::{Failure, Hint, failure};
use crate::images::{self, Installed};
use crate::observe::{self, Found};
use crate::plan::{self, Present, PresentSite};
use crate::rollout::{self, Due};
use crate::services::wanted_ports;
use crate::site::Site;
use crate::task::Task;
use crate::wait::blocking;
use crate::wanted::Wanted;
use crate::{disks, launch, stop};

/// A disk never shrinks: said before anything is touched.
pub fn check_shrink(site: &Site, wanted: &Wanted) -> Result<(), Failure> {
    let smaller = wanted.compiled.nodes.iter().filter_map(|node| {
        let size = disks::size(&site.dir.node(&node.name))?;
        (size > node.disk).then(|| {
            format!(
                "nodes.{}.disk: {} MiB wanted, the disk has {} MiB",
                node.name,
                node.disk >> 20,
                size >> 20
            )
        })
    });
    let why: Vec<_> = smaller.collect();
    if why.is_empty() {
        return Ok(());
    }
    let mut failure =
        failure(ErrorKind::Input, "a disk cannot be made smaller; nothing was touched");
    failure.why = why;
    Err(failure.hint("give at least the present size"))
}

/// A disk that an installation has not finished is no node's disk: said before anything is touched.
pub fn check_installed(site: &Site, names: &[&str]) -> Result<(), Failure> {
    let open = names.iter().filter_map(|name| site.installations.incomplete(name));
    let Some(record) = open.into_iter().next() else { return Ok(()) };
    let (name, number) = (&record.node, record.number);
    let what =
        format!("{name} is not installed completely: its installation {number} has not ended");
    let hint = format!(
        "`gridgate install {name} --resume` goes on; `gridgate install {name}` begins anew"
    );
    Err(failure(ErrorKind::Node, what).hint(hint))
}

/// What has to be done.
pub async fn plan(site: &Arc<Site>, wanted: &Arc<Wanted>) -> Result<Plan, Failure> {
    let (site, wanted) = (site.clone(), wanted.clone());
    blocking(move || {
        let present = observe_site(&site, &wanted)?;
        Ok(plan::plan(&wanted.compiled.nodes, &present))
    })
    .await?
}

/// Says which nodes are held at their earlier packages.
pub async fn tell_held(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    task: &Arc<Task>,
) -> Result<(), Failure> {
    let (site, wanted, task) = (site.clone(), wanted.clone(), task.clone());
    blocking(move || {
        let lock = images::lock(&site.dir)?;
        for node in &wanted.compiled.nodes {
            let due = due(&site, &wanted, lock.as_ref(), &node.name)?;
            if let Some(why) = due.held {
                rollout::tell_held(&task, &node.name, &why);
            }
        }
        Ok(())
    })
    .await?
}

fn due(site: &Site, wanted: &Wanted, lock: Option<&Lock>, name: &str) -> Result<Due, Failure> {
    let Some(node) = wanted.node(name) else { return Ok(Due::default()) };
    let locked = lock.and_then(|lock| images::locked_list(lock, wanted, name));
    rollout::due(&site.dir.node(name), node, locked.as_ref())
}

fn observe_site(site: &Site, wanted: &Wanted) -> Result<PresentSite, Failure> {
    let lock = images::lock(&site.dir)?;
    let network = gridgate_net::exists(&wanted.network.namespace)
        && site.services(|s| s.install.as_ref().is_some_and(|i| i.address == wanted.site.server));
    let mut names: BTreeSet<String> = stop::names(&site.dir).into_iter().collect();
    names.extend(wanted.compiled.nodes.iter().map(|node| node.name.clone()));
    let nodes = names.into_iter().map(|name| {
        let due = due(site, wanted, lock.as_ref(), &name)?;
        let is = observe_node(site, wanted, &name, due);
        Ok((name, is))
    });
    let nodes = nodes.collect::<Result<_, Failure>>()?;
    Ok(PresentSite { network, nodes, ports: ports_fit(site, wanted) })
}

fn observe_node(site: &Site, wanted: &Wanted, name: &str, due: Due) -> Present {
    let dir = site.dir.node(name);
    let last = launch::last_spec(&dir);
    let node = wanted.node(name);
    let published = std::fs::read(dir.profile())
        .ok()
        .and_then(|bytes| serde_json::from_slice::<PublishedProfile>(&bytes).ok())
        .map(|published| published.version);
    // A node that is held is not told of the profile that it was rolled back from.
    let published = match (due.held, node) {
        (Some(_), Some(node)) => Some(node.profile.version()),
        _ => published,
    };
    Present {
        disk: disks::size(&dir),
        running: matches!(observe::machine(&dir), Found::Running(..)),
        packages_fit: node.zip(Installed::load(&dir)).is_some_and(|(node, had)| had.fits(node)),
        update: due.update,
        published,
        memory: last.as_ref().map(|spec| spec.memory),
        on: wanted.choice(name).ok().map(ToString::to_string),
        differs: node.zip(last).and_then(|(node, last)| launch::differs(&last, node, wanted)),
    }
}

fn ports_fit(site: &Site, wanted: &Wanted) -> bool {
    let want: BTreeSet<_> = wanted_ports(wanted).collect();
    site.services(|services| {
        let have: BTreeSet<_> =
            services.ports.iter().map(|(node, publish, _)| (node.clone(), *publish)).collect();
        have == want
    })
}
