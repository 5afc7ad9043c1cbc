//! From nodes to role images: nodes of one role with the same packages share one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gridgate_depot::{
    Depot, DepotError, DepotEvent, Explanation, Lock, MirrorError, Mirrors, PinnedPackage,
    Progress, RoleImage, RoleImageRequest, Unit,
};
use gridgate_profile::CompiledNode;
use gridgate_protocol::agent_api::{LockedPackage, PackageList};
use gridgate_protocol::site_api::{ErrorKind, Event};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Hint, caused};
use crate::home::{NodeDir, SiteDir, write_atomic};
use crate::overlay;
use crate::task::Task;
use crate::vmms::Vmms;
use crate::wanted::Wanted;

/// Progress events are passed on this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// The packages that a node was told to have: kept with the node, so that a later `up` knows whether they changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Wanted by name.
    pub names: Vec<String>,
    /// Key of the role image that holds them.
    pub image: String,
    /// All of them, pinned.
    pub list: PackageList,
}

impl Installed {
    /// What a node was told, if anything.
    pub fn load(dir: &NodeDir) -> Option<Installed> {
        serde_json::from_slice(&fs::read(dir.packages()).ok()?).ok()
    }

    /// Whether the node's profile still wants just these.
    pub fn fits(&self, node: &CompiledNode) -> bool {
        self.names.iter().eq(node.packages.iter())
    }

    /// Keeps it with the node.
    pub fn store(&self, dir: &NodeDir) -> Result<(), Failure> {
        let json = serde_json::to_vec(self).map_err(std::io::Error::other);
        json.and_then(|json| write_atomic(&dir.packages(), &json))
            .map_err(|e| caused(ErrorKind::Host, "a node's package list could not be written", &e))
    }
}

/// A request with the nodes that share the image.
struct Group<'a> {
    label: String,
    nodes: Vec<&'a CompiledNode>,
}

/// Images for nodes.
pub struct Images {
    /// Role image by node name.
    pub by_node: BTreeMap<String, Arc<RoleImage>>,
}

/// Groups nodes by role and package set. The first group of a role bears its name, others that of their first node.
fn groups<'a>(nodes: impl Iterator<Item = &'a CompiledNode>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for node in nodes {
        let same = groups.iter_mut().find(|group| {
            group.nodes[0].role == node.role && group.nodes[0].packages == node.packages
        });
        match same {
            Some(group) => group.nodes.push(node),
            None => {
                let taken = groups.iter().any(|group| group.label == node.role);
                let label = if taken { node.name.clone() } else { node.role.clone() };
                groups.push(Group { label, nodes: vec![node] });
            }
        }
    }
    groups
}

fn request(group: &Group<'_>, vmms: &Vmms) -> RoleImageRequest {
    RoleImageRequest {
        role: group.label.clone(),
        packages: group.nodes[0].packages.clone(),
        overlay: overlay::of(&group.nodes),
        modules: vmms.uml().map(|uml| uml.modules.clone()),
    }
}

/// The site's lock, if it has one; before its first `up` the one that an import brought.
pub fn lock(dir: &SiteDir) -> Result<Option<Lock>, Failure> {
    let own = dir.lock();
    let path = if own.exists() { own } else { dir.imported().join("site.lock") };
    match fs::read_to_string(&path) {
        Ok(text) => Lock::parse(&text).map(Some).map_err(|e| {
            caused(ErrorKind::Input, format!("{} is damaged", path.display()), &e)
                .hint("restore it, or remove it to lock the archive's present packages")
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(caused(ErrorKind::Host, "the site's lock could not be read", &e)),
    }
}

/// Writes a site's lock when it is another one, or an import's that is not yet its own.
pub fn store_lock(dir: &SiteDir, old: Option<&Lock>, new: &Lock) -> Result<(), Failure> {
    let text = new.to_text();
    if dir.lock().exists() && old.is_some_and(|old| old.to_text() == text) {
        return Ok(());
    }
    write_atomic(&dir.lock(), text.as_bytes())
        .map_err(|e| caused(ErrorKind::Host, "site.lock could not be written", &e))
}

/// Builds or finds the images of all nodes. Blocking.
pub fn build(
    depot: &Depot,
    mirrors: &Mirrors,
    dir: &SiteDir,
    wanted: &Wanted,
    vmms: &Vmms,
    task: &Arc<Task>,
) -> Result<Images, Failure> {
    let groups = groups(wanted.compiled.nodes.iter());
    let built = build_groups(depot, mirrors, dir, wanted, vmms, task, &groups)?;
    let mut by_node = BTreeMap::new();
    for (group, image) in groups.iter().zip(built) {
        let image = Arc::new(image);
        for node in &group.nodes {
            by_node.insert(node.name.clone(), image.clone());
        }
    }
    Ok(Images { by_node })
}

/// Builds or finds the image of one node. Blocking.
pub fn build_for(
    depot: &Depot,
    mirrors: &Mirrors,
    dir: &SiteDir,
    wanted: &Wanted,
    vmms: &Vmms,
    task: &Arc<Task>,
    node: &str,
) -> Result<RoleImage, Failure> {
    let mut groups = groups(wanted.compiled.nodes.iter());
    groups.retain(|group| group.nodes.iter().any(|n| n.name == node));
    let built = build_groups(depot, mirrors, dir, wanted, vmms, task, &groups)?;
    built.into_iter().next().ok_or_else(|| {
        crate::failure::failure(ErrorKind::NotFound, format!("the site has no node {node}"))
    })
}

/// What the image of a node is asked for as.
pub fn request_of(wanted: &Wanted, vmms: &Vmms, node: &str) -> Result<RoleImageRequest, Failure> {
    let groups = groups(wanted.compiled.nodes.iter());
    let group = groups.iter().find(|group| group.nodes.iter().any(|n| n.name == node));
    group.map(|group| request(group, vmms)).ok_or_else(|| {
        crate::failure::failure(ErrorKind::NotFound, format!("the site has no node {node}"))
    })
}

/// Images of groups; the site's lock learns what was chosen for them.
fn build_groups(
    depot: &Depot,
    mirrors: &Mirrors,
    dir: &SiteDir,
    wanted: &Wanted,
    vmms: &Vmms,
    task: &Arc<Task>,
    groups: &[Group<'_>],
) -> Result<Vec<RoleImage>, Failure> {
    let requests: Vec<_> = groups.iter().map(|group| request(group, vmms)).collect();
    let lock = lock(dir)?;
    let built = depot
        .role_images(mirrors, &requests, lock.as_ref(), &Reporter::new(task.clone()))
        .map_err(|e| build_failure(&e, wanted))?;
    let mut new = built.lock;
    if let Some(old) = &lock {
        // What another VMM was pinned to for a node that is elsewhere now stays pinned.
        new.set_qemu(&old.qemu);
        new.set_linux(&old.linux);
    }
    vmms.pin(&mut new);
    store_lock(dir, lock.as_ref(), &new)?;
    Ok(built.images)
}

/// What is asked of the depot for all nodes, and the nodes of each request by its role's name.
pub fn requests(
    wanted: &Wanted,
    vmms: &Vmms,
) -> (Vec<RoleImageRequest>, BTreeMap<String, Vec<String>>) {
    let groups = groups(wanted.compiled.nodes.iter());
    let names = |group: &Group<'_>| {
        let names = group.nodes.iter().map(|node| node.name.clone()).collect();
        (group.label.clone(), names)
    };
    let nodes = groups.iter().map(names).collect();
    (groups.iter().map(|group| request(group, vmms)).collect(), nodes)
}

/// A package that Debian does not have is the profile's fault; it is shown where it stands.
pub fn build_failure(error: &DepotError, wanted: &Wanted) -> Failure {
    let DepotError::Resolve { reason, .. } = error else {
        return caused(ErrorKind::Host, "the role images could not be built", error)
            .hint("what was fetched and built is kept: `gridgate up` goes on from there");
    };
    let what = "the site profile asks for packages that cannot be installed; no node was touched";
    let mut failure = caused(ErrorKind::Input, what, error);
    let named =
        |name: &str| reason.split(|c: char| c.is_whitespace() || c == ',').any(|w| w == name);
    let packages = wanted.compiled.nodes.iter().flat_map(|node| &node.packages);
    for name in packages.collect::<BTreeSet<_>>() {
        let quoted = format!("\"{name}\"");
        let mut lines = wanted.source.text.lines().enumerate();
        if let Some((index, line)) = lines.find(|(_, line)| named(name) && line.contains(&quoted)) {
            let path = wanted.source.path.display();
            failure.why.push(format!("{path}:{}: {}", index + 1, line.trim()));
        }
    }
    failure
        .hint("correct the name there; `apt-cache search WORD` on a Debian 13 machine finds names")
}

/// Why a node's image is what it is.
pub fn explain(
    depot: &Depot,
    dir: &SiteDir,
    wanted: &Wanted,
    vmms: &Vmms,
    node: &str,
) -> Option<Explanation> {
    let groups = groups(wanted.compiled.nodes.iter());
    let group = groups.iter().find(|group| group.nodes.iter().any(|n| n.name == node))?;
    let lock = lock(dir).ok().flatten();
    Some(depot.explain(&request(group, vmms), lock.as_ref()))
}

/// What the lock holds for a node, if it was made for the packages that the node wants by name.
pub fn locked_list(lock: &Lock, wanted: &Wanted, node: &str) -> Option<PackageList> {
    let groups = groups(wanted.compiled.nodes.iter());
    let group = groups.iter().find(|group| group.nodes.iter().any(|n| n.name == node))?;
    let pins = lock.pins(&group.label, &group.nodes[0].packages)?;
    Some(list(pins))
}

/// Pins as agents read them.
fn list(pins: &[PinnedPackage]) -> PackageList {
    let mut packages: Vec<LockedPackage> = pins.iter().map(locked).collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    PackageList { packages }
}

/// A pin as agents read it.
pub fn locked(pin: &PinnedPackage) -> LockedPackage {
    LockedPackage {
        name: pin.name.clone(),
        version: pin.version.clone(),
        architecture: pin.architecture.clone(),
        sha256: pin.sha256.clone(),
        size: pin.size,
    }
}

/// The package list of an image, as agents read it.
pub fn installed(node: &CompiledNode, image: &RoleImage) -> Installed {
    Installed {
        names: node.packages.iter().cloned().collect(),
        image: image.key.clone(),
        list: list(&image.packages),
    }
}

/// Where the archive is, from what the client said, its environment, the host and the profile.
pub fn mirrors(
    flag: Option<&str>,
    profile: Option<&str>,
    environment: &BTreeMap<String, String>,
) -> Result<Mirrors, Failure> {
    let said = flag.or_else(|| environment.get("GRIDGATE_MIRROR").map(String::as_str));
    let mut mirrors = match Mirrors::discover(said, profile) {
        // A host without one may have all it needs in its depot; what it lacks is then named.
        Err(MirrorError::NotFound { .. }) => Mirrors::default(),
        found => found.map_err(|e| {
            caused(ErrorKind::Host, "no Debian mirror is known", &e)
                .hint("name one: `gridgate up --mirror URL …`, or `mirror = \"URL\"` under [site]")
        })?,
    };
    if let Some(proxy) = environment.get("http_proxy").filter(|proxy| !proxy.is_empty()) {
        mirrors.proxy = Some(proxy.clone());
    }
    Ok(mirrors)
}

/// Opens the depot.
pub fn depot(path: &Path) -> Result<Depot, Failure> {
    Depot::open(path).map_err(|e| caused(ErrorKind::Host, "the depot could not be opened", &e))
}

/// Passes the depot's events on to a task.
pub struct Reporter {
    task: Arc<Task>,
    last: Mutex<BTreeMap<String, Instant>>,
}

impl Reporter {
    /// Of a task.
    pub fn new(task: Arc<Task>) -> Reporter {
        Reporter { task, last: Mutex::new(BTreeMap::new()) }
    }

    fn due(&self, key: String) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.get(&key).is_none_or(|at| at.elapsed() >= PROGRESS_EVERY);
        if due {
            last.insert(key, Instant::now());
        }
        due
    }
}

impl Progress for Reporter {
    fn event(&self, event: DepotEvent) {
        let subject_name = |subject: String| format!("image {subject}");
        let event = match event {
            DepotEvent::StageStarted { subject, stage, detail } => Event::Started {
                subject: subject_name(subject),
                stage: stage.word().into(),
                detail,
            },
            DepotEvent::StageProgress { subject, stage, done, total, unit } => {
                if done < total && !self.due(format!("{subject}/{}", stage.word())) {
                    return;
                }
                let unit = match unit {
                    Unit::Bytes => "bytes",
                    Unit::Packages => "packages",
                };
                Event::Progress {
                    subject: subject_name(subject),
                    stage: stage.word().into(),
                    done,
                    total,
                    unit: unit.into(),
                }
            }
            DepotEvent::StageFinished { subject, stage, millis } => Event::Finished {
                subject: subject_name(subject),
                stage: stage.word().into(),
                millis,
                detail: String::new(),
            },
            DepotEvent::Warning { subject, message } => {
                Event::Warning { text: format!("{subject}: {message}") }
            }
        };
        self.task.emit(event);
    }
}
