//! What a node can and cannot send, seen at another node and at the server. Needs root.
//!
//! A frame that is dropped cannot be waited for. Frames of one sender arrive in order, so
//! each forged one is followed by an honest one, which must be the next to arrive.

mod support;

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

use gridgate_machine::{Nic, Rate, throttle};
use gridgate_net::{ensure, in_namespace};
use support::node::{BROADCAST, Mac, Node, arp, ipv4, text};
use support::{Network, SERVER};

async fn two_nodes() -> (Network, Node, Node) {
    let network = Network::of(3);
    let changes = ensure(&network.0).await.unwrap();
    assert_eq!(changes.warnings, []);
    let [one, two] = [0, 1].map(|which| Node::open(&network.path(), &network.0.ports[which]));
    (network, one, two)
}

const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 13);
const OTHER_MAC: Mac = [2, 0, 0, 0, 0, 3];

#[tokio::test]
async fn honest_frames_arrive() {
    let (_network, one, two) = two_nodes().await;
    one.send(&one.ipv4(two.mac, two.address, "unicast"));
    assert_eq!(text(&two.receive()), "unicast");
    one.send(&one.ipv4(BROADCAST, Ipv4Addr::BROADCAST, "broadcast"));
    assert_eq!(text(&two.receive()), "broadcast");
    one.send(&one.arp(1, two.address));
    assert_eq!(two.receive(), one.arp(1, two.address));
    two.send(&two.ipv4(one.mac, one.address, "and back"));
    assert_eq!(text(&one.receive()), "and back");
}

#[tokio::test]
async fn forged_frames_do_not() {
    let (_network, one, two) = two_nodes().await;
    forge(&one, &two);
}

#[tokio::test]
async fn forged_frames_do_not_under_a_limit_and_do_not_count_against_it() {
    let (network, one, two) = two_nodes().await;
    let port = &network.0.ports[0];
    let nic = Nic {
        namespace: network.path(),
        tap: port.tap.clone(),
        mac: port.mac.clone(),
        filter: None,
    };
    // As many frames may pass at once as honest ones are sent.
    let rate = Rate { bytes_per_second: Some(1 << 20), operations_per_second: Some(20) };
    throttle::limit(&nic, rate).unwrap();
    for _ in 0..1000 {
        one.send(&ipv4(one.mac, two.mac, OTHER, two.address, "x"));
    }
    one.send(&one.ipv4(two.mac, two.address, "first"));
    assert_eq!(text(&two.receive()), "first");
    forge(&one, &two);
    // What is over the limit is dropped.
    for number in 0..400 {
        one.send(&one.ipv4(two.mac, two.address, &number.to_string()));
    }
    throttle::lift(&nic).unwrap();
    one.send(&one.ipv4(two.mac, two.address, "last"));
    let arriving = std::iter::repeat_with(|| text(&two.receive()).to_owned());
    assert!(arriving.take_while(|text| text != "last").count() < 400);
    assert_eq!(ensure(&network.0).await.unwrap(), Default::default());
}

/// One that forges in every way, each time with an honest frame after it.
fn forge(one: &Node, two: &Node) {
    let mut tagged = one.ipv4(two.mac, two.address, "tagged");
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x01]);
    let mut ipv6 = one.ipv4(two.mac, two.address, "another protocol");
    ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
    let mut short_arp = one.arp(1, two.address);
    short_arp.truncate(41);
    let own = (one.mac, one.address);
    let asked = ([0; 6], two.address);
    let forged = [
        ("other's MAC", ipv4(OTHER_MAC, two.mac, one.address, two.address, "x")),
        ("unknown MAC", ipv4([2, 9, 9, 9, 9, 9], two.mac, one.address, two.address, "x")),
        ("last byte of MAC", ipv4([2, 0, 0, 0, 0, 9], two.mac, one.address, two.address, "x")),
        ("other's IP", ipv4(one.mac, two.mac, OTHER, two.address, "x")),
        ("server's IP", ipv4(one.mac, two.mac, SERVER, two.address, "x")),
        ("receiver's own IP", ipv4(one.mac, two.mac, two.address, two.address, "x")),
        ("no IP", ipv4(one.mac, BROADCAST, Ipv4Addr::UNSPECIFIED, two.address, "x")),
        ("ARP request for other's IP", arp(one.mac, BROADCAST, 1, (one.mac, OTHER), asked)),
        ("ARP reply for other's IP", arp(one.mac, two.mac, 2, (one.mac, OTHER), asked)),
        ("ARP reply for server's IP", arp(one.mac, two.mac, 2, (one.mac, SERVER), asked)),
        ("gratuitous ARP", arp(one.mac, BROADCAST, 2, (one.mac, SERVER), (BROADCAST, SERVER))),
        ("ARP with other's MAC", arp(one.mac, two.mac, 2, (OTHER_MAC, one.address), asked)),
        ("ARP from other's MAC", arp(OTHER_MAC, two.mac, 2, own, asked)),
        ("VLAN tag", tagged),
        ("IPv6", ipv6),
        ("cut ARP", short_arp),
        ("header alone", one.ipv4(two.mac, two.address, "")[..14].to_vec()),
        ("cut IP", one.ipv4(two.mac, two.address, "")[..33].to_vec()),
    ];
    for (what, frame) in forged {
        one.send(&frame);
        one.send(&one.ipv4(two.mac, two.address, what));
        let arrived = two.receive();
        assert!(arrived != frame, "{what} arrived");
        assert_eq!(text(&arrived), what);
    }
}

/// That the tests above can fail: each of the two defences alone, and none.
#[tokio::test]
async fn each_defence_is_what_stops_the_forgery() {
    let (network, one, two) = two_nodes().await;
    let run = |program: &str, arguments: &str| {
        let words = ["-n", &network.0.namespace].into_iter().chain(arguments.split(' '));
        assert!(Command::new(program).args(words).status().unwrap().success(), "{arguments}");
    };
    let forged_mac = ipv4(OTHER_MAC, two.mac, one.address, two.address, "forged MAC");
    let forged_ip = ipv4(one.mac, two.mac, OTHER, two.address, "forged IP");
    let honest = one.ipv4(two.mac, two.address, "honest");
    let arriving = || {
        for frame in [&forged_mac, &forged_ip, &honest] {
            one.send(frame);
        }
        let mut texts = Vec::new();
        while texts.last().is_none_or(|last| last != "honest") {
            texts.push(text(&two.receive()).to_owned());
        }
        texts
    };

    assert_eq!(arriving(), ["honest"], "filter and locked port");
    run("ip", "link set tap-n1 type bridge_slave locked off");
    assert_eq!(arriving(), ["honest"], "filter alone");
    run("tc", "qdisc del dev tap-n1 ingress");
    assert_eq!(arriving(), ["forged MAC", "forged IP", "honest"], "neither");
    run("ip", "link set tap-n1 type bridge_slave locked on");
    assert_eq!(arriving(), ["forged IP", "honest"], "locked port alone");
    assert_eq!(ensure(&network.0).await.unwrap().made.len(), 1);
    assert_eq!(arriving(), ["honest"], "repaired");
}

#[tokio::test]
async fn a_node_sees_only_what_is_for_it() {
    let (_network, one, two) = two_nodes().await;
    one.send(&one.ipv4(OTHER_MAC, OTHER, "for n3"));
    one.send(&one.ipv4([2, 9, 9, 9, 9, 9], OTHER, "for no one"));
    one.send(&one.ipv4(two.mac, two.address, "for n2"));
    assert_eq!(text(&two.receive()), "for n2");
}

#[tokio::test]
async fn the_server_believes_no_forged_arp() {
    let (network, one, _two) = two_nodes().await;
    let socket = in_namespace(&network.path(), || UdpSocket::bind((SERVER, 0))).unwrap().unwrap();
    // The server looks for n3, which is off; n1 answers in its place, then asks honestly.
    socket.send_to(b"x", (OTHER, 9)).unwrap();
    let question = one.receive();
    let server: Mac = question[6..12].try_into().unwrap();
    one.send(&arp(one.mac, server, 2, (one.mac, OTHER), (server, SERVER)));
    one.send(&arp(OTHER_MAC, server, 2, (OTHER_MAC, OTHER), (server, SERVER)));
    one.send(&one.arp(1, SERVER));
    // Further questions for n3 may come before the answer.
    let answer = std::iter::repeat_with(|| one.receive()).find(|frame| frame[21] == 2).unwrap();
    assert_eq!(answer[28..32], SERVER.octets());
    let arguments = ["-n", &network.0.namespace, "neighbour", "show"];
    let table = Command::new("ip").args(arguments).output().unwrap();
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    let n3 = table.lines().find(|line| line.starts_with("198.51.100.13 ")).unwrap();
    assert!(!n3.contains("lladdr"), "{n3}");
}
