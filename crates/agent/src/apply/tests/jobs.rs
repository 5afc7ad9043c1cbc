//! What systemd has queued for a unit: what a look, a step and who asked to put something back make of it.

use super::*;
use crate::system::UnitStatus;

const SWAP: &str = "dev-swap.swap";

/// A node whose profile wants `name` in this state, applied.
fn node_with(name: &str, state: UnitState) -> (Node, NodeProfile) {
    let mut node = Node::new();
    let mut profile = empty();
    profile.units = vec![unit(name, state, &[])];
    node.unit_file(name);
    node.apply(&profile);
    node.machine.calls();
    (node, profile)
}

/// What a look says of the unit's state.
fn seen(node: &Node, profile: &NodeProfile) -> Option<String> {
    let report = node.look(profile, None);
    report.drifts.first().and_then(|drift| drift.differences[0].found.clone())
}

#[test]
fn a_unit_between_the_halves_of_a_restart_does_not_differ() {
    let (node, profile) = node_with(SWAP, UnitState::Running);
    for (state, job, found) in [
        ("deactivating", "restart", None),
        ("inactive", "start", None),
        ("active", "stop", Some("active, stop queued")),
        ("failed", "verify-active", Some("failed, verify-active queued")),
    ] {
        node.machine.set_job(SWAP, state, job);
        assert_eq!(seen(&node, &profile).as_deref(), found, "{state} with job {job}");
    }
    node.machine.set_state(SWAP, "inactive");
    assert_eq!(seen(&node, &profile).as_deref(), Some("inactive"));

    let (node, profile) = node_with("getty@tty1.service", UnitState::Masked);
    node.machine.set_job("getty@tty1.service", "inactive", "start");
    assert_eq!(seen(&node, &profile).as_deref(), Some("inactive, start queued"));
    node.machine.set_job("getty@tty1.service", "active", "stop");
    assert_eq!(seen(&node, &profile), None);
}

#[test]
fn what_is_about_to_stop_is_started_and_what_is_about_to_start_is_stopped() {
    let (mut node, profile) = node_with("slurmd.service", UnitState::Running);
    node.machine.set_job("slurmd.service", "active", "stop");
    node.apply(&profile);
    assert_eq!(node.machine.calls(), ["systemctl start --no-block slurmd.service"]);

    let (mut node, profile) = node_with("getty@tty1.service", UnitState::Masked);
    node.machine.set_job("getty@tty1.service", "inactive", "start");
    node.apply(&profile);
    assert_eq!(node.machine.calls(), ["systemctl stop --no-block getty@tty1.service"]);
}

#[test]
fn putting_back_tells_what_came_of_it() {
    let (mut node, profile) = node_with("slurmd.service", UnitState::Running);
    let put_back = |node: &mut Node| {
        let outcome = node.apply_for(&profile, Moment::Running, Intent::PutBack, None);
        let failures = failures(&outcome);
        (outcome.resources.len(), failures)
    };
    assert_eq!(put_back(&mut node), (1, Vec::new()), "it came up");

    node.machine.end_in("slurmd.service", UnitStatus::new("failed"));
    let (changed, failed) = put_back(&mut node);
    assert_eq!(changed, 1);
    assert!(failed[0].contains("slurmd.service") && failed[0].contains("now it is failed"));

    let late = UnitStatus { job: Some("start".into()), ..UnitStatus::new("activating") };
    node.machine.end_in("slurmd.service", late);
    assert_eq!(put_back(&mut node), (1, Vec::new()), "what takes longer has not failed");
}

#[test]
fn an_application_waits_for_no_job() {
    let (mut node, profile) = node_with("slurmd.service", UnitState::Running);
    node.machine.end_in("slurmd.service", UnitStatus::new("failed"));
    assert_eq!(failures(&node.apply(&profile)), Vec::<String>::new());
}
