//! What a site's network must be, and the checks that need no kernel.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::NetError;
use crate::filter::Filter;

/// Longest name of an interface that the kernel takes.
const INTERFACE_NAME: usize = 15;

/// A site's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Name of the namespace, e.g. `gg-dublin-ab12cd`.
    pub namespace: String,
    /// Name of the bridge in it, e.g. `site0`.
    pub bridge: String,
    /// The install server's address, on the bridge.
    pub address: Ipv4Addr,
    /// Prefix length of the site network.
    pub prefix_length: u8,
    /// One port for each node.
    pub ports: Vec<Port>,
}

/// One node's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Node name, for messages.
    pub node: String,
    /// Name of the tap, at most 15 bytes.
    pub tap: String,
    /// The node's Ethernet address, the only one that it may use: `02:…`.
    pub mac: String,
    /// The node's address, the only one that it may use.
    pub address: Ipv4Addr,
    /// User that may open the tap.
    pub owner_uid: u32,
    /// Who makes the interface.
    pub card: Card,
}

/// Who makes a node's interface on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    /// A tap, made here before its machine starts.
    Tap,
    /// The VMM, when its machine starts; under the tap's name, so that no tap may have that.
    Vmm,
}

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

impl NetworkPlan {
    /// All faults of the plan at once.
    pub(crate) fn check(&self) -> Result<(), NetError> {
        let mut faults = Vec::new();
        let network = Ipv4Net::new(self.address, self.prefix_length).ok();
        if network.is_none() {
            faults.push(format!("the prefix length {} is not 0 to 32", self.prefix_length));
        }
        if check_namespace(&self.namespace).is_err() {
            faults.push(format!("the namespace's name {:?} is not usable", self.namespace));
        }
        let mut taps = BTreeSet::from([self.bridge.as_str(), "lo"]);
        let mut macs = BTreeSet::from([self.bridge_mac()]);
        let mut addresses = BTreeSet::from([self.address]);
        if !interface_name_works(&self.bridge) {
            faults.push(format!("the bridge's name {:?} is not usable", self.bridge));
        }
        for port in &self.ports {
            let node = &port.node;
            if !interface_name_works(&port.tap) {
                faults.push(format!("{node}: the tap's name {:?} is not usable", port.tap));
            }
            if !taps.insert(&port.tap) {
                faults.push(format!("{node}: the name {} is used twice", port.tap));
            }
            match port.mac() {
                None => faults.push(format!("{node}: {:?} is no unicast MAC address", port.mac)),
                Some(mac) if !macs.insert(mac) => {
                    faults.push(format!("{node}: the MAC address {} is used twice", port.mac));
                }
                Some(_) => {}
            }
            if !addresses.insert(port.address) {
                faults.push(format!("{node}: the address {} is used twice", port.address));
            }
            if network.is_some_and(|network| !network.contains(&port.address)) {
                faults.push(format!("{node}: {} is outside the site network", port.address));
            }
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(NetError::Plan { namespace: self.namespace.clone(), faults })
    }

    /// The bridge's own Ethernet address. It is fixed, since otherwise the bridge takes
    /// the lowest of its ports' and the nodes' neighbour tables go stale.
    pub(crate) fn bridge_mac(&self) -> Mac {
        let [a, b, c, d] = self.address.octets();
        [0x06, 0x00, a, b, c, d]
    }
}

impl Port {
    /// The filter on what the node may send, as tc-bpf(8) takes it after `bytecode`; none without a
    /// usable Ethernet address.
    pub fn filter(&self) -> Option<String> {
        Some(Filter::new(self.mac()?, self.address).text())
    }

    /// The node's Ethernet address; `None` unless it is a unicast one.
    pub(crate) fn mac(&self) -> Option<Mac> {
        let mut mac = Mac::default();
        let mut parts = self.mac.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|part| part.len() == 2)?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        let unicast = mac[0] & 1 == 0 && mac != Mac::default();
        (parts.next().is_none() && unicast).then_some(mac)
    }
}

/// Faults unless `name` can be a file's name in `/run/netns`.
pub(crate) fn check_namespace(name: &str) -> Result<(), NetError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.chars().all(allowed)
    {
        return Ok(());
    }
    Err(NetError::Plan {
        namespace: name.to_owned(),
        faults: vec!["its name must be letters, digits, '-', '_' and '.'".to_owned()],
    })
}

fn interface_name_works(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=INTERFACE_NAME).contains(&name.len())
        && name.chars().all(allowed)
        && !matches!(name, "." | ".." | "all" | "default")
}
