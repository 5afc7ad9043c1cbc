//! The beginning of an installation: software made ready, the machine stopped, the disk looked at, the installer launched.

use std::collections::BTreeSet;
use std::sync::Arc;

use gridgate_machine::MachineSpec;
use gridgate_profile::CompiledNode;
use gridgate_protocol::agent_api::PublishedProfile;
use gridgate_protocol::install_api::{
    DataOrder, DiskOrder, INSTALL_ARGUMENT, InstallOutcome, InstallRecord, Method, Order, Stage,
};
use gridgate_protocol::site_api::{ErrorKind, Event, InstallRequest};

use crate::failure::{Failure, Hint, failure};
use crate::images::Installed;
use crate::install::record;
use crate::installer;
use crate::site::Site;
use crate::software::{self, Software};
use crate::task::Task;
use crate::verdicts::Engine;
use crate::vmms::{Needs, Vmms};
use crate::wait::blocking;
use crate::wanted::Wanted;
use crate::{disks, images, launch, memory, services, stop};

/// Bytes of a disk that no partition has: tables at both ends, alignment.
const TABLES: u64 = 2 << 20;

/// Refuses names after `--wipe-data` that are data partitions neither of the profile nor of the node's disk.
fn check_wipe(site: &Site, wanted: &Wanted, node: &str, names: &[String]) -> Result<(), Failure> {
    let Some(compiled) = wanted.node(node) else { return Ok(()) };
    let mut known: BTreeSet<_> = compiled.data.iter().map(|data| data.name.clone()).collect();
    known.extend(disks::data_partitions(&site.dir.node(node)));
    let unknown = names.iter().filter(|name| !known.contains(*name));
    let unknown: Vec<_> = unknown.map(String::as_str).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let known: Vec<_> = known.into_iter().collect();
    let what = format!("{node} has no data partition {}; nothing was touched", unknown.join(", "));
    let hint = if known.is_empty() { "it has none".into() } else { known.join(", ") };
    Err(failure(ErrorKind::Input, what).hint(format!("its data partitions: {hint}")))
}

/// All that an installation needs; nothing of the node was touched for it.
pub struct Prepared {
    vmms: Vmms,
    /// What the installer's clock is to show, seconds since 1970.
    clock: Option<i64>,
    /// Of one that begins: what it is, and what the node will have. None: the one that is known goes on.
    new: Option<(Order, Installed, InstallRecord)>,
}

/// A new installation, from the beginning.
pub async fn new(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    name: &str,
    request: &InstallRequest,
    task: &Arc<Task>,
) -> Result<Prepared, Failure> {
    check_wipe(site, wanted, name, &request.wipe_data)?;
    check_clock(wanted, name, request.clock)?;
    let method = request.method.unwrap_or_default();
    let (vmms, software) = ready(site, wanted, name, request, method, task).await?;
    let node = node(wanted, name)?;
    let disk = disk_order(node, &request.wipe_data, software.root_least)?;
    let dir = site.dir.node(name);
    disks::check_kept(&dir, node, &disk)?;
    let strangers = disks::strangers(&dir);
    if !strangers.is_empty() {
        let listed = strangers.join(", ");
        let text = format!("{name}'s disk has partitions that are no node's; they go: {listed}");
        task.emit(Event::Warning { text });
    }
    let number = record::next(&dir);
    let version = node.profile.version();
    let record = InstallRecord {
        number,
        site: site.name.clone(),
        node: name.to_owned(),
        method,
        profile: version.clone(),
        image: software.image.clone(),
        begun: jiff::Timestamp::now().to_string(),
        ended: None,
        outcome: InstallOutcome::UnderWay,
        launches: 0,
        stages: Vec::new(),
        doing: String::new(),
        pieces: 0,
        disk: None,
        kernel: None,
        clock_off_s: None,
        last_line: None,
    };
    let order = Order {
        number,
        session: String::new(),
        method,
        disk,
        profile: PublishedProfile {
            version,
            profile: node.profile.clone(),
            packages: Some(software.installed.list.fingerprint()),
        },
        base: software.base,
        packages: software.packages,
        early: software.early,
        recipe: software.recipe,
        resume: None,
        clock: 0,
    };
    Ok(Prepared { vmms, clock: request.clock, new: Some((order, software.installed, record)) })
}

/// The installer again, for the same installation.
pub async fn again(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    name: &str,
    request: &InstallRequest,
    task: &Arc<Task>,
) -> Result<Prepared, Failure> {
    check_wipe(site, wanted, name, &request.wipe_data)?;
    check_clock(wanted, name, request.clock)?;
    let method = site.installations.look(name).map(|look| look.record.method).unwrap_or_default();
    if request.method.is_some_and(|asked| asked != method) {
        let what = format!("{name}'s unfinished installation has another method");
        return Err(failure(ErrorKind::Input, what)
            .hint(format!("`gridgate install {name}` without --resume begins anew")));
    }
    // Damaged pieces and packages are mended on the way.
    let (vmms, software) = ready(site, wanted, name, request, method, task).await?;
    let kept = site.installations.kept(name).map(|kept| kept.installed);
    if kept.is_some_and(|kept| kept != software.installed) {
        let what = format!("what {name} is to have has changed since its installation began");
        return Err(failure(ErrorKind::Input, what)
            .hint(format!("`gridgate install {name}` without --resume begins anew")));
    }
    Ok(Prepared { vmms, clock: request.clock, new: None })
}

/// Stops the node and launches its installer.
pub async fn launch(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    name: &str,
    prepared: Prepared,
    task: &Arc<Task>,
) -> Result<(), Failure> {
    let Prepared { vmms, clock, new } = prepared;
    stop::node(site, name, None, task).await?;
    let mut disk = None;
    if let Some((order, installed, record)) = new {
        disk = Some(order.disk.clone());
        site.installations.open(order, installed, record)?;
    }
    launch_installer(site, wanted, name, &vmms, (disk, clock), task).await
}

fn node<'a>(wanted: &'a Wanted, name: &str) -> Result<&'a CompiledNode, Failure> {
    wanted.node(name).ok_or_else(|| failure(ErrorKind::NotFound, format!("no node {name}")))
}

/// Everything from outside, before anything of the node is touched.
async fn ready(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    name: &str,
    request: &InstallRequest,
    method: Method,
    task: &Arc<Task>,
) -> Result<(Vmms, Software), Failure> {
    let engine = wanted.choice(name)?.engine;
    memory::fits(node(wanted, name)?, engine).await?;
    let needs = Needs { launches: [engine].into(), images: true, portable: false };
    let (site, wanted, task) = (site.clone(), wanted.clone(), task.clone());
    let (flag, environment) = (request.mirror.clone(), request.environment.clone());
    let name = name.to_owned();
    blocking(move || {
        let depot = images::depot(&site.home.depot())?;
        let profile = wanted.site.mirror.as_deref();
        // Without a mirror, what the depot holds must do.
        let mirrors = images::mirrors(flag.as_deref(), profile, &environment).unwrap_or_default();
        let lock = images::lock(&site.dir)?;
        let reporter = images::Reporter::new(task.clone());
        let vmms = Vmms::fetch(&depot, &mirrors, lock.as_ref(), &needs, &reporter)?;
        let node = node(&wanted, &name)?;
        let from = (&depot, &mirrors, &vmms);
        let software = software::prepare(&site, &wanted, node, from, method, &task)?;
        Ok((vmms, software))
    })
    .await?
}

/// How the disk shall be; one that is too small is refused here, before the node is touched.
fn disk_order(node: &CompiledNode, wipe: &[String], root_least: u64) -> Result<DiskOrder, Failure> {
    let data: Vec<_> = node
        .data
        .iter()
        .map(|data| DataOrder {
            name: data.name.clone(),
            size: data.size,
            wipe: wipe.contains(&data.name),
        })
        .collect();
    let is_data = |name: &&String| node.data.iter().any(|data| data.name == **name);
    let abandoned = wipe.iter().filter(|name| !is_data(name)).cloned().collect();
    let (seed, swap) = (disks::SEED_SIZE, node.swap);
    let order = DiskOrder { seed, swap, data, abandoned, root_least };
    let fixed: u64 = order.data.iter().map(|data| data.size).sum();
    let needed = fixed + order.seed + order.swap + root_least + TABLES;
    if needed <= node.disk {
        return Ok(order);
    }
    let name = &node.name;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let what = format!(
        "{name}'s disk is too small: {} MiB, and its installation needs {} MiB; nothing was touched",
        node.disk >> 20,
        mib(needed)
    );
    let mut small = failure(ErrorKind::Input, what);
    small.why.push(format!(
        "{} MiB for the root, {} MiB of swap, {} MiB for data partitions, {} MiB for the seed",
        mib(root_least),
        mib(order.swap),
        mib(fixed),
        mib(order.seed)
    ));
    Err(small.hint(format!("nodes.{name}: disk = \"{} MiB\"", mib(needed))))
}

/// Whether the node's VMM can be started with such a clock.
fn check_clock(wanted: &Wanted, name: &str, clock: Option<i64>) -> Result<(), Failure> {
    let engine = wanted.choice(name)?.engine;
    if clock.is_none() || matches!(engine, Engine::Kvm | Engine::Tcg) {
        return Ok(());
    }
    let what = format!("{name} runs on {engine}, which has the host's clock; nothing was touched");
    Err(failure(ErrorKind::Input, what).hint("--clock is for nodes on QEMU"))
}

/// Starts the node's machine with the installer in it; with the disk's order when the installation is new, and with
/// this time, seconds since 1970, on its clock.
async fn launch_installer(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    name: &str,
    vmms: &Vmms,
    (disk, clock): (Option<DiskOrder>, Option<i64>),
    task: &Arc<Task>,
) -> Result<(), Failure> {
    services::open(site, wanted, Some(task)).await?;
    site.links.reset(name);
    let stage = task.stage(name, "launch", "the installer".to_owned());
    let (owned, vmms) = (name.to_owned(), vmms.clone());
    let (at, wanted) = (site.clone(), wanted.clone());
    let launched = blocking(move || {
        let node = node(&wanted, &owned)?;
        let dir = at.dir.node(&owned);
        let uid = wanted.uid(&owned);
        let disk = disks::empty(&dir, node, uid, disk.as_ref())?;
        let token = at.installations.new_token(&owned)?;
        let identity = disks::identity(node, &wanted, &at.ca_certificate()?, token);
        let initramfs =
            installer::for_node(&at, &vmms, wanted.choice(&owned)?.engine, &dir, &identity, uid)?;
        let mut spec = install_spec(launch::spec(&at.dir, node, &wanted, &vmms)?, &initramfs)?;
        spec.clock = clock;
        let now = jiff::Timestamp::now();
        at.installations.note(&owned, |known| record::start(known, Stage::Start, now))?;
        launch::start(&spec, &owned, &wanted)?;
        Ok::<_, Failure>(format!("disk of {} MiB: {disk}", node.disk >> 20))
    });
    match launched.await? {
        Ok(detail) => {
            stage.finish(detail);
            Ok(())
        }
        Err(failure) => {
            site.installations.note(name, |known| record::fail(known, &failure.what))?;
            Err(stage.fail(failure))
        }
    }
}

/// The node's machine, booting the installer instead of its disk.
pub fn install_spec(
    mut spec: MachineSpec,
    initramfs: &std::path::Path,
) -> Result<MachineSpec, Failure> {
    let of_the_disk = |argument: &String| {
        argument.starts_with("root=") || argument.starts_with("rootfstype=") || argument == "rw"
    };
    spec.kernel_arguments.retain(|argument| !of_the_disk(argument));
    spec.kernel_arguments.push(INSTALL_ARGUMENT.to_owned());
    // Without it the kernel unpacks the installer into a tmpfs, which takes half of a small node's memory and no more.
    spec.kernel_arguments.push("rootfstype=ramfs".to_owned());
    installer::boot(&mut spec.vmm, initramfs);
    Ok(spec)
}
