//! `depot fill`: all software of a site, fetched and made, and no node touched. The host need not be one on which
//! the nodes can run: what a node's profile names is made ready for the host that it names.

use std::collections::BTreeSet;
use std::sync::Arc;

use gridgate_profile::CompiledNode;
use gridgate_protocol::depot_api::{DepotReport, FillRequest};
use gridgate_protocol::site_api::{ErrorKind, VmmName};

use crate::choice;
use crate::daemon::Daemon;
use crate::failure::{Failure, Hint, caused, failure};
use crate::home::private_dir;
use crate::images::{self, Reporter};
use crate::task::Task;
use crate::verdicts::Engine;
use crate::vmms::{Needs, Vmms};
use crate::wanted::{self, Wanted};

/// Fills the depot and locks the packages. Blocking.
pub fn fill(
    daemon: &Daemon,
    request: FillRequest,
    task: &Arc<Task>,
) -> Result<DepotReport, Failure> {
    let FillRequest { source, vmms, mirror, environment } = request;
    let wanted = wanted::preview(&daemon.home, source)?;
    let name = &wanted.site.name;
    if let Some(busy) = daemon.site(name).ok().and_then(|site| site.task()) {
        let what = format!("{name} is busy with `{}`", busy.name);
        return Err(failure(ErrorKind::Busy, what).hint("again when it has ended"));
    }
    let dir = daemon.home.site(name);
    private_dir(dir.path())
        .map_err(|e| caused(ErrorKind::Host, "the site's folder could not be made", &e))?;
    let depot = images::depot(&daemon.home.depot())?;
    let mirrors = images::mirrors(mirror.as_deref(), wanted.site.mirror.as_deref(), &environment)?;
    let lock = images::lock(&dir)?;
    let engines = engines(&wanted, &vmms);
    let needs = Needs { launches: engines.clone(), images: true, portable: true };
    let vmms = Vmms::fetch(&depot, &mirrors, lock.as_ref(), &needs, &Reporter::new(task.clone()))?;
    let built = images::build(&depot, &mirrors, &dir, &wanted, &vmms, task)?;
    let mut keys = BTreeSet::new();
    for image in built.by_node.values().filter(|image| keys.insert(image.key.clone())) {
        depot.image_pieces(image, &Reporter::new(task.clone())).map_err(|e| {
            caused(ErrorKind::Host, "a role image could not be cut into pieces", &e)
                .hint("what was cut is kept: the same command goes on from there")
        })?;
    }
    daemon.site_or_new(name);
    let words: Vec<_> = engines.iter().map(ToString::to_string).collect();
    Ok(DepotReport {
        summary: format!(
            "site {name}: {} nodes, {} role images, for {}",
            wanted.compiled.nodes.len(),
            keys.len(),
            words.join(", ")
        ),
        next: format!(
            "`gridgate up {}`, or `gridgate depot export FILE --site {name}`",
            wanted.source.path.display()
        ),
        items: Vec::new(),
    })
}

/// What the nodes run on: of what their profile allows, what was asked for; else what it is here or, when they cannot
/// run here, where their profile says.
fn engines(wanted: &Wanted, asked: &[VmmName]) -> BTreeSet<Engine> {
    let of = |node: &CompiledNode| {
        let allowed = choice::allowed(node);
        let asked = allowed.iter().copied().filter(|engine| asked.contains(&engine.names().0));
        let asked: Vec<_> = asked.collect();
        if !asked.is_empty() {
            return asked;
        }
        let here = wanted.choice(&node.name).ok().map(|choice| choice.engine);
        here.or(allowed.first().copied()).into_iter().collect()
    };
    wanted.compiled.nodes.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use gridgate_protocol::site_api::SiteSource;

    /// Of a site with these nodes.
    fn wanted(nodes: &str) -> Wanted {
        let site =
            "[site]\nname = \"s\"\ndomain = \"s.test\"\n[network]\nprefix = \"198.51.100.0/24\"\n";
        let source = SiteSource {
            path: "/site.toml".into(),
            text: format!("{site}{nodes}"),
            components: Default::default(),
        };
        let home = tempfile::tempdir().unwrap();
        wanted::preview(&Home::new(home.path()), source).unwrap()
    }

    #[test]
    fn a_node_that_cannot_run_here_is_made_ready_for_where_it_can() {
        let wanted = wanted(
            "[nodes.a]\nrole = \"base\"\nvmm = \"xen\"\n[nodes.b]\nrole = \"base\"\nvmm = \"uml\"\n",
        );
        assert_eq!(engines(&wanted, &[]), [Engine::Xen, Engine::Uml].into());
    }

    #[test]
    fn a_node_whose_profile_leaves_it_open_is_made_ready_for_what_was_asked() {
        let wanted =
            wanted("[nodes.a]\nrole = \"base\"\n[nodes.b]\nrole = \"base\"\nvmm = \"uml\"\n");
        assert_eq!(engines(&wanted, &[VmmName::Xen]), [Engine::Xen, Engine::Uml].into());
        let both = [VmmName::Xen, VmmName::Qemu];
        let all = [Engine::Xen, Engine::Kvm, Engine::Tcg, Engine::Uml];
        assert_eq!(engines(&wanted, &both), all.into());
    }
}
