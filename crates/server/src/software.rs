//! What a node that installs itself is made of: its role image in pieces, or its packages in order with the recipe
//! that makes them a system.

use std::sync::Arc;

use gridgate_depot::{Depot, DepotError, Mirrors, PinnedPackage, RoleImageRequest};
use gridgate_profile::CompiledNode;
use gridgate_protocol::agent_api::{LockedPackage, PackageList};
use gridgate_protocol::install_api::{Early, Method, Recipe, RecipeFile};
use gridgate_protocol::site_api::ErrorKind;

use crate::failure::{Failure, Hint, caused, failure};
use crate::images::{self, Installed, Reporter};
use crate::site::Site;
use crate::task::Task;
use crate::vmms::Vmms;
use crate::wanted::Wanted;

/// Room a new root has beside what is put into it, bytes.
const SPARE: u64 = 64 << 20;

/// What is installed.
pub struct Software {
    /// What the node has in the end.
    pub installed: Installed,
    /// Method `packages`: the base of every node.
    pub base: Vec<LockedPackage>,
    /// Method `packages`: the rest, in order.
    pub packages: Vec<LockedPackage>,
    /// Method `packages`: what of it is configured before others are unpacked.
    pub early: Option<Vec<Early>>,
    /// Method `packages`: how they become a system.
    pub recipe: Option<Recipe>,
    /// Key of the image.
    pub image: Option<String>,
    /// Least size of the root partition, bytes.
    pub root_least: u64,
}

/// Builds or finds what a node is installed from. Blocking.
pub fn prepare(
    site: &Site,
    wanted: &Wanted,
    node: &CompiledNode,
    (depot, mirrors, vmms): (&Depot, &Mirrors, &Vmms),
    method: Method,
    task: &Arc<Task>,
) -> Result<Software, Failure> {
    match method {
        Method::Image => image(site, wanted, node, (depot, mirrors, vmms), task),
        Method::Packages => packages(site, wanted, node, (depot, mirrors, vmms), task),
    }
}

fn image(
    site: &Site,
    wanted: &Wanted,
    node: &CompiledNode,
    (depot, mirrors, vmms): (&Depot, &Mirrors, &Vmms),
    task: &Arc<Task>,
) -> Result<Software, Failure> {
    let image = images::build_for(depot, mirrors, &site.dir, wanted, vmms, task, &node.name)?;
    depot.image_pieces(&image, &Reporter::new(task.clone())).map_err(|e| {
        caused(ErrorKind::Host, "the role image could not be cut into pieces", &e)
            .hint("what was cut is kept: the same command goes on from there")
    })?;
    Ok(Software {
        installed: images::installed(node, &image),
        base: Vec::new(),
        packages: Vec::new(),
        early: None,
        recipe: None,
        image: Some(image.key.clone()),
        root_least: image.size,
    })
}

fn packages(
    site: &Site,
    wanted: &Wanted,
    node: &CompiledNode,
    (depot, mirrors, vmms): (&Depot, &Mirrors, &Vmms),
    task: &Arc<Task>,
) -> Result<Software, Failure> {
    let request = images::request_of(wanted, vmms, &node.name)?;
    let pinned = |lock: &gridgate_depot::Lock| {
        let pins = lock.pins(&request.role, &request.packages)?.to_vec();
        (!lock.base.is_empty()).then(|| (lock.base.clone(), pins))
    };
    let locked = images::lock(&site.dir)?;
    let (base, pins) = match locked.as_ref().and_then(pinned) {
        Some(found) => found,
        None => {
            // What apt chooses is found, and locked, by building the role.
            images::build_for(depot, mirrors, &site.dir, wanted, vmms, task, &node.name)?;
            let lock = images::lock(&site.dir)?;
            lock.as_ref().and_then(pinned).ok_or_else(|| {
                failure(ErrorKind::Internal, format!("{}'s packages were not locked", node.name))
            })?
        }
    };
    let ready =
        depot.provision(mirrors, &base, &pins, &Reporter::new(task.clone())).map_err(|e| {
            let kept = "what was fetched is kept: the same command goes on from there";
            let hint =
                if matches!(e, DepotError::Ring { .. }) { "use `--method image`" } else { kept };
            caused(ErrorKind::Host, "the packages could not be made ready", &e).hint(hint)
        })?;
    let packed: u64 = ready.order.iter().map(|pin| pin.size).sum();
    let release = gridgate_depot::overlay_release(&request)
        .map_err(|e| caused(ErrorKind::Host, "the kernel's modules could not be read", &e))?;
    let early = ready.early.into_iter().map(|(before, names)| Early { before, names });
    let (base, rest): (Vec<_>, Vec<_>) = ready.order.iter().partition(|pin| base.contains(pin));
    let locked = |pins: Vec<&PinnedPackage>| pins.into_iter().map(images::locked).collect();
    Ok(Software {
        installed: Installed {
            names: node.packages.iter().cloned().collect(),
            image: String::new(),
            list: PackageList { packages: pins.iter().map(images::locked).collect() },
        },
        base: locked(base),
        packages: locked(rest),
        early: Some(early.collect()),
        recipe: Some(recipe(release)),
        image: None,
        // While they are installed, the packages themselves are there too.
        root_least: ready.unpacked + ready.unpacked / 8 + packed + SPARE,
    })
}

/// The overlay of a node's role. Blocking.
pub fn overlay(site: &Site, name: &str) -> Result<RoleImageRequest, Failure> {
    let unknown = || failure(ErrorKind::NotFound, format!("the site has no node {name}"));
    let wanted = site.wanted().ok_or_else(unknown)?;
    let depot = images::depot(&site.home.depot())?;
    images::request_of(&wanted, &Vmms::present(&depot, &site.dir), name)
}

/// The depot's recipe as it is told to nodes.
fn recipe(release: String) -> Recipe {
    let depot = gridgate_depot::recipe();
    let files = |files: Vec<gridgate_depot::RecipeFile>| {
        let file = |file: gridgate_depot::RecipeFile| {
            let gridgate_depot::RecipeFile { path, mode, text } = file;
            RecipeFile { path, mode, text }
        };
        files.into_iter().map(file).collect()
    };
    Recipe {
        mke2fs: depot.mke2fs,
        folders: depot.folders,
        links: depot.links,
        before: files(depot.before),
        left_out: depot.left_out,
        kept: depot.kept,
        prepare: depot.prepare,
        first: depot.first,
        dpkg: depot.dpkg,
        markers: depot.markers,
        finish: depot.finish,
        release,
        emptied: depot.emptied,
        removed: depot.removed,
        after: files(depot.after),
    }
}
