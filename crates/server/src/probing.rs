//! Trying the VMMs on this host. What is found is kept; see [`crate::verdicts`].
//!
//! A VMM whose packages are not in the depot is not fetched for that, unless it is asked for.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use gridgate_depot::{Depot, Progress};
use gridgate_machine::{Launcher, VmmSpec};
use gridgate_profile::CompiledNode;
use gridgate_protocol::site_api::{ErrorKind, SiteSource};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};

use crate::arrangement::Arrangement;
use crate::choice::{self, Known, Standing};
use crate::failure::{Failure, caused};
use crate::home::Home;
use crate::host::Ground;
use crate::images;
use crate::site::Site;
use crate::task::Task;
use crate::verdicts::{Engine, Finding, Verdict, Verdicts};
use crate::vmms::{Needs, Vmms};
use crate::wait::blocking;
use crate::wanted;

/// Users of probes: below those of nodes, above those of people and services.
const FIRST_UID: u32 = 990_000;

/// How an engine stands after a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It was tried, now or before; with the reason why an earlier verdict counts.
    Tried(Verdict, Option<String>),
    /// The host has not what it needs.
    Lacking(String),
    /// Its packages are not in the depot.
    NotFetched,
    /// It could not be tried; why.
    Untried(Failure),
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Try what has no verdict that counts and is in the depot.
    Usual,
    /// Fetch what is missing, and try everything anew.
    Fresh,
}

/// Looks at every engine, best first.
pub fn look(
    home: &Path,
    mirror: Option<&str>,
    environment: &BTreeMap<String, String>,
    effort: Effort,
    progress: &dyn Progress,
) -> Vec<(Engine, Look)> {
    let home = Home::new(home);
    let ground = Ground::now();
    let mut vmms = at_hand(&home);
    let mut looks = Vec::new();
    for engine in Engine::ALL {
        let look = match choice::lacking(engine, &ground) {
            Some(lack) => Look::Lacking(lack.to_owned()),
            None => one(&home, engine, &ground, &mut vmms, effort, &|needs: &Needs| {
                fetch(&home, mirror, environment, needs, progress)
            })
            .unwrap_or_else(Look::Untried),
        };
        looks.push((engine, look));
    }
    looks
}

/// What `vmm = "auto"` comes to on this host: for a node with one CPU, and for one with several.
pub fn best(home: &Path) -> (Option<Engine>, Option<Engine>) {
    let usable = usable(home);
    let many = usable.iter().copied().find(|engine| *engine != Engine::Uml);
    (usable.first().copied(), many)
}

/// Those that a node can be put on unasked, best first.
pub fn usable(home: &Path) -> Vec<Engine> {
    let verdicts = Verdicts::load(&Home::new(home));
    let known = Known::new(&Ground::now(), &verdicts, Timestamp::now());
    Engine::ALL.into_iter().filter(|engine| known.counted_on(*engine)).collect()
}

/// Before an `up`: tries KVM, if a new node could be put on it, nobody has tried, and the depot has what that needs.
/// Takes seconds, once; what is found is kept.
pub async fn unasked(
    site: &Arc<Site>,
    source: &SiteSource,
    task: &Arc<Task>,
) -> Result<(), Failure> {
    let (home, source) = (site.home.clone(), source.clone());
    let Some(vmms) = blocking(move || worth_trying(&home, source)).await? else { return Ok(()) };
    let stage = task.stage("host", "probe", Engine::Kvm.to_string());
    let home = site.home.clone();
    match blocking(move || try_one(&home, Engine::Kvm, &vmms)).await? {
        Ok(Verdict { finding: Finding::Proven { release, boot_ms }, .. }) => {
            stage.finish(format!("{release} boots in {boot_ms} ms"));
        }
        Ok(Verdict { finding: Finding::Failed { reason }, .. }) => {
            stage.finish(format!("nodes do not get it: {reason}"));
        }
        Err(failed) => return Err(stage.fail(failed)),
    }
    Ok(())
}

/// What KVM can be tried with, if a node waits for that. Blocking.
fn worth_trying(home: &Home, source: SiteSource) -> Option<Vmms> {
    let known = Known::new(&Ground::now(), &Verdicts::load(home), Timestamp::now());
    if !matches!(known.of(Engine::Kvm), Standing::Unproven(_)) || known.counted_on(Engine::Xen) {
        return None;
    }
    // A profile with faults is refused by the `up` itself.
    let wanted = wanted::preview(home, source).ok()?;
    let dir = home.site(&wanted.site.name);
    let open = |node: &CompiledNode| {
        let allowed = choice::allowed(node);
        // A node with a disk stays where it is.
        let new = !dir.node(&node.name).disk().exists();
        new && allowed.len() > 1 && allowed.contains(&Engine::Kvm)
    };
    if !wanted.compiled.nodes.iter().any(open) {
        return None;
    }
    let vmms = at_hand(home);
    vmms.packages(Engine::Kvm).is_some_and(|packages| !packages.is_empty()).then_some(vmms)
}

fn one(
    home: &Home,
    engine: Engine,
    ground: &Ground,
    vmms: &mut Vmms,
    effort: Effort,
    fetch: &dyn Fn(&Needs) -> Result<Vmms, Failure>,
) -> Result<Look, Failure> {
    let now = Timestamp::now();
    if effort == Effort::Usual {
        let packages = vmms.packages(engine).unwrap_or_default();
        let verdicts = Verdicts::load(home);
        if let Ok(verdict) = verdicts.trusted(engine, ground, &packages, now) {
            return Ok(Look::Tried(verdict.clone(), Some(verdict.trust(now))));
        }
        if packages.is_empty() {
            return Ok(Look::NotFetched);
        }
    } else if vmms.packages(engine).is_none() {
        let needs = Needs { launches: [engine].into(), images: false, portable: false };
        *vmms = fetch(&needs)?.or(std::mem::take(vmms));
    }
    try_one(home, engine, vmms).map(|verdict| Look::Tried(verdict, None))
}

/// Tries one engine that is at hand, and keeps the verdict. Blocks for seconds.
///
/// # Errors
/// When it is not at hand, or the verdict cannot be kept.
pub fn try_one(home: &Home, engine: Engine, vmms: &Vmms) -> Result<Verdict, Failure> {
    let fault = |e: &std::io::Error| caused(ErrorKind::Host, "the probe could not be kept", e);
    let vmm = vmms.spec(Arrangement::plain(engine))?;
    let ground = Ground::now();
    let begin = Instant::now();
    let finding = probe(home, engine, &vmm).map_err(|e| fault(&e))?;
    let verdict = Verdict {
        engine,
        finding,
        at: Timestamp::now(),
        millis: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
        ground,
        packages: vmms.packages(engine).unwrap_or_default(),
    };
    Verdicts::keep(home, verdict.clone()).map_err(|e| fault(&e))?;
    Ok(verdict)
}

/// One probe at a time: their users and folders are the same.
fn probe(home: &Home, engine: Engine, vmm: &VmmSpec) -> std::io::Result<Finding> {
    let folder = home.path().join("probe");
    crate::home::private_dir(&folder)?;
    let lock = File::create(folder.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let number = Engine::ALL.iter().position(|known| *known == engine).unwrap_or_default();
    let uid = FIRST_UID + u32::try_from(number).unwrap_or_default();
    let scratch = folder.join(format!("machine-{number}"));
    let probed = gridgate_machine::probe(&Launcher::default(), vmm, &scratch, uid);
    Ok(match probed {
        Ok(probe) => Finding::Proven {
            release: probe.release,
            boot_ms: u64::try_from(probe.boot.as_millis()).unwrap_or(u64::MAX),
        },
        Err(e) => Finding::Failed { reason: e.to_string() },
    })
}

/// What the depot holds of the VMMs that the home's sites have locked.
pub fn at_hand(home: &Home) -> Vmms {
    if !home.depot().is_dir() {
        return Vmms::default();
    }
    let Ok(depot) = Depot::open(&home.depot()) else { return Vmms::default() };
    let sites = fs::read_dir(home.sites()).into_iter().flatten().flatten();
    let names = sites.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.fold(Vmms::default(), |vmms, name| vmms.or(Vmms::present(&depot, &home.site(&name))))
}

fn fetch(
    home: &Home,
    mirror: Option<&str>,
    environment: &BTreeMap<String, String>,
    needs: &Needs,
    progress: &dyn Progress,
) -> Result<Vmms, Failure> {
    let mirrors = images::mirrors(mirror, None, environment)?;
    let depot = images::depot(&home.depot())?;
    Vmms::fetch(&depot, &mirrors, None, needs, progress)
}
