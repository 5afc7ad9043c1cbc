//! `up`: from a profile to a running site, doing only what the plan says.
//!
//! ```text
//! plan ─> kernel, role images ─> network, install server ─> per node: disk → seed → machine → ready ─> site checks
//!         (nothing of the site      (all nodes at once; one that fails
//!          is touched before)        does not stop the others)
//! ```
//!
//! Killed at any moment, the next `up` observes what is there and goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gridgate_depot::RoleImage;
use gridgate_protocol::site_api::{ErrorKind, Event, NodeState, Plan, PlanAction, UpRequest};

use crate::failure::{Failure, Hint, caused, failure};
use crate::images::{self, Images, Installed, Reporter};
use crate::launch;
use crate::observe::{self, Found};
use crate::plan;
use crate::site::Site;
use crate::task::{Stage, Task};
use crate::verdicts::Engine;
use crate::vmms::{Needs, Sources, Vmms};
use crate::wait::{self, blocking};
use crate::wanted::{self, Wanted};
use crate::{access, checks, disks, memory, present, rollout, services, stop, turns};

/// Brings the site to the request's profile. Says whether anything was changed.
pub async fn run(site: &Arc<Site>, request: UpRequest, task: &Arc<Task>) -> Result<bool, Failure> {
    let before = site.wanted();
    let wanted = {
        let (home, source) = (site.home.clone(), request.source.clone());
        if request.plan_only && !site.dir.ca().exists() {
            let wanted = blocking(move || wanted::preview(&home, source)).await??;
            task.emit(Event::Plan(present::plan(site, &Arc::new(wanted)).await?));
            return Ok(false);
        }
        let (wanted, ca) = blocking(move || wanted::compile(&home, source)).await??;
        present::check_shrink(site, &wanted)?;
        let names: Vec<_> = wanted.compiled.nodes.iter().map(|node| node.name.as_str()).collect();
        present::check_installed(site, &names)?;
        if request.plan_only {
            task.emit(Event::Plan(present::plan(site, &Arc::new(wanted)).await?));
            return Ok(false);
        }
        site.set_wanted(wanted, ca)
    };
    let plan = present::plan(site, &wanted).await?;
    task.emit(Event::Plan(plan.clone()));
    present::tell_held(site, &wanted, task).await?;
    if let Err(failure) = memory::check(&wanted, &plan).await {
        take_back(site, before);
        return Err(failure);
    }
    // Wanted packages that do not exist are found here: nothing of the site has been touched yet.
    let software = match software(site, &wanted, &plan, &request, task).await {
        Ok(software) => software,
        Err(failure) => {
            take_back(site, before);
            return Err(failure);
        }
    };
    let same_source = before.is_some_and(|before| before.source == wanted.source);
    if !same_source || !site.dir.source().exists() {
        wanted::store(&site.dir, &wanted.source)?;
    }
    if plan.steps.is_empty() {
        services::republish(site, &wanted)?;
        settle(site, &wanted, task, request.check).await?;
        return Ok(false);
    }
    carry_out(site, &wanted, &plan, software, request.patience_s, task).await?;
    settle(site, &wanted, task, request.check).await?;
    Ok(true)
}

/// After a profile that could not be followed: the site is what it was before. One that was nothing
/// before has no more than a CA that has signed nothing; that goes too.
pub fn take_back(site: &Site, before: Option<Arc<Wanted>>) {
    let new = before.is_none() && !site.dir.source().exists();
    site.set_back(before);
    if new && let Err(e) = std::fs::remove_dir_all(site.dir.path()) {
        tracing::warn!(site = site.name, "the new site's folder could not be removed: {e}");
    }
}

async fn carry_out(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    plan: &Plan,
    (vmms, images): (Arc<Vmms>, Option<Images>),
    patience_s: Option<u32>,
    task: &Arc<Task>,
) -> Result<(), Failure> {
    task.go_on()?;
    for step in plan.steps.iter().filter(|step| step.action == PlanAction::Remove) {
        stop::node(site, &step.node, None, task).await?;
        site.links.remove(&step.node);
    }
    let stage = task.stage("site", "network", wanted.network.namespace.clone());
    match services::open(site, wanted, Some(task)).await {
        Ok(()) => stage.finish(format!("install server on {}", wanted.site.server)),
        Err(failure) => return Err(stage.fail(failure)),
    }
    // Updated nodes come after all others, one by one.
    let at_once = wanted
        .compiled
        .nodes
        .iter()
        .filter(|node| !plan::has(plan, &node.name, PlanAction::Update));
    let nodes = at_once.map(|node| {
        let new = [PlanAction::Image, PlanAction::CreateDisk];
        let wants = new.into_iter().any(|action| plan::has(plan, &node.name, action));
        let image = images.as_ref().and_then(|images| images.by_node.get(&node.name).cloned());
        let image = image.filter(|_| wants);
        let (site, wanted, plan, task) = (site.clone(), wanted.clone(), plan.clone(), task.clone());
        let (name, vmms) = (node.name.clone(), vmms.clone());
        tokio::spawn(
            async move { bring_up(&site, &wanted, &plan, &name, image, vmms, &task).await },
        )
    });
    join(nodes.collect()).await?;
    rollout::run(site, wanted, plan, (vmms, images.as_ref()), patience_s, task).await
}

/// Waits for all; the failures of several nodes become one.
async fn join(nodes: Vec<tokio::task::JoinHandle<Result<(), Failure>>>) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for node in nodes {
        match node.await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => failures.push(failure),
            Err(e) => failures.push(caused(ErrorKind::Internal, "a node's task ended early", &e)),
        }
    }
    let Some(mut first) = failures.pop() else { return Ok(()) };
    // What is said of the task as a whole is the same of each node.
    failures.retain(|other| other.what != first.what);
    for other in failures {
        first.why.push(other.what);
        first.why.extend(other.why);
    }
    Err(first)
}

/// VMMs with their kernels, and role images, where the plan needs them.
async fn software(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    plan: &Plan,
    request: &UpRequest,
    task: &Arc<Task>,
) -> Result<(Arc<Vmms>, Option<Images>), Failure> {
    let needs = Needs {
        launches: launches(wanted, plan)?,
        images: plan.steps.iter().any(|step| step.action == PlanAction::Image),
        portable: false,
    };
    if needs == Needs::default() {
        return Ok((Arc::default(), None));
    }
    let (site, wanted, task) = (site.clone(), wanted.clone(), task.clone());
    let flag = request.mirror.clone();
    let environment = request.environment.clone();
    blocking(move || {
        let depot = images::depot(&site.home.depot())?;
        let mirrors =
            images::mirrors(flag.as_deref(), wanted.site.mirror.as_deref(), &environment)?;
        let lock = images::lock(&site.dir)?;
        let reporter = Reporter::new(task.clone());
        let vmms = Vmms::fetch(&depot, &mirrors, lock.as_ref(), &needs, &reporter)?;
        let built = if needs.images {
            Some(images::build(&depot, &mirrors, &site.dir, &wanted, &vmms, &task)?)
        } else {
            None
        };
        Ok((Arc::new(vmms), built))
    })
    .await?
}

/// What the machines that a plan starts run on.
fn launches(wanted: &Wanted, plan: &Plan) -> Result<BTreeSet<Engine>, Failure> {
    let starts = |name: &str| {
        let starts = [PlanAction::Start, PlanAction::Restart, PlanAction::Update];
        starts.into_iter().any(|action| plan::has(plan, name, action))
    };
    let nodes = wanted.compiled.nodes.iter().filter(|node| starts(&node.name));
    nodes.map(|node| wanted.choice(&node.name).map(|choice| choice.engine)).collect()
}

async fn bring_up(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    plan: &Plan,
    name: &str,
    image: Option<Arc<RoleImage>>,
    vmms: Arc<Vmms>,
    task: &Arc<Task>,
) -> Result<(), Failure> {
    let has = |action| plan::has(plan, name, action);
    if has(PlanAction::Apply) || has(PlanAction::CreateDisk) {
        rollout::obsolete(&site.dir.node(name))?;
    }
    if has(PlanAction::Restart) {
        stop::node(site, name, None, task).await?;
    }
    if has(PlanAction::CreateDisk) || has(PlanAction::GrowDisk) || has(PlanAction::Image) {
        let stage = task.stage(name, "disk", String::new());
        let (site, wanted, owned) = (site.clone(), wanted.clone(), name.to_owned());
        let (create, grow) = (has(PlanAction::CreateDisk), has(PlanAction::GrowDisk));
        blocking(move || {
            let made = prepare_disk(&site, &wanted, &owned, image.as_deref(), create, grow, &stage);
            match made {
                Ok(detail) => {
                    stage.finish(detail);
                    Ok(())
                }
                Err(failure) => Err(stage.fail(failure)),
            }
        })
        .await??;
    }
    {
        let (site, wanted, owned) = (site.clone(), wanted.clone(), name.to_owned());
        blocking(move || match wanted.node(&owned) {
            Some(node) => {
                services::publish_node(&site, node, Installed::load(&site.dir.node(&owned)))
            }
            None => Ok(()),
        })
        .await??;
    }
    if has(PlanAction::Start) || has(PlanAction::Restart) {
        return boot(site, wanted, name, vmms, task).await;
    }
    if has(PlanAction::Apply) {
        return wait_stage(site, wanted, name, "apply", task).await;
    }
    Ok(())
}

/// Makes or grows a node's disk and notes the packages it has or must get. Blocking.
fn prepare_disk(
    site: &Site,
    wanted: &Wanted,
    name: &str,
    image: Option<&RoleImage>,
    create: bool,
    grow: bool,
    stage: &crate::task::Stage,
) -> Result<String, Failure> {
    let dir = site.dir.node(name);
    let node =
        wanted.node(name).ok_or_else(|| failure(ErrorKind::Internal, format!("no node {name}")))?;
    let mut detail = String::new();
    if grow {
        disks::grow(&dir, node)?;
        detail = format!("grown to {} MiB", node.disk >> 20);
    }
    if create {
        let image =
            image.ok_or_else(|| failure(ErrorKind::Internal, format!("no image for {name}")))?;
        let plan = disks::plan(&dir, node, image, wanted.uid(name));
        detail = disks::create(&plan, image.used, stage)?;
        access::forget_host(
            &site.dir,
            &[node.profile.fqdn(), node.profile.address.to_string(), name.to_owned()],
        )
        .map_err(|e| caused(ErrorKind::Host, "the list of known hosts could not be changed", &e))?;
    }
    if let Some(image) = image {
        images::installed(node, image).store(&dir)?;
    }
    Ok(detail)
}

/// Writes the seed, starts the machine, waits until it does its work.
pub async fn boot(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    name: &str,
    vmms: Arc<Vmms>,
    task: &Arc<Task>,
) -> Result<(), Failure> {
    let turn = turns::take(wanted.choice(name)?.engine, name, task).await?;
    task.go_on()?;
    let stage = launch(site, wanted, name, &vmms, task, "boot").await?;
    let ready = finish_wait(site, wanted, name, stage);
    let booted = async {
        turns::booted(site, name).await;
        drop(turn);
        std::future::pending().await
    };
    tokio::select! {
        ready = ready => ready,
        ready = booted => ready,
    }
}

/// Writes the seed and starts the machine; gives the stage in which it is waited for.
pub async fn launch(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    name: &str,
    vmms: &Arc<Vmms>,
    task: &Arc<Task>,
    stage: &str,
) -> Result<Stage, Failure> {
    site.links.reset(name);
    let stage = task.stage(name, stage, String::new());
    let started = {
        let (site, wanted, name) = (site.clone(), wanted.clone(), name.to_owned());
        let vmms = vmms.clone();
        blocking(move || {
            let node = wanted
                .node(&name)
                .ok_or_else(|| failure(ErrorKind::NotFound, format!("no node {name}")))?;
            let dir = site.dir.node(&name);
            let ca = site.ca_certificate()?;
            disks::write_seed(&dir, node, &wanted, &ca)?;
            disks::give(&dir, wanted.uid(&name))?;
            launch::start(&launch::spec(&site.dir, node, &wanted, &vmms)?, &name, &wanted)
        })
        .await?
    };
    match started {
        Ok(()) => Ok(stage),
        Err(failure) => Err(stage.fail(failure)),
    }
}

async fn wait_stage(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    name: &str,
    what: &str,
    task: &Arc<Task>,
) -> Result<(), Failure> {
    let stage = task.stage(name, what, String::new());
    finish_wait(site, wanted, name, stage).await
}

async fn finish_wait(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    name: &str,
    stage: Stage,
) -> Result<(), Failure> {
    match wait::for_node(site, wanted, name, &stage).await {
        Ok(status) => {
            let services = status.health.len();
            stage.finish(format!("{services} health checks pass"));
            Ok(())
        }
        Err(failure) => Err(stage.fail(failure)),
    }
}

/// Waits for nodes that are on their way, then runs the site checks.
async fn settle(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    task: &Arc<Task>,
    check: bool,
) -> Result<(), Failure> {
    let mut late = Vec::new();
    for node in &wanted.compiled.nodes {
        let status = wait::look(site, wanted, &node.name).await?;
        if status.state != NodeState::Running {
            let (site, wanted, task, name) =
                (site.clone(), wanted.clone(), task.clone(), node.name.clone());
            late.push(tokio::spawn(async move {
                wait_stage(&site, &wanted, &name, "ready", &task).await
            }));
        }
    }
    join(late).await?;
    if !check {
        return Ok(());
    }
    task.go_on()?;
    let run = checks::run(site, wanted, task).await?;
    if run.passed() {
        return Ok(());
    }
    Err(checks_failed(&run))
}

/// The failure that failed site checks are.
pub fn checks_failed(run: &gridgate_protocol::site_api::CheckRun) -> Failure {
    use gridgate_protocol::site_api::CheckOutcome;
    let mut failed = failure(ErrorKind::Check, "not all site checks passed");
    for result in &run.results {
        if let CheckOutcome::Failed { what, hint } = &result.outcome {
            failed.why.push(format!("{}: {what}", result.title));
            if failed.hint.is_none() {
                failed.hint = Some(hint.clone());
            }
        }
    }
    failed
}

/// Starts one node that is not running.
pub async fn start_node(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    name: &str,
    task: &Arc<Task>,
) -> Result<bool, Failure> {
    let dir = site.dir.node(name);
    if !dir.disk().exists() {
        return Err(failure(ErrorKind::NotFound, format!("{name} has no disk yet"))
            .hint("`gridgate up` makes it"));
    }
    present::check_installed(site, &[name])?;
    let looked = dir.clone();
    if matches!(blocking(move || observe::machine(&looked)).await?, Found::Running(..)) {
        wait_stage(site, wanted, name, "ready", task).await?;
        return Ok(false);
    }
    let node = wanted.node(name);
    let engine = wanted.choice(name)?.engine;
    if let Some(node) = node {
        memory::fits(node, engine).await?;
    }
    services::open(site, wanted, Some(task)).await?;
    let needs = Needs { launches: [engine].into(), images: false, portable: false };
    let vmms = Vmms::gather(site, wanted, needs, Sources::default(), task).await?;
    if let Some(node) = node {
        services::publish_node(site, node, Installed::load(&dir))?;
    }
    boot(site, wanted, name, Arc::new(vmms), task).await?;
    Ok(true)
}

/// The limit of a graceful stop that was asked for.
pub fn limit(seconds: Option<u32>) -> Option<Duration> {
    seconds.map(|s| Duration::from_secs(u64::from(s)))
}
