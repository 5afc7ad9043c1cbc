//! What every role image gets beside its Debian packages: the agent's unit and seed script, and the
//! trim that its nodes' profiles have in common, so that the first boot is as lean as the later ones.

use std::collections::BTreeSet;

use gridgate_agent::image;
use gridgate_depot::{Overlay, OverlayFile, OverlayLink};
use gridgate_profile::CompiledNode;
use gridgate_protocol::node_profile::{Content, UnitState};

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
    files.extend(common_files(nodes));
    Overlay {
        files,
        masked_units: common_masks(nodes),
        enabled_units: common_wants(nodes),
        links: image::ENABLE_LINKS
            .iter()
            .map(|(path, target)| OverlayLink { path: (*path).into(), target: (*target).into() })
            .chain(common_links(nodes))
            .collect(),
    }
}

/// Whether a unit mounts a data partition. The agent makes its file system at the first boot: until it brings the unit as
/// well, systemd would try to mount what is not there yet, and call it failed.
fn mounts_data(nodes: &[&CompiledNode], unit: &str) -> bool {
    nodes.iter().flat_map(|node| &node.data).any(|data| data.mount_unit() == unit)
}

/// What systemd reads before the agent runs, where all of these nodes' profiles agree: with it in the
/// image the first boot is as lean as the later ones, and the agent has nothing to make systemd reread.
fn common_files(nodes: &[&CompiledNode]) -> impl Iterator<Item = OverlayFile> {
    let late = move |path: &str| {
        let unit = path.strip_prefix("/etc/systemd/system/");
        unit.is_some_and(|unit| mounts_data(nodes, unit))
    };
    let early =
        move |path: &str| path == "/etc/fstab" || path.starts_with("/etc/systemd/") && !late(path);
    let (first, others) = first_and_others(nodes);
    let files = first.map(|node| node.profile.files.as_slice()).unwrap_or_default();
    files.iter().filter_map(move |file| {
        let Content::Text(text) = &file.content else { return None };
        let plain = file.owner == "root" && file.group == "root" && early(&file.path);
        let same = others.iter().all(|node| {
            node.profile
                .files
                .iter()
                .any(|f| (&f.path, &f.content, f.mode) == (&file.path, &file.content, file.mode))
        });
        (plain && same).then(|| self::file(&file.path, file.mode, text))
    })
}

/// Units that all of these nodes start at boot, with the folder that makes systemd start them: what the
/// unit's own file says where the profile brings it, else where Debian's services are wanted.
fn common_wants(nodes: &[&CompiledNode]) -> Vec<(String, String)> {
    let (first, others) = first_and_others(nodes);
    let Some(first) = first else { return Vec::new() };
    let starts = |node: &CompiledNode, name: &str| {
        let units = &node.profile.units;
        units.iter().any(|unit| {
            unit.name == name && matches!(unit.state, UnitState::Running | UnitState::Enabled)
        })
    };
    let names = first.profile.units.iter().map(|unit| unit.name.as_str());
    names
        .filter(|name| starts(first, name) && others.iter().all(|node| starts(node, name)))
        .filter(|name| !mounts_data(nodes, name))
        .filter_map(|name| Some((name.to_owned(), format!("{}.wants", wanted_by(first, name)?))))
        .collect()
}

fn wanted_by(node: &CompiledNode, unit: &str) -> Option<String> {
    let path = format!("/etc/systemd/system/{unit}");
    let Some(file) = node.profile.files.iter().find(|file| file.path == path) else {
        return unit.ends_with(".service").then(|| "multi-user.target".to_owned());
    };
    let Content::Text(text) = &file.content else { return None };
    let target = text.lines().find_map(|line| line.trim().strip_prefix("WantedBy="))?;
    target.split_whitespace().next().map(str::to_owned)
}

fn first_and_others<'a>(
    nodes: &'a [&'a CompiledNode],
) -> (Option<&'a CompiledNode>, &'a [&'a CompiledNode]) {
    match nodes.split_first() {
        Some((first, others)) => (Some(first), others),
        None => (None, &[]),
    }
}

/// Links that all of these nodes' profiles have: masked generators, what ctrl-alt-del does.
fn common_links(nodes: &[&CompiledNode]) -> impl Iterator<Item = OverlayLink> {
    let (first, others) = first_and_others(nodes);
    let links = first.map(|node| node.profile.links.as_slice()).unwrap_or_default();
    let everywhere = links.iter().filter(move |link| {
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
