//! What every role image gets beside its Debian packages: the agent's unit and seed script, and the
//! trim that its nodes' profiles have in common, so that the first boot is as lean as the later ones.

use std::collections::BTreeSet;

use gridgate_agent::image;
use gridgate_depot::{Overlay, OverlayFile, OverlayLink};
use gridgate_profile::CompiledNode;
use gridgate_protocol::node_profile::UnitState;

/// The overlay for an image that these nodes share.
pub fn of(nodes: &[&CompiledNode]) -> Overlay {
    let mut files = vec![
        file(image::SEED_SCRIPT_PATH, 0o755, image::SEED_SCRIPT),
        file(image::AGENT_UNIT_PATH, 0o644, image::AGENT_UNIT),
    ];
    let packages: String = nodes
        .iter()
        .flat_map(|node| &node.packages)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|name| format!("{name}\n"))
        .collect();
    files.push(file(image::PACKAGES_MANIFEST_PATH, 0o644, &packages));
    Overlay {
        files,
        masked_units: common_masks(nodes),
        enabled_units: Vec::new(),
        links: image::ENABLE_LINKS
            .iter()
            .map(|(path, target)| OverlayLink { path: (*path).into(), target: (*target).into() })
            .chain(common_links(nodes))
            .collect(),
    }
}

/// Links that all of these nodes' profiles have: masked generators, what ctrl-alt-del does.
fn common_links(nodes: &[&CompiledNode]) -> impl Iterator<Item = OverlayLink> {
    let (first, others) = nodes
        .split_first()
        .map_or((&[][..], &[][..]), |(first, others)| (first.profile.links.as_slice(), others));
    let everywhere = first.iter().filter(|link| {
        others.iter().all(|node| {
            node.profile.links.iter().any(|l| l.path == link.path && l.target == link.target)
        })
    });
    everywhere.map(|link| OverlayLink { path: link.path.clone(), target: link.target.clone() })
}

fn file(path: &str, mode: u32, text: &str) -> OverlayFile {
    OverlayFile { path: path.into(), mode, content: text.as_bytes().to_vec() }
}

/// Units that all of these nodes' profiles mask.
fn common_masks(nodes: &[&CompiledNode]) -> Vec<String> {
    let masks = |node: &CompiledNode| -> BTreeSet<String> {
        let units = node.profile.units.iter();
        units.filter(|unit| unit.state == UnitState::Masked).map(|unit| unit.name.clone()).collect()
    };
    let mut sets = nodes.iter().map(|node| masks(node));
    let first = sets.next().unwrap_or_default();
    sets.fold(first, |common, set| common.intersection(&set).cloned().collect())
        .into_iter()
        .collect()
}
