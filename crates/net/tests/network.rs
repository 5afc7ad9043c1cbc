//! Networks as the kernel makes them: complete, idempotent, corrected, removed. Needs root.

mod support;

use std::process::Command;

use gridgate_net::{
    Card, Change, NetError, ensure, enter_in_child, exists, in_namespace, make_ready, remove, usage,
};
use support::node::Node;
use support::{Network, port};

fn made(tap: &str, node: &str) -> Change {
    Change::TapMade { tap: tap.into(), node: node.into() }
}

#[tokio::test]
async fn a_network_is_made_once_and_then_left_alone() {
    let network = Network::of(2);
    let changes = ensure(&network.0).await.unwrap();
    assert_eq!(
        changes.made,
        [
            Change::NamespaceMade,
            Change::LoopbackUp,
            Change::BridgeMade,
            Change::AddressSet,
            made("tap-n1", "n1"),
            made("tap-n2", "n2"),
        ]
    );
    assert_eq!(changes.warnings, []);
    assert_eq!(ensure(&network.0).await.unwrap(), Default::default());
}

#[tokio::test]
async fn a_changed_plan_changes_only_what_it_must() {
    let mut network = Network::of(3);
    ensure(&network.0).await.unwrap();
    // n1 goes, n2 gets another address, n3 another owner, n4 comes, the server moves.
    network.0.ports.remove(0);
    network.0.ports[0].address = [198, 51, 100, 99].into();
    network.0.ports[0].mac = "02:00:00:00:00:99".into();
    network.0.ports[1].owner_uid += 100;
    network.0.ports.push(port(4));
    network.0.address = [198, 51, 100, 2].into();
    let changes = ensure(&network.0).await.unwrap();
    let corrected =
        |tap: &str, node: &str| Change::TapCorrected { tap: tap.into(), node: node.into() };
    assert_eq!(
        changes.made,
        [
            Change::BridgeCorrected,
            Change::AddressSet,
            Change::TapRemoved { tap: "tap-n1".into() },
            corrected("tap-n2", "n2"),
            corrected("tap-n3", "n3"),
            made("tap-n4", "n4"),
        ]
    );
    assert_eq!(ensure(&network.0).await.unwrap(), Default::default());
}

#[tokio::test]
async fn damage_is_repaired_even_while_a_node_holds_its_tap() {
    let network = Network::of(1);
    ensure(&network.0).await.unwrap();
    let _node = Node::open(&network.path(), &network.0.ports[0]);
    for damage in [
        "link set tap-n1 down",
        "link set tap-n1 nomaster",
        "link set tap-n1 type bridge_slave learning on",
        "link set site0 down",
        "address add 198.51.100.77/24 dev site0",
        "address del 198.51.100.1/24 dev site0",
    ] {
        let words = ["-n", &network.0.namespace].into_iter().chain(damage.split(' '));
        let status = Command::new("ip").args(words).status().unwrap();
        assert!(status.success(), "{damage}");
        let changes = ensure(&network.0).await.unwrap();
        assert!(!changes.made.is_empty(), "{damage}");
        assert_eq!(ensure(&network.0).await.unwrap(), Default::default(), "{damage}");
    }
}

/// A machine's own interface, as a VMM makes it: here one end of a pair.
#[tokio::test]
async fn a_card_that_the_vmm_makes_is_guarded() {
    let network = Network::of(2);
    ensure(&network.0).await.unwrap();
    let run = |program: &str, arguments: &str| {
        let words = ["-n", &network.0.namespace].into_iter().chain(arguments.split(' '));
        assert!(Command::new(program).args(words).status().unwrap().success(), "{arguments}");
    };
    let exists = |name: &str| {
        let words = ["-n", &network.0.namespace, "link", "show", name];
        Command::new("ip").args(words).output().unwrap().status.success()
    };
    let mut plan = network.0.clone();
    plan.ports[0].card = Card::Vmm;
    // Its machine may still run with the tap: only a start takes that away.
    assert_eq!(ensure(&plan).await.unwrap(), Default::default());
    assert!(exists("tap-n1"));
    make_ready(&plan, "n1").await.unwrap();
    assert!(!exists("tap-n1"));
    assert_eq!(ensure(&plan).await.unwrap(), Default::default());
    assert!(!exists("tap-n1"));

    run("ip", "link add tap-n1 type veth peer name guest");
    let guarded = Change::CardGuarded { card: "tap-n1".into(), node: "n1".into() };
    assert_eq!(ensure(&plan).await.unwrap().made, [guarded]);
    assert_eq!(ensure(&plan).await.unwrap(), Default::default());
    // What a VMM's script says to tc is what stands here.
    run("tc", "qdisc del dev tap-n1 ingress");
    run("tc", "qdisc add dev tap-n1 ingress");
    let filter = plan.ports[0].filter().unwrap();
    let words = "filter add dev tap-n1 ingress protocol all prio 1 handle 1 bpf da bytecode";
    let words = ["-n", &plan.namespace].into_iter().chain(words.split(' ')).chain([&*filter]);
    assert!(Command::new("tc").args(words).status().unwrap().success());
    assert_eq!(ensure(&plan).await.unwrap(), Default::default());

    // Back to a tap: not while the machine runs.
    assert_eq!(ensure(&network.0).await.unwrap(), Default::default());
    let error = make_ready(&network.0, "n1").await.unwrap_err().to_string();
    assert!(error.contains("tap-n1") && error.contains("earlier machine"), "{error}");
    run("ip", "link del tap-n1");
    make_ready(&network.0, "n1").await.unwrap();
    assert!(exists("tap-n1"));
    assert_eq!(ensure(&network.0).await.unwrap(), Default::default());
}

#[tokio::test]
async fn a_removed_network_leaves_nothing() {
    let network = Network::of(1);
    ensure(&network.0).await.unwrap();
    assert!(exists(&network.0.namespace));
    assert!(remove(&network.0.namespace).await.unwrap());
    assert!(!exists(&network.0.namespace) && !network.path().exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&network.0.namespace));
    assert!(!remove(&network.0.namespace).await.unwrap(), "there is none any more");
    let error = usage(&network.0.namespace, "tap-n1").await.unwrap_err();
    assert!(matches!(error, NetError::NoNamespace { .. }), "{error}");
}

#[tokio::test]
async fn a_file_left_by_an_interrupted_start_is_taken_over() {
    let network = Network::of(1);
    let other = Network::of(0);
    ensure(&other.0).await.unwrap();
    std::fs::write(network.path(), "").unwrap();
    assert!(!exists(&network.0.namespace));
    ensure(&network.0).await.unwrap();
    assert!(exists(&network.0.namespace));
}

#[tokio::test]
async fn the_usual_tools_find_the_network_and_its_tap_owner() {
    let network = Network::of(1);
    ensure(&network.0).await.unwrap();
    let list = Command::new("ip").args(["netns", "list"]).output().unwrap();
    assert!(String::from_utf8_lossy(&list.stdout).contains(&network.0.namespace));
    let arguments = ["-n", &network.0.namespace, "-d", "link", "show", "tap-n1"];
    let link = Command::new("ip").args(arguments).output().unwrap();
    let link = String::from_utf8_lossy(&link.stdout).into_owned();
    for part in ["master site0", "user 65001", "persist on", "learning off", "locked on"] {
        assert!(link.contains(part), "{part}: {link}");
    }
    let arguments = ["-n", &network.0.namespace, "-6", "address"];
    let addresses = Command::new("ip").args(arguments).output().unwrap();
    assert!(addresses.stdout.is_empty(), "{}", String::from_utf8_lossy(&addresses.stdout));
}

#[tokio::test]
async fn only_the_thread_or_child_that_enters_is_inside() {
    let network = Network::of(0);
    ensure(&network.0).await.unwrap();
    let mine = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let outside = mine();
    let inside = in_namespace(&network.path(), mine).unwrap();
    assert_ne!(inside, outside);
    assert_eq!(mine(), outside);

    let mut command = Command::new("readlink");
    command.arg("/proc/self/ns/net");
    enter_in_child(&mut command, &network.path()).unwrap();
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), inside.to_str().unwrap());

    let error = in_namespace(std::path::Path::new("/run/netns/ggt-none"), || ()).unwrap_err();
    assert!(matches!(error, NetError::NoNamespace { .. }), "{error}");
    let error = in_namespace(std::path::Path::new("/etc/passwd"), || ()).unwrap_err();
    assert!(matches!(error, NetError::NoNamespace { .. }), "{error}");
}

#[tokio::test]
async fn a_plan_with_faults_names_all_of_them_and_makes_nothing() {
    let mut network = Network::of(2);
    network.0.ports[0].tap = "a-name-of-16-byt".into();
    network.0.ports[0].mac = "03:00:00:00:00:01".into();
    network.0.ports[1].address = [192, 0, 2, 1].into();
    network.0.bridge = String::new();
    let NetError::Plan { faults, .. } = ensure(&network.0).await.unwrap_err() else { panic!() };
    assert_eq!(faults.len(), 4, "{faults:#?}");
    assert!(!network.path().exists());
}

#[tokio::test]
async fn used_bytes_are_counted_from_the_node_s_side() {
    let network = Network::of(2);
    ensure(&network.0).await.unwrap();
    let (one, two) = (
        Node::open(&network.path(), &network.0.ports[0]),
        Node::open(&network.path(), &network.0.ports[1]),
    );
    let frame = one.ipv4(two.mac, two.address, &"x".repeat(1000));
    one.send(&frame);
    two.receive();
    let sent = usage(&network.0.namespace, "tap-n1").await.unwrap();
    let received = usage(&network.0.namespace, "tap-n2").await.unwrap();
    assert_eq!((sent.sent, sent.received), (1034, 0));
    assert_eq!((received.sent, received.received), (0, 1034));
    let error = usage(&network.0.namespace, "tap-n9").await.unwrap_err();
    assert!(matches!(error, NetError::NoInterface { .. }), "{error}");
}
