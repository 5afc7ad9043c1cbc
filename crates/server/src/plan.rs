//! What has to be done to bring a site to its profile: a pure comparison of what is with what should be.

use std::collections::BTreeMap;

use gridgate_profile::CompiledNode;
use gridgate_protocol::site_api::{Plan, PlanAction, PlanStep};

/// What is known of a node on this host.
#[derive(Clone, Debug, Default)]
pub struct Present {
    /// Size of its disk, bytes; none without a disk.
    pub disk: Option<u64>,
    /// Whether its machine runs.
    pub running: bool,
    /// Whether its package set is the one it was told to have.
    pub packages_fit: bool,
    /// Why its packages are updated, in words: other versions are locked, or an update was interrupted.
    pub update: Option<String>,
    /// Version last published to it.
    pub published: Option<String>,
    /// What its machine was started with.
    pub memory: Option<u64>,
    /// What it is to run on, in words; none when nothing here can run it.
    pub on: Option<String>,
    /// What of its machine would be another one now, in words: tap, addresses, VMM, security.
    pub differs: Option<String>,
}

/// What is known of a site on this host.
#[derive(Clone, Debug, Default)]
pub struct PresentSite {
    /// Whether the network is there and the install server listens.
    pub network: bool,
    /// By node name; also nodes that are no longer in the profile.
    pub nodes: BTreeMap<String, Present>,
    /// Whether the published ports are as wanted.
    pub ports: bool,
}

/// The steps that are needed. Empty: nothing to do.
pub fn plan(nodes: &[CompiledNode], present: &PresentSite) -> Plan {
    let mut steps = Vec::new();
    let step =
        |node: &str, action, reason: String| PlanStep { node: node.to_owned(), action, reason };
    if !present.network {
        steps.push(step("", PlanAction::Network, "the site's network is not there".into()));
    }
    for node in nodes {
        let absent = Present::default();
        let is = present.nodes.get(&node.name).unwrap_or(&absent);
        node_steps(node, is, &mut |action, reason| steps.push(step(&node.name, action, reason)));
    }
    for (name, is) in &present.nodes {
        if is.running && !nodes.iter().any(|node| node.name == *name) {
            steps.push(step(
                name,
                PlanAction::Remove,
                "no longer in the profile; its disk is kept".into(),
            ));
        }
    }
    if !present.ports {
        steps.push(step("", PlanAction::Publish, "published ports differ".into()));
    }
    Plan { steps }
}

fn node_steps(node: &CompiledNode, is: &Present, add: &mut dyn FnMut(PlanAction, String)) {
    let version = node.profile.version();
    let on = |why: &str| match &is.on {
        Some(on) => format!("{why}; on {on}"),
        None => why.to_owned(),
    };
    let Some(disk) = is.disk else {
        add(PlanAction::Image, format!("{} packages wanted by name", node.packages.len()));
        add(PlanAction::CreateDisk, format!("no disk; {} MiB", node.disk >> 20));
        add(PlanAction::Start, on("new disk"));
        return;
    };
    if !is.packages_fit {
        add(PlanAction::Image, "other packages are wanted".into());
    }
    if let Some(update) = &is.update {
        // It ends with the machine started anew, on a grown disk, with the new profile.
        if is.packages_fit {
            add(PlanAction::Image, "other versions are locked".into());
        }
        if disk < node.disk {
            add(PlanAction::GrowDisk, format!("{} MiB → {} MiB", disk >> 20, node.disk >> 20));
        }
        add(PlanAction::Update, update.clone());
        return;
    }
    if disk < node.disk {
        add(PlanAction::GrowDisk, format!("{} MiB → {} MiB", disk >> 20, node.disk >> 20));
    }
    if is.published.as_deref() != Some(&version) {
        let from = is.published.as_deref().unwrap_or("none");
        add(PlanAction::Apply, format!("profile {from} → {version}"));
    } else if !is.packages_fit {
        add(PlanAction::Apply, "other packages are wanted".into());
    }
    if !is.running {
        add(PlanAction::Start, on("not running"));
        return;
    }
    match (is.memory, &is.differs) {
        (Some(memory), _) if memory != node.memory => add(
            PlanAction::Restart,
            format!("memory {} MiB → {} MiB", memory >> 20, node.memory >> 20),
        ),
        (_, Some(differs)) => add(PlanAction::Restart, differs.clone()),
        _ if disk < node.disk => add(PlanAction::Restart, "to see the grown disk".into()),
        _ => {}
    }
}

/// Whether a plan has this action for this node.
pub fn has(plan: &Plan, node: &str, action: PlanAction) -> bool {
    plan.steps.iter().any(|step| step.node == node && step.action == action)
}

#[cfg(test)]
mod tests;
