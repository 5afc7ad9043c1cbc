//! Whether the host has the memory for what a plan will start: said before anything is touched.

use gridgate_profile::CompiledNode;
use gridgate_protocol::site_api::{ErrorKind, Plan, PlanAction};

use crate::failure::{Failure, Hint, failure};
use crate::host::memory_for;
use crate::plan;
use crate::verdicts::Engine;
use crate::wait::blocking;
use crate::wanted::Wanted;

/// Refuses a plan whose machines would not fit.
///
/// # Errors
/// The nodes that would be started, what they want and what there is.
pub async fn check(wanted: &Wanted, plan: &Plan) -> Result<(), Failure> {
    let starts = |node: &&CompiledNode| plan::has(plan, &node.name, PlanAction::Start);
    let starting = wanted.compiled.nodes.iter().filter(starts);
    let placed = starting.filter_map(|node| Some((node, wanted.choice(&node.name).ok()?.engine)));
    let (xen, others): (Vec<_>, Vec<_>) = placed.partition(|(_, engine)| *engine == Engine::Xen);
    for group in [xen, others] {
        let Some((_, engine)) = group.first() else { continue };
        let nodes: Vec<_> = group.iter().map(|(node, _)| *node).collect();
        within(&nodes, available(*engine).await?)?;
    }
    Ok(())
}

/// Refuses a machine that would not fit.
///
/// # Errors
/// What it wants and what there is.
pub async fn fits(node: &CompiledNode, engine: Engine) -> Result<(), Failure> {
    within(&[node], available(engine).await?)
}

/// Xen is asked by running a program.
async fn available(engine: Engine) -> Result<Option<u64>, Failure> {
    blocking(move || memory_for(engine)).await
}

/// Refuses machines that would not fit into `available` bytes, if that is known. Guest memory counts in full: a
/// guest that has run for a while has touched all of it.
fn within(starting: &[&CompiledNode], available: Option<u64>) -> Result<(), Failure> {
    let wanted: u64 = starting.iter().map(|node| node.memory).sum();
    let Some(available) = available.filter(|available| *available < wanted) else { return Ok(()) };
    let mut refused = failure(
        ErrorKind::Host,
        format!(
            "not enough memory: {} MiB are wanted, {} MiB are available; nothing was touched",
            wanted >> 20,
            available >> 20
        ),
    );
    refused.why = starting
        .iter()
        .map(|node| format!("{} is to be started with {} MiB", node.name, node.memory >> 20))
        .collect();
    Err(refused
        .hint("give nodes less (`memory`), have fewer of them (`count`), or end other programs"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use gridgate_profile::{Facts, SiteFiles, compile, parse_site};

    use super::*;

    #[test]
    fn too_many_nodes_are_refused_with_what_they_want() {
        let text = "[site]\nname = \"s\"\ndomain = \"s.test\"\n[network]\nprefix = \"198.51.100.0/24\"\n\
                    [nodes.wn]\nrole = \"base\"\ncount = 3\nmemory = \"100 MiB\"\n";
        let files =
            SiteFiles { name: "site.toml".into(), text: text.into(), components: BTreeMap::new() };
        let site = parse_site(&files).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
        let facts = Facts { ca_hash: "00000000".into(), ..Facts::default() };
        let compiled =
            compile(&site, &facts).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
        let nodes: Vec<_> = compiled.nodes.iter().collect();
        assert!(within(&nodes, Some(300 << 20)).is_ok());
        assert!(within(&nodes, None).is_ok());
        let refused = within(&nodes, Some(250 << 20)).unwrap_err();
        assert_eq!(
            refused.what,
            "not enough memory: 300 MiB are wanted, 250 MiB are available; nothing was touched"
        );
        assert_eq!(refused.why[1], "wn2 is to be started with 100 MiB");
    }
}
