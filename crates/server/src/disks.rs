//! A node's disk and the seed on it.

use std::fs;
use std::path::{Path, PathBuf};

use gridgate_depot::RoleImage;
use gridgate_disk::{DataPartition, DevicePlan, DiskPlan, SeedEntry, SeedSource};
use gridgate_profile::CompiledNode;
use gridgate_protocol::agent_api::{Identity, PORT, SEED_AGENT, SEED_IDENTITY};
use gridgate_protocol::install_api::DiskOrder;
use gridgate_protocol::site_api::ErrorKind;
use rustix::fs::{Gid, Uid};
use sha2::{Digest, Sha256};

use crate::failure::{Failure, Hint, caused, failure};
use crate::home::{NodeDir, private_dir, write_atomic};
use crate::site::Site;
use crate::task::Stage;
use crate::wanted::Wanted;

/// Size of the seed partition, bytes: room for the agent's binary and what it may grow to.
pub const SEED_SIZE: u64 = 64 << 20;

/// What a node's disk is made of.
pub fn plan(dir: &NodeDir, node: &CompiledNode, image: &RoleImage, uid: u32) -> DiskPlan {
    DiskPlan {
        path: dir.disk(),
        size: node.disk,
        root_image: image.path.clone(),
        swap: node.swap,
        seed: SEED_SIZE,
        data: node
            .data
            .iter()
            .map(|data| DataPartition { name: data.name.clone(), size: data.size })
            .collect(),
        owner: (uid, uid),
    }
}

/// Makes a node's disk from its role image. Blocking.
pub fn create(plan: &DiskPlan, used: u64, stage: &Stage) -> Result<String, Failure> {
    let fault = |e: &dyn std::error::Error| {
        caused(ErrorKind::Host, format!("the disk {} could not be made", plan.path.display()), e)
    };
    let parent = plan.path.parent().unwrap_or(Path::new("/"));
    private_dir(parent).map_err(|e| fault(&e))?;
    gridgate_disk::check_space(parent, used).map_err(|e| {
        fault(&e).hint("free some space, then `gridgate up` again; nothing was begun for this disk")
    })?;
    let mut last = 0;
    let created = gridgate_disk::create(plan, &mut |done, total| {
        // An event for every 16 MiB is enough for the eye.
        if done == total || done >= last + (16 << 20) {
            last = done;
            stage.progress(done, total, "bytes");
        }
    })
    .map_err(|e| fault(&e))?;
    Ok(format!("{} MiB cloned ({:?})", created.bytes_copied >> 20, created.method))
}

/// Gives a disk its size, if it is smaller. Blocking.
pub fn grow(dir: &NodeDir, node: &CompiledNode) -> Result<(), Failure> {
    gridgate_disk::grow(&dir.disk(), node.disk).map_err(|e| {
        caused(ErrorKind::Host, format!("{}'s disk could not be grown", node.name), &e)
    })
}

/// The size of a node's disk, bytes; none when there is no disk.
pub fn size(dir: &NodeDir) -> Option<u64> {
    fs::metadata(dir.disk()).ok().map(|meta| meta.len())
}

/// The node's bearer token, made when it is missing.
pub fn token(dir: &NodeDir) -> Result<String, Failure> {
    let path = dir.token();
    let fault = |e: std::io::Error| {
        caused(ErrorKind::Host, format!("{} is not usable", path.display()), &e)
    };
    match fs::read_to_string(&path) {
        Ok(token) if token.len() == 64 => Ok(token),
        Ok(_) => Err(fault(std::io::Error::other("not 64 hex digits"))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let mut bytes = [0u8; 32];
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
                .map_err(|e| fault(e.into()))?;
            let token = hex::encode(bytes);
            write_atomic(&path, token.as_bytes()).map_err(fault)?;
            Ok(token)
        }
        Err(e) => Err(fault(e)),
    }
}

/// Who a node is, for its seed or, with a one-time token, for its installer.
pub fn identity(node: &CompiledNode, wanted: &Wanted, ca: &str, token: String) -> Identity {
    Identity {
        site: wanted.site.name.clone(),
        node: node.name.clone(),
        domain: wanted.site.domain.clone(),
        mac: node.profile.mac.clone(),
        address: node.profile.address,
        prefix_length: node.profile.prefix_length,
        server: wanted.site.server,
        port: PORT,
        ca: ca.to_owned(),
        token,
    }
}

/// What a node's seed partition holds.
fn seed_entries(
    dir: &NodeDir,
    node: &CompiledNode,
    wanted: &Wanted,
    ca: &str,
) -> Result<Vec<SeedEntry>, Failure> {
    let identity = serde_json::to_vec_pretty(&identity(node, wanted, ca, token(dir)?));
    let identity = identity.map_err(|e| seed_fault(&node.name, &e))?;
    let agent = crate::daemon::executable();
    let stamp = format!(
        "{}-{}\n",
        crate::daemon::build_id(),
        hex::encode(&Sha256::digest(&identity)[..16])
    );
    let entry = |name: &str, mode, source| SeedEntry { name: name.into(), mode, source };
    Ok(vec![
        entry(gridgate_agent::image::SEED_CHECKSUM, 0o600, SeedSource::Bytes(stamp.into_bytes())),
        entry(SEED_IDENTITY, 0o600, SeedSource::Bytes(identity)),
        entry(SEED_AGENT, 0o700, SeedSource::File(agent)),
    ])
}

fn seed_fault(node: &str, error: &dyn std::error::Error) -> Failure {
    caused(ErrorKind::Host, format!("{node}'s seed could not be written"), error)
}

/// What the seed partition of a node shall hold, for an installer. Blocking.
pub fn seed(site: &Site, name: &str) -> Result<Vec<SeedEntry>, Failure> {
    let wanted = site.wanted();
    let unknown = || failure(ErrorKind::NotFound, format!("the site has no node {name}"));
    let wanted = wanted.ok_or_else(unknown)?;
    let node = wanted.node(name).ok_or_else(unknown)?;
    seed_entries(&site.dir.node(name), node, &wanted, &site.ca_certificate()?)
}

/// Writes the node's identity and the agent to its disk's seed partition. The machine must not run. Blocking.
pub fn write_seed(
    dir: &NodeDir,
    node: &CompiledNode,
    wanted: &Wanted,
    ca: &str,
) -> Result<(), Failure> {
    let entries = seed_entries(dir, node, wanted, ca)?;
    gridgate_disk::write_seed(&dir.disk(), &entries).map_err(|e| seed_fault(&node.name, &e))?;
    Ok(())
}

/// Makes an empty disk for a node that installs itself, or takes the one that is there; a smaller one becomes
/// larger. With the order of a new installation, the space of what it will not keep is given back. Says what
/// was done. Blocking.
pub fn empty(
    dir: &NodeDir,
    node: &CompiledNode,
    uid: u32,
    order: Option<&DiskOrder>,
) -> Result<String, Failure> {
    let path = dir.disk();
    let fault = |e: &dyn std::error::Error| {
        caused(ErrorKind::Host, format!("the disk {} could not be made", path.display()), e)
    };
    if let Some(parent) = path.parent() {
        private_dir(parent).map_err(|e| fault(&e))?;
    }
    let was_there = path.exists();
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    let file = options.open(&path).map_err(|e| fault(&e))?;
    if file.metadata().map_err(|e| fault(&e))?.len() < node.disk {
        file.set_len(node.disk).and_then(|()| file.sync_all()).map_err(|e| fault(&e))?;
    }
    let said = match order.filter(|_| was_there) {
        None if was_there => "kept as it is".to_owned(),
        None => "empty".to_owned(),
        Some(order) => {
            let given = gridgate_disk::give_back(&file, &path, &device_plan(order));
            match given.map_err(|e| fault(&e))? {
                0 => "kept as it is until the installer has looked".to_owned(),
                given => format!("{} MiB of an earlier life given back", given >> 20),
            }
        }
    };
    give(dir, uid)?;
    Ok(said)
}

/// Names of the data partitions on a node's disk.
pub fn data_partitions(dir: &NodeDir) -> Vec<String> {
    let Some((file, path)) = opened(dir) else { return Vec::new() };
    let partitions = gridgate_disk::read_partitions(&file, &path).unwrap_or_default();
    let data = |name: &str| Some(name.strip_prefix(gridgate_disk::DATA_PREFIX)?.to_owned());
    partitions.iter().filter_map(|partition| data(&partition.name)).collect()
}

/// Partitions on a node's disk that are no node's.
pub fn strangers(dir: &NodeDir) -> Vec<String> {
    opened(dir).map(|(file, path)| gridgate_disk::strangers(&file, &path)).unwrap_or_default()
}

/// Refuses an installation that would lose a data partition which nobody gave up by name.
pub fn check_kept(dir: &NodeDir, node: &CompiledNode, order: &DiskOrder) -> Result<(), Failure> {
    let Some((file, path)) = opened(dir) else { return Ok(()) };
    let size = file.metadata().map_or(node.disk, |meta| meta.len().max(node.disk));
    gridgate_disk::check_kept(&file, &path, size, &device_plan(order)).map_err(|e| {
        let what = format!("{} is not installed; nothing was touched", node.name);
        caused(ErrorKind::Input, what, &e)
    })
}

/// A node's disk; none when there is none.
fn opened(dir: &NodeDir) -> Option<(fs::File, PathBuf)> {
    let path = dir.disk();
    Some((fs::File::open(&path).ok()?, path))
}

fn device_plan(order: &DiskOrder) -> DevicePlan {
    DevicePlan {
        seed: order.seed,
        swap: order.swap,
        data: order
            .data
            .iter()
            .map(|data| DataPartition { name: data.name.clone(), size: data.size })
            .collect(),
        wipe: order.given_up(),
        root_least: order.root_least,
    }
}

/// Sees to it that the VMM's user owns the disk.
pub fn give(dir: &NodeDir, uid: u32) -> Result<(), Failure> {
    rustix::fs::chown(dir.disk(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid))).map_err(|e| {
        caused(ErrorKind::Host, "a disk's owner could not be set", &std::io::Error::from(e))
    })
}
