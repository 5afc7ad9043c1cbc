//! Plans from a compiled example and made-up observations.

use std::collections::BTreeMap;

use gridgate_profile::{CompiledNode, Facts, SiteFiles, compile, parse_site};
use gridgate_protocol::site_api::{Plan, PlanAction};

use super::{Present, PresentSite, plan};

const PROFILE: &str = r#"
[site]
name = "dublin"
domain = "dublin.test"
[network]
prefix = "198.51.100.0/24"
[users.alice]
full_name = "Alice Example"
[nodes.se]
role = "se"
[nodes.ui]
role = "ui"
"#;

fn nodes(profile: &str) -> Vec<CompiledNode> {
    let files =
        SiteFiles { name: "site.toml".into(), text: profile.into(), components: BTreeMap::new() };
    let site = parse_site(&files).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    let facts =
        Facts { ca_certificate: "pem".into(), ca_hash: "00000000".into(), admin_keys: Vec::new() };
    compile(&site, &facts).unwrap_or_else(|faults| panic!("{}", faults.render(false))).nodes
}

/// A site as it is when these nodes run.
fn running(nodes: &[CompiledNode]) -> PresentSite {
    let present = |node: &CompiledNode| Present {
        disk: Some(node.disk),
        running: true,
        packages_fit: true,
        update: None,
        published: Some(node.profile.version()),
        memory: Some(node.memory),
        on: None,
        differs: None,
    };
    let nodes = nodes.iter().map(|node| (node.name.clone(), present(node))).collect();
    PresentSite { network: true, nodes, ports: true }
}

fn actions(plan: &Plan) -> Vec<(&str, PlanAction)> {
    plan.steps.iter().map(|step| (step.node.as_str(), step.action)).collect()
}

#[test]
fn a_running_site_needs_nothing() {
    let nodes = nodes(PROFILE);
    assert_eq!(actions(&plan(&nodes, &running(&nodes))), []);
}

#[test]
fn an_empty_home_needs_everything() {
    use PlanAction::{CreateDisk, Image, Network, Publish, Start};
    let nodes = nodes(PROFILE);
    let wanted = [
        ("", Network),
        ("se", Image),
        ("se", CreateDisk),
        ("se", Start),
        ("ui", Image),
        ("ui", CreateDisk),
        ("ui", Start),
        ("", Publish),
    ];
    assert_eq!(actions(&plan(&nodes, &PresentSite::default())), wanted);
}

#[test]
fn a_changed_file_is_applied_and_nothing_else() {
    let before = running(&nodes(PROFILE));
    let more = format!("{PROFILE}\n[[nodes.ui.files]]\npath = \"/etc/motd\"\ncontent = \"hi\"\n");
    assert_eq!(actions(&plan(&nodes(&more), &before)), [("ui", PlanAction::Apply)]);
}

#[test]
fn more_packages_need_an_image_and_are_applied_in_the_running_node() {
    let mut before = running(&nodes(PROFILE));
    before.nodes.get_mut("ui").expect("ui").packages_fit = false;
    let more = PROFILE.replace("role = \"ui\"", "role = \"ui\"\npackages = [\"tree\"]");
    let steps = plan(&nodes(&more), &before);
    assert_eq!(actions(&steps), [("ui", PlanAction::Image), ("ui", PlanAction::Apply)]);
}

#[test]
fn memory_restarts_only_its_node_and_says_why() {
    let before = running(&nodes(PROFILE));
    let more = PROFILE.replace("role = \"se\"", "role = \"se\"\nmemory = \"256 MiB\"");
    let steps = plan(&nodes(&more), &before).steps;
    let restarts: Vec<_> = steps.iter().filter(|s| s.action == PlanAction::Restart).collect();
    assert_eq!(restarts.len(), 1);
    assert_eq!(
        (restarts[0].node.as_str(), restarts[0].reason.as_str()),
        ("se", "memory 200 MiB → 256 MiB")
    );
}

#[test]
fn a_larger_disk_is_grown_with_a_restart() {
    let before = running(&nodes(PROFILE));
    let more = PROFILE.replace("role = \"se\"", "role = \"se\"\ndisk = \"20 GiB\"");
    let wanted = [("se", PlanAction::GrowDisk), ("se", PlanAction::Restart)];
    assert_eq!(actions(&plan(&nodes(&more), &before)), wanted);
}

#[test]
fn a_node_gone_from_the_profile_is_stopped_and_one_that_stopped_is_started() {
    let all = nodes(PROFILE);
    let mut before = running(&all);
    before.nodes.get_mut("ui").expect("ui").running = false;
    assert_eq!(actions(&plan(&all, &before)), [("ui", PlanAction::Start)]);
    let less = PROFILE.replace("[nodes.se]\nrole = \"se\"\n", "");
    let steps = plan(&nodes(&less), &running(&all));
    assert!(actions(&steps).contains(&("se", PlanAction::Remove)), "{steps:?}");
}
