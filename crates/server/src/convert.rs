//! `convert`: moves a node to another VMM with its disk as it is.
//!
//! ```text
//! target known to work ─> its kernel and VMM fetched ─> old machine stopped ─> move recorded ─> new machine ─> healthy
//! (nothing of the node is touched before)
//! ```
//!
//! The record stands in the node's folder, so that a later `up` keeps the node there. Where the profile itself names
//! a VMM, the profile decides: the move is refused with the line to change, or the profile is changed, as asked.

use std::sync::Arc;

use gridgate_profile::{CompiledNode, EditError, set_vmm};
use gridgate_protocol::site_api::{
    AcceleratorName, ConvertRequest, ErrorKind, SiteSource, VmmName,
};
use jiff::Timestamp;

use crate::choice::{self, Before, Known, Moved, Standing};
use crate::failure::{Failure, Hint, caused, failure};
use crate::home::write_atomic;
use crate::host::Ground;
use crate::images::Installed;
use crate::observe::{self, Found};
use crate::site::Site;
use crate::task::Task;
use crate::verdicts::{Engine, Verdicts};
use crate::vmms::{Needs, Sources, Vmms};
use crate::wait::blocking;
use crate::wanted::{self, Wanted};
use crate::{memory, services, stop, up};

/// Moves a node. Says whether anything was changed.
pub async fn run(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    name: &str,
    request: ConvertRequest,
    task: &Arc<Task>,
) -> Result<bool, Failure> {
    let node =
        wanted.node(name).ok_or_else(|| failure(ErrorKind::NotFound, format!("no node {name}")))?;
    if !site.dir.node(name).disk().exists() {
        return Err(failure(ErrorKind::NotFound, format!("{name} has no disk yet"))
            .hint("`gridgate up` makes it"));
    }
    let known = Known::new(&Ground::now(), &Verdicts::load(&site.home), Timestamp::now());
    let engine = target(node, &request, &known)?;
    let source = new_source(wanted, node, engine, &request)?;

    let dir = site.dir.node(name);
    let looked = dir.clone();
    let found = blocking(move || observe::machine(&looked)).await?;
    let running = matches!(found, Found::Running(..));
    // What it gives back where it is now is of no use to it on or off Xen.
    let on_xen = wanted.choice(name).is_ok_and(|choice| choice.engine == Engine::Xen);
    if !running || on_xen != (engine == Engine::Xen) {
        memory::fits(node, engine).await?;
    }
    let sources = Sources { mirror: request.mirror, environment: request.environment };
    let needs = Needs { launches: [engine].into(), images: false, portable: false };
    let vmms = Vmms::gather(site, wanted, needs, sources, task).await?;

    let stays = running && wanted.choice(name).is_ok_and(|choice| choice.engine == engine);
    if !stays {
        stop::node(site, name, up::limit(request.limit_s), task).await?;
    }
    let moved = record(site, name, engine, source).await?;
    if stays {
        return Ok(false);
    }
    services::open(site, &moved, Some(task)).await?;
    if let Some(node) = moved.node(name) {
        services::publish_node(site, node, Installed::load(&dir))?;
    }
    up::boot(site, &moved, name, Arc::new(vmms), task).await.map_err(|failure| {
        let old = wanted.choice(name).map_or("uml", |choice| choice.engine.vmm());
        failure.hint(format!(
            "its disk is as it was: `gridgate convert {name} --vmm {old}` moves it back"
        ))
    })?;
    Ok(true)
}

/// The engine that is asked for, if it can run this node here.
fn target(node: &CompiledNode, request: &ConvertRequest, known: &Known) -> Result<Engine, Failure> {
    let refused = |kind, why: String| {
        let mut refused = failure(kind, format!("{} stays where it is", node.name));
        refused.why.push(why);
        refused
    };
    let engine = match (request.vmm, request.accelerator) {
        (VmmName::Auto, _) => {
            let choice = choice::choose(node, Before::default(), known);
            choice.map_err(|why| refused(ErrorKind::Host, why))?.engine
        }
        (VmmName::Uml, _) => Engine::Uml,
        (VmmName::Xen, _) => Engine::Xen,
        (VmmName::Qemu, Some(AcceleratorName::Kvm)) => Engine::Kvm,
        (VmmName::Qemu, Some(AcceleratorName::Tcg)) => Engine::Tcg,
        (VmmName::Qemu, _) if *known.of(Engine::Kvm) == Standing::Proven => Engine::Kvm,
        (VmmName::Qemu, _) => Engine::Tcg,
    };
    if engine == Engine::Uml && node.cpus > 1 {
        let why = format!("a User-Mode-Linux machine has one CPU, and it has {}", node.cpus);
        return Err(refused(ErrorKind::Input, why));
    }
    if let Standing::Broken(why) = known.of(engine) {
        return Err(refused(ErrorKind::Host, format!("{engine}: {why}"))
            .hint("`gridgate doctor --fresh` tries it again"));
    }
    Ok(engine)
}

/// The profile with the VMM named in it, when that is asked for; none when the profile leaves the VMM open.
fn new_source(
    wanted: &Wanted,
    node: &CompiledNode,
    engine: Engine,
    request: &ConvertRequest,
) -> Result<Option<SiteSource>, Failure> {
    let vmm = request.vmm.word();
    if !request.write {
        if choice::allowed(node).contains(&engine) {
            return Ok(None);
        }
        let mut refused = failure(
            ErrorKind::Input,
            format!("the profile decides about {}, and names another VMM", node.name),
        );
        let named = wanted.site.node(&node.name).and_then(|node| node.vmm_named());
        if let Some((field, place)) = named {
            refused.why.push(format!("{field} stands at {place}"));
        }
        return Err(refused.hint(format!(
            "--write puts vmm = \"{vmm}\" into [nodes.{}]; or change it there and give `gridgate up`",
            node.name
        )));
    }
    let text = set_vmm(
        &wanted.source.text,
        &node.name,
        vmm,
        request.accelerator.map(|accelerator| accelerator.word()),
    );
    let text = text.map_err(|e| {
        let hint = match &e {
            EditError::Counted { entry, .. } => {
                format!("write vmm = \"{vmm}\" into [nodes.{entry}], for all of them")
            }
            _ => "change the profile by hand, then `gridgate up`".to_owned(),
        };
        caused(ErrorKind::Input, "the profile cannot name this node's VMM", &e).hint(hint)
    })?;
    let source = SiteSource { text, ..wanted.source.clone() };
    wanted::check(&source)?;
    Ok(Some(source))
}

/// Keeps the move, and makes the site want it.
async fn record(
    site: &Arc<Site>,
    name: &str,
    engine: Engine,
    source: Option<SiteSource>,
) -> Result<Arc<Wanted>, Failure> {
    let (site, name) = (site.clone(), name.to_owned());
    blocking(move || {
        let source = match source {
            Some(source) => {
                wanted::store(&site.dir, &source)?;
                source
            }
            None => match site.wanted() {
                Some(wanted) => wanted.source.clone(),
                None => return Err(failure(ErrorKind::Internal, "the site is gone")),
            },
        };
        let json = serde_json::to_vec(&Moved { engine, at: Timestamp::now() });
        json.map_err(std::io::Error::other)
            .and_then(|json| write_atomic(&site.dir.node(&name).moved(), &json))
            .map_err(|e| caused(ErrorKind::Host, "the move could not be recorded", &e))?;
        let (wanted, ca) = wanted::compile(&site.home, source)?;
        Ok(site.set_wanted(wanted, ca))
    })
    .await?
}
