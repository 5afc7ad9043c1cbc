//! Addresses: the given ones checked, the others chosen. Equal profiles get equal
//! addresses: nodes without one take the next free from the tenth up, in the
//! profile's order.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use crate::fault::{FaultCode, FaultSink, Located, Spot};

/// First address given to nodes without one, counted from the network's own.
const FIRST_CHOSEN: u32 = 10;

/// What wants an address.
pub(super) struct Wish<'a> {
    pub node: &'a str,
    pub spot: &'a Spot,
    /// The address given, and how many further on this node's is (nodes with a `count`).
    pub given: Option<(&'a Located<Ipv4Addr>, u32)>,
}

/// The install server's address: the one given, else the first host's.
pub(super) fn server(
    prefix: &Ipv4Net,
    given: Option<&Located<Ipv4Addr>>,
    sink: &FaultSink,
) -> Ipv4Addr {
    let first = Ipv4Addr::from(u32::from(prefix.network()) + 1);
    let Some(given) = given else { return first };
    check(prefix, given.value, &given.spot, sink);
    given.value
}

/// One address per wish, in their order. Where none can be had, a fault and the
/// network's own address.
pub(super) fn assign(
    prefix: &Ipv4Net,
    server: Ipv4Addr,
    wishes: &[Wish<'_>],
    sink: &FaultSink,
) -> Vec<Ipv4Addr> {
    let mut taken: BTreeMap<Ipv4Addr, &Wish<'_>> = BTreeMap::new();
    let mut addresses: Vec<Option<Ipv4Addr>> = Vec::with_capacity(wishes.len());
    for wish in wishes {
        let wanted = wish.given.and_then(|(base, further)| wanted(prefix, base, further, sink));
        if let (Some(address), Some((base, _))) = (wanted, wish.given) {
            note(&mut taken, server, address, wish, base, sink);
        }
        addresses.push(wanted);
    }
    let mut chosen = Chosen { prefix, next: u32::from(prefix.network()) + 1 };
    if u32::from(prefix.broadcast()) - u32::from(prefix.network()) > FIRST_CHOSEN {
        chosen.next = u32::from(prefix.network()) + FIRST_CHOSEN;
    }
    let mut full = false;
    let fill = |(wish, address): (&Wish<'_>, Option<Ipv4Addr>)| {
        if let Some(address) = address {
            return address;
        }
        let free = chosen.find(|address| *address != server && !taken.contains_key(address));
        if free.is_none() && wish.given.is_none() && !full {
            full = true;
            let rule = format!("no address is free in {prefix} for {}", wish.node);
            let fault = wish.spot.fault(FaultCode::Conflict, rule);
            sink.push(fault.suggest("a shorter prefix length in [network] makes room"));
        }
        free.unwrap_or(prefix.network())
    };
    wishes.iter().zip(addresses).map(fill).collect()
}

/// The addresses from the first to be chosen to the end of the network.
struct Chosen<'a> {
    prefix: &'a Ipv4Net,
    next: u32,
}

impl Iterator for Chosen<'_> {
    type Item = Ipv4Addr;

    fn next(&mut self) -> Option<Ipv4Addr> {
        let address = Ipv4Addr::from(self.next);
        self.next += 1;
        (self.prefix.contains(&address) && address != self.prefix.broadcast()).then_some(address)
    }
}

fn wanted(
    prefix: &Ipv4Net,
    base: &Located<Ipv4Addr>,
    further: u32,
    sink: &FaultSink,
) -> Option<Ipv4Addr> {
    let address = Ipv4Addr::from(u32::from(base.value).checked_add(further)?);
    check(prefix, address, &base.spot, sink).then_some(address)
}

/// Whether an address can be a host's; a fault when not.
fn check(prefix: &Ipv4Net, address: Ipv4Addr, spot: &Spot, sink: &FaultSink) -> bool {
    let rule = if !prefix.contains(&address) {
        format!("{address} is not in the site's network {prefix}")
    } else if address == prefix.network() {
        format!("{address} is the network's own address")
    } else if address == prefix.broadcast() {
        format!("{address} is the network's broadcast address")
    } else {
        return true;
    };
    let first = Ipv4Addr::from(u32::from(prefix.network()) + 1);
    let last = Ipv4Addr::from(u32::from(prefix.broadcast()) - 1);
    sink.push(
        spot.fault(FaultCode::BadValue, rule).suggest(format!("hosts are {first} to {last}")),
    );
    false
}

fn note<'a, 'b>(
    taken: &mut BTreeMap<Ipv4Addr, &'b Wish<'a>>,
    server: Ipv4Addr,
    address: Ipv4Addr,
    wish: &'b Wish<'a>,
    base: &Located<Ipv4Addr>,
    sink: &FaultSink,
) {
    if address == server {
        let rule = format!("{address} is the install server's address");
        let hint = "give the node another one, or set network.server";
        sink.push(base.spot.fault(FaultCode::Conflict, rule).suggest(hint));
        return;
    }
    if let Some(first) = taken.get(&address) {
        let rule = format!("{} and {} would both be {address}", first.node, wish.node);
        let spot = first.given.map_or(first.spot, |(given, _)| &given.spot);
        let fault = base.spot.fault(FaultCode::Conflict, rule);
        sink.push(fault.related(spot, "the other stands at"));
        return;
    }
    taken.insert(address, wish);
}

/// A node's Ethernet address: locally administered, the same whenever it is made.
pub(super) fn mac(site: &str, node: &str) -> String {
    let hash = Sha256::digest(format!("{site}/{node}"));
    let bytes: Vec<String> = hash[..5].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("02:{}", bytes.join(":"))
}
