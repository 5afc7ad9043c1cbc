//! What runs in the daemon on a site's behalf: network, install server, published ports, published profiles.

use std::net::SocketAddrV4;
use std::sync::Arc;

use gridgate_protocol::agent_api::PublishedProfile;
use gridgate_protocol::site_api::{ErrorKind, Event};

use crate::failure::{Failure, Hint, caused};
use crate::home::write_atomic;
use crate::images::Installed;
use crate::rollout::Journal;
use crate::site::Site;
use crate::task::Task;
use crate::wanted::Wanted;
use crate::{disks, install};

/// The ports that the profile publishes, by node.
pub fn wanted_ports(wanted: &Wanted) -> impl Iterator<Item = (String, gridgate_profile::Publish)> {
    let nodes = wanted.compiled.nodes.iter();
    nodes.flat_map(|node| node.publish.iter().map(|publish| (node.name.clone(), *publish)))
}

/// Opens what runs in the daemon for this site: network, install server, published ports.
pub async fn open(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    task: Option<&Arc<Task>>,
) -> Result<(), Failure> {
    let changes = gridgate_net::ensure(&wanted.network)
        .await
        .map_err(|e| caused(ErrorKind::Host, "the site's network could not be made", &e))?;
    if let Some(task) = task {
        for warning in &changes.warnings {
            task.emit(Event::Warning { text: warning.to_string() });
        }
    }
    let address = wanted.site.server;
    let listening = site.services(|s| s.install.as_ref().is_some_and(|i| i.address == address));
    let fresh = changes.made.contains(&gridgate_net::Change::NamespaceMade);
    if !listening || fresh {
        site.services(|services| (services.install, services.archive) = (None, None));
        let server = install::serve(site, &wanted.network.namespace, address)?;
        let archive = install::archive_service::serve(site, &wanted.network.namespace, address)?;
        site.services(|services| {
            (services.install, services.archive) = (Some(server), Some(archive));
        });
    }
    ports(site, wanted).await
}

async fn ports(site: &Arc<Site>, wanted: &Arc<Wanted>) -> Result<(), Failure> {
    let want: Vec<_> = wanted_ports(wanted).collect();
    site.services(|s| {
        s.ports.retain(|(node, publish, _)| want.contains(&(node.clone(), *publish)));
    });
    for (name, publish) in want {
        let open =
            site.services(|s| s.ports.iter().any(|(node, p, _)| *node == name && *p == publish));
        let Some(node) = wanted.node(&name).filter(|_| !open) else { continue };
        let target = SocketAddrV4::new(node.profile.address, publish.port);
        let namespace = gridgate_net::namespace_path(&wanted.network.namespace);
        let port = gridgate_net::publish(publish.listen, namespace, target).await.map_err(|e| {
            caused(
                ErrorKind::Host,
                format!("{name}'s port {} could not be published", publish.port),
                &e,
            )
            .hint("change `publish` in the profile, or free the address")
        })?;
        site.services(|services| services.ports.push((name, publish, port)));
    }
    Ok(())
}

/// Tells the agents what is published. Nodes without a disk have nothing to be told yet.
pub fn republish(site: &Site, wanted: &Wanted) -> Result<(), Failure> {
    for node in &wanted.compiled.nodes {
        let dir = site.dir.node(&node.name);
        if !dir.disk().exists() {
            continue;
        }
        publish_node(site, node, Installed::load(&dir))?;
    }
    Ok(())
}

/// Tells one node's agent what it must be.
pub fn publish_node(
    site: &Site,
    node: &gridgate_profile::CompiledNode,
    installed: Option<Installed>,
) -> Result<(), Failure> {
    let dir = site.dir.node(&node.name);
    // A node that was rolled back is held at the profile that goes with its packages.
    let journal = Journal::load(&dir)?;
    let held = journal.as_ref().and_then(Journal::held_profile);
    let profile = held.map_or(&node.profile, |held| &held.profile);
    let published = PublishedProfile {
        version: profile.version(),
        profile: profile.clone(),
        packages: installed.as_ref().map(|installed| installed.list.fingerprint()),
    };
    let json = serde_json::to_vec_pretty(&published)
        .map_err(|e| caused(ErrorKind::Internal, "a node profile could not be written", &e))?;
    if std::fs::read(dir.profile()).ok().as_deref() != Some(&json) {
        write_atomic(&dir.profile(), &json).map_err(|e| {
            caused(ErrorKind::Host, format!("{}'s profile could not be written", node.name), &e)
        })?;
    }
    let token = disks::token(&dir)?;
    site.links.publish(token, published, installed.map(|installed| installed.list));
    Ok(())
}
