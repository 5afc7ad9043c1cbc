//! Bringing a site's network into the planned state.

use std::io::ErrorKind;

use crate::changes::{Change, Changes, Warning};
use crate::error::io;
use crate::filter::Filter;
use crate::namespace::{self, Made, namespace_path};
use crate::netlink::{self, Filtering, Kind, Link, Netlink};
use crate::plan::{Card, Mac, NetworkPlan, Port};
use crate::{NetError, tap};

/// Bytes that went through a tap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that the node received.
    pub received: u64,
    /// Bytes that the node sent, those dropped for a false address included.
    pub sent: u64,
}

/// Brings the network into the planned state: makes what is missing, corrects what
/// differs, removes taps that are not in the plan, and says what it changed. Done
/// twice, the second time changes nothing. A tap in use keeps working, and so does a
/// machine whose interface the plan wants otherwise: see [`make_ready`].
pub async fn ensure(plan: &NetworkPlan) -> Result<Changes, NetError> {
    plan.check()?;
    let name = plan.namespace.clone();
    let made = tokio::task::spawn_blocking(move || namespace::make(&name))
        .await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    let mut changes = Changes::default();
    if made == Made::New {
        changes.made.push(Change::NamespaceMade);
    }
    let path = namespace_path(&plan.namespace);
    let plan = plan.clone();
    netlink::within(path, async move |netlink| {
        let mut site = Site { plan: &plan, netlink, changes };
        site.ensure().await?;
        Ok(site.changes)
    })
    .await
}

/// Brings one node's port into the state in which its machine can start, when the machine
/// does not run: its tap is there, or out of the way of the interface that the VMM will make.
pub async fn make_ready(plan: &NetworkPlan, node: &str) -> Result<(), NetError> {
    let Some(port) = plan.ports.iter().find(|port| port.node == node).cloned() else {
        return Ok(());
    };
    let plan = plan.clone();
    netlink::within(namespace_path(&plan.namespace), async move |netlink| {
        let mut site = Site { plan: &plan, netlink, changes: Changes::default() };
        site.make_ready(&port).await
    })
    .await
}

/// Bytes that went through a tap since it was made.
pub async fn usage(namespace: &str, tap: &str) -> Result<Usage, NetError> {
    let missing = NetError::NoInterface { namespace: namespace.to_owned(), name: tap.to_owned() };
    let tap = tap.to_owned();
    let find = async move |netlink: Netlink| netlink.link(&tap).await;
    let link = netlink::within(namespace_path(namespace), find).await?;
    link.map(|link| link.usage).ok_or(missing)
}

struct Site<'a> {
    plan: &'a NetworkPlan,
    netlink: Netlink,
    changes: Changes,
}

impl Site<'_> {
    async fn ensure(&mut self) -> Result<(), NetError> {
        silence_ipv6()?;
        self.loopback().await?;
        let bridge = self.bridge().await?;
        self.address(&bridge).await?;
        self.remove_unplanned().await?;
        for port in &self.plan.ports {
            self.port(port, &bridge).await?;
        }
        Ok(())
    }

    async fn make_ready(&mut self, port: &Port) -> Result<(), NetError> {
        let present = self.netlink.link(&port.tap).await?;
        match (port.card, present) {
            (Card::Vmm, Some(link)) if link.kind == Kind::Tap => self.netlink.delete(&link).await,
            // A card left of the same VMM is taken away by the VMM's own start.
            (Card::Tap, Some(link)) if link.kind != Kind::Tap => Err(NetError::Kernel {
                action: "make way for the card",
                subject: link.name,
                reason: "an interface of this name is left of an earlier machine".to_owned(),
            }),
            (Card::Tap, None) => {
                let bridge = self.present(&self.plan.bridge).await?;
                self.port(port, &bridge).await
            }
            _ => Ok(()),
        }
    }

    async fn loopback(&mut self) -> Result<(), NetError> {
        let loopback = self.present("lo").await?;
        if !loopback.up {
            self.netlink.raise(&loopback).await?;
            self.changes.made.push(Change::LoopbackUp);
        }
        Ok(())
    }

    async fn bridge(&mut self) -> Result<Link, NetError> {
        let (name, mac) = (&self.plan.bridge, self.plan.bridge_mac());
        match self.netlink.link(name).await? {
            Some(link) if link.kind != Kind::Bridge => {
                return Err(NetError::Kernel {
                    action: "make the bridge",
                    subject: name.clone(),
                    reason: "another kind of interface has this name".to_owned(),
                });
            }
            Some(link) if link.up && link.mac == Some(mac) => return Ok(link),
            Some(_) => self.changes.made.push(Change::BridgeCorrected),
            None => {
                self.netlink.add_bridge(name, mac).await?;
                self.changes.made.push(Change::BridgeMade);
            }
        }
        let bridge = self.present(name).await?;
        self.netlink.raise_bridge(&bridge, mac).await?;
        Ok(bridge)
    }

    async fn address(&mut self, bridge: &Link) -> Result<(), NetError> {
        let (address, prefix_length) = (self.plan.address, self.plan.prefix_length);
        let (right, wrong): (Vec<_>, Vec<_>) = self
            .netlink
            .addresses(bridge)
            .await?
            .into_iter()
            .partition(|message| netlink::states(message, address, prefix_length));
        if !right.is_empty() && wrong.is_empty() {
            return Ok(());
        }
        for message in wrong {
            self.netlink.delete_address(bridge, message).await?;
        }
        if right.is_empty() {
            self.netlink.add_address(bridge, address, prefix_length).await?;
        }
        self.changes.made.push(Change::AddressSet);
        Ok(())
    }

    async fn remove_unplanned(&mut self) -> Result<(), NetError> {
        for link in self.netlink.links().await? {
            let planned = self.plan.ports.iter().any(|port| port.tap == link.name);
            if link.kind == Kind::Tap && !planned {
                self.netlink.delete(&link).await?;
                self.changes.made.push(Change::TapRemoved { tap: link.name });
            }
        }
        Ok(())
    }

    /// The filter comes before the tap is on the bridge: at no time can it send unfiltered.
    async fn port(&mut self, port: &Port, bridge: &Link) -> Result<(), NetError> {
        let Some(mac) = port.mac() else { return Ok(()) };
        let present = self.netlink.link(&port.tap).await?;
        match (port.card, &present) {
            (Card::Tap, Some(link)) if link.kind != Kind::Tap => return Ok(()),
            (Card::Tap, Some(link)) if link.owner == Some(port.owner_uid) => {}
            (Card::Tap, _) => tap::make(&port.tap, port.owner_uid)?,
            (Card::Vmm, Some(link)) if link.kind != Kind::Tap => {}
            (Card::Vmm, _) => return Ok(()),
        }
        let link = self.present(&port.tap).await?;
        let filtered = self.filter(port, mac, &link).await?;
        let placed = self.placed(&link, bridge, mac).await?;
        if !placed {
            self.netlink.make_port(&link, bridge.index).await?;
            self.netlink.enter_only(&link, mac).await?;
            self.netlink.raise(&link).await?;
        }
        let (tap, node) = (port.tap.clone(), port.node.clone());
        match present {
            None => self.changes.made.push(Change::TapMade { tap, node }),
            Some(_) if port.card == Card::Vmm => {
                if filtered == Made::New || !placed {
                    self.changes.made.push(Change::CardGuarded { card: tap, node });
                }
            }
            Some(before) if before.owner != link.owner || filtered == Made::New || !placed => {
                self.changes.made.push(Change::TapCorrected { tap, node });
            }
            Some(_) => {}
        }
        Ok(())
    }

    async fn filter(&mut self, port: &Port, mac: Mac, link: &Link) -> Result<Made, NetError> {
        let filter = Filter::new(mac, port.address);
        if self.netlink.filter(link).await?.as_ref() == Some(&filter.program) {
            return Ok(Made::Present);
        }
        match self.netlink.set_filter(link, &filter).await? {
            Filtering::Set => Ok(Made::New),
            Filtering::Unsupported(reason) => {
                let (tap, node) = (port.tap.clone(), port.node.clone());
                tracing::warn!(%tap, %node, %reason, "the kernel takes no filter");
                self.changes.warnings.push(Warning::NoAntiSpoofing { tap, node, reason });
                Ok(Made::Present)
            }
        }
    }

    async fn placed(&self, link: &Link, bridge: &Link, mac: Mac) -> Result<bool, NetError> {
        if !link.up || !link.strict || link.bridge != Some(bridge.index) {
            return Ok(false);
        }
        let entered = self.netlink.entered(link).await?;
        // The kernel enters an address once for each VLAN that it knows of.
        let right = |entry| netlink::entered_mac(entry) == Some(mac);
        Ok(!entered.is_empty() && entered.iter().all(right))
    }

    async fn present(&self, name: &str) -> Result<Link, NetError> {
        self.netlink.link(name).await?.ok_or_else(|| NetError::NoInterface {
            namespace: self.plan.namespace.clone(),
            name: name.to_owned(),
        })
    }
}

/// No IPv6 addresses and none of their chatter; the site network is IPv4. (What stands in
/// this folder is of the calling thread's namespace.)
fn silence_ipv6() -> Result<(), NetError> {
    for which in ["default", "all"] {
        let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
        match std::fs::write(&path, "1") {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other.map_err(io("write", path))?,
        }
    }
    Ok(())
}
