//! The kernel's interface to links, addresses, forwarding entries and filters. All of
//! `rtnetlink` that this crate uses is here.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use futures_util::{Stream, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload, Nla,
};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage,
    TcOption,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Error, Handle, LinkBridge, LinkBridgePort, LinkUnspec};

use crate::error::io;
use crate::filter::Filter;
use crate::namespace::in_namespace;
use crate::plan::Mac;
use crate::{NetError, Usage};

/// Attributes that the packet library does not name (`linux/if_link.h`, `linux/pkt_cls.h`).
const IFLA_TUN_OWNER: u16 = 1;
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;
/// `ETH_P_ALL` in network byte order.
const ALL_PROTOCOLS: u16 = 0x0003_u16.to_be();

/// An interface as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) up: bool,
    pub(crate) mac: Option<Mac>,
    pub(crate) bridge: Option<u32>,
    /// User that may open it, for taps.
    pub(crate) owner: Option<u32>,
    /// Whether it forwards only what belongs to it, for ports of a bridge.
    pub(crate) strict: bool,
    pub(crate) usage: Usage,
}

/// What an interface is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    Bridge,
    Tap,
    #[default]
    Other,
}

/// Whether the kernel took a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filtering {
    Set,
    /// This kernel has no such classifier; with its answer.
    Unsupported(String),
}

/// A connection to the kernel, inside one namespace.
#[derive(Clone)]
pub(crate) struct Netlink(Handle);

/// Runs `work` on a thread inside the namespace, with a connection that was made there.
pub(crate) async fn within<T, W, F>(path: PathBuf, work: W) -> Result<T, NetError>
where
    T: Send + 'static,
    W: FnOnce(Netlink) -> F + Send + 'static,
    F: Future<Output = Result<T, NetError>>,
{
    let inside = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(io("start", "a connection to the kernel"))?;
        runtime.block_on(async {
            let (connection, handle, _) =
                rtnetlink::new_connection().map_err(io("open", "a connection to the kernel"))?;
            tokio::spawn(connection);
            work(Netlink(handle)).await
        })
    };
    let blocking = tokio::task::spawn_blocking(move || in_namespace(&path, inside)?);
    blocking.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

impl Netlink {
    pub(crate) async fn links(&self) -> Result<Vec<Link>, NetError> {
        let links = all(self.0.link().get().execute()).await;
        let links = links.map_err(kernel("list", "interfaces"))?;
        Ok(links.iter().map(Link::from).collect())
    }

    pub(crate) async fn link(&self, name: &str) -> Result<Option<Link>, NetError> {
        Ok(self.links().await?.into_iter().find(|link| link.name == name))
    }

    pub(crate) async fn add_bridge(&self, name: &str, mac: Mac) -> Result<(), NetError> {
        let message =
            LinkBridge::new(name).address(mac.to_vec()).mcast_snooping(false).down().build();
        self.0.link().add(message).execute().await.map_err(kernel("make the bridge", name))
    }

    /// Sets the bridge's Ethernet address and brings it up.
    pub(crate) async fn raise_bridge(&self, bridge: &Link, mac: Mac) -> Result<(), NetError> {
        let message = LinkUnspec::new_with_index(bridge.index).address(mac.to_vec()).up().build();
        let name = &bridge.name;
        self.0.link().set(message).execute().await.map_err(kernel("bring up the bridge", name))
    }

    pub(crate) async fn raise(&self, link: &Link) -> Result<(), NetError> {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        self.0.link().set(message).execute().await.map_err(kernel("bring up", &link.name))
    }

    pub(crate) async fn delete(&self, link: &Link) -> Result<(), NetError> {
        self.0.link().del(link.index).execute().await.map_err(kernel("remove", &link.name))
    }

    /// Makes `link` a port of `bridge` that learns nothing, is sent nothing unknown, and takes
    /// only what comes from the Ethernet addresses entered for it.
    pub(crate) async fn make_port(&self, link: &Link, bridge: u32) -> Result<(), NetError> {
        let message = LinkUnspec::new_with_index(link.index).controller(bridge).build();
        let name = &link.name;
        self.0.link().set(message).execute().await.map_err(kernel("put on the bridge", name))?;
        let message = LinkBridgePort::new(link.index).learning(false).flood(false).locked(true);
        let request = self.0.link().set_port(message.build());
        request.execute().await.map_err(kernel("set the bridge port of", name))
    }

    /// The addresses of an interface with their prefix lengths.
    pub(crate) async fn addresses(&self, link: &Link) -> Result<Vec<AddressMessage>, NetError> {
        let found = all(self.0.address().get().set_link_index_filter(link.index).execute()).await;
        let mut found = found.map_err(kernel("list the addresses of", &link.name))?;
        found.retain(|message| message.header.family == AddressFamily::Inet);
        Ok(found)
    }

    pub(crate) async fn add_address(
        &self,
        link: &Link,
        address: Ipv4Addr,
        prefix_length: u8,
    ) -> Result<(), NetError> {
        let request = self.0.address().add(link.index, IpAddr::V4(address), prefix_length);
        request.execute().await.map_err(kernel("set the address of", &link.name))
    }

    pub(crate) async fn delete_address(
        &self,
        link: &Link,
        address: AddressMessage,
    ) -> Result<(), NetError> {
        let request = self.0.address().del(address);
        request.execute().await.map_err(kernel("remove an address of", &link.name))
    }

    /// The Ethernet addresses that were entered for a port by hand.
    pub(crate) async fn entered(&self, link: &Link) -> Result<Vec<NeighbourMessage>, NetError> {
        let mut request = self.0.neighbours().get();
        request.message_mut().header.family = AddressFamily::Bridge;
        let found = all(request.execute()).await;
        let mut found = found.map_err(kernel("list the forwarding entries of", &link.name))?;
        found.retain(|entry| {
            entry.header.ifindex == link.index && entry.header.state == NeighbourState::Noarp
        });
        Ok(found)
    }

    /// Makes `mac` the one Ethernet address behind a port.
    pub(crate) async fn enter_only(&self, link: &Link, mac: Mac) -> Result<(), NetError> {
        for entry in self.entered(link).await? {
            if entered_mac(&entry) != Some(mac) {
                let request = self.0.neighbours().del(entry);
                request.execute().await.map_err(kernel("forget an entry of", &link.name))?;
            }
        }
        let request = self.0.neighbours().add_bridge(link.index, &mac);
        let request =
            request.state(NeighbourState::Noarp).flags(NeighbourFlags::Controller).replace();
        request.execute().await.map_err(kernel("enter the Ethernet address of", &link.name))
    }

    /// The program that filters what comes in through an interface.
    pub(crate) async fn filter(&self, link: &Link) -> Result<Option<Vec<u8>>, NetError> {
        let index = interface_index(link)?;
        let request = self.0.traffic_filter(index).get().ingress();
        let filters = match all(request.execute()).await {
            // Without an ingress queue there is nothing to list.
            Err(Error::NetlinkError(error)) if error.raw_code() == -libc::EINVAL => {
                return Ok(None);
            }
            other => other.map_err(kernel("list the filters of", &link.name))?,
        };
        Ok(filters.iter().flat_map(|filter| &filter.attributes).find_map(program))
    }

    /// Puts the filter, and no other, on what comes in through an interface.
    pub(crate) async fn set_filter(
        &self,
        link: &Link,
        filter: &Filter,
    ) -> Result<Filtering, NetError> {
        let index = interface_index(link)?;
        let queue = self.0.qdisc().add(index).ingress().execute().await;
        match queue {
            Ok(()) => {}
            Err(Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => {}
            Err(error) => return unsupported(error, "make an ingress queue for", link),
        }
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewTrafficFilter(
            filter_message(index, filter),
        ));
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        match self.acknowledged(message).await {
            Ok(()) => Ok(Filtering::Set),
            Err(error) => unsupported(error, "set the filter of", link),
        }
    }

    async fn acknowledged(
        &self,
        message: NetlinkMessage<RouteNetlinkMessage>,
    ) -> Result<(), Error> {
        let mut answers = Box::pin(self.0.clone().request(message)?);
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(Error::NetlinkError(error));
            }
        }
        Ok(())
    }
}

async fn all<S, T>(stream: S) -> Result<Vec<T>, Error>
where
    S: Stream<Item = Result<T, Error>>,
{
    stream.try_collect().await
}

/// The one Ethernet address of a forwarding entry.
pub(crate) fn entered_mac(entry: &NeighbourMessage) -> Option<Mac> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::try_from(bytes.as_slice()).ok(),
        _ => None,
    })
}

/// Whether an address message states this address and prefix length.
pub(crate) fn states(message: &AddressMessage, address: Ipv4Addr, prefix_length: u8) -> bool {
    message.header.prefix_len == prefix_length
        && message.attributes.contains(&AddressAttribute::Local(IpAddr::V4(address)))
}

fn filter_message(index: i32, filter: &Filter) -> TcMessage {
    let length = filter.length().to_ne_bytes().to_vec();
    let options = [
        TcFilterBpfOption::Other(DefaultNla::new(TCA_BPF_OPS_LEN, length)),
        TcFilterBpfOption::Other(DefaultNla::new(TCA_BPF_OPS, filter.program.clone())),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    let header = TcHeader {
        index,
        handle: TcHandle { major: 0, minor: 1 },
        parent: TcHandle { major: 0xffff, minor: TcHandle::MIN_INGRESS },
        // Priority 1: the first and only one.
        info: u32::from(TcHandle { major: 1, minor: ALL_PROTOCOLS }),
        ..TcHeader::default()
    };
    let attributes = vec![
        TcAttribute::Kind(TcFilterBpf::KIND.to_owned()),
        TcAttribute::Options(options.map(TcOption::Bpf).to_vec()),
    ];
    TcMessage::from_parts(header, attributes)
}

fn program(attribute: &TcAttribute) -> Option<Vec<u8>> {
    let TcAttribute::Options(options) = attribute else { return None };
    options.iter().find_map(|option| match option {
        TcOption::Bpf(TcFilterBpfOption::Other(option)) if option.kind() == TCA_BPF_OPS => {
            let mut bytes = vec![0; option.value_len()];
            option.emit_value(&mut bytes);
            Some(bytes)
        }
        _ => None,
    })
}

fn interface_index(link: &Link) -> Result<i32, NetError> {
    i32::try_from(link.index).map_err(|error| NetError::Kernel {
        action: "use the index of",
        subject: link.name.clone(),
        reason: error.to_string(),
    })
}

/// A kernel without the classifier says ENOENT or EOPNOTSUPP; all else is a fault.
fn unsupported(error: Error, action: &'static str, link: &Link) -> Result<Filtering, NetError> {
    match &error {
        Error::NetlinkError(answer)
            if [-libc::ENOENT, -libc::EOPNOTSUPP].contains(&answer.raw_code()) =>
        {
            Ok(Filtering::Unsupported(answer.to_io().to_string()))
        }
        _ => Err(kernel(action, &link.name)(error)),
    }
}

fn kernel(action: &'static str, subject: &str) -> impl FnOnce(Error) -> NetError {
    let subject = subject.to_owned();
    move |error| {
        let reason = match error {
            Error::NetlinkError(answer) => answer.to_io().to_string(),
            other => other.to_string(),
        };
        NetError::Kernel { action, subject, reason }
    }
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(bytes) => link.mac = Mac::try_from(bytes.as_slice()).ok(),
                LinkAttribute::Controller(index) => link.bridge = Some(*index),
                LinkAttribute::Stats64(stats) => {
                    link.usage = Usage { received: stats.tx_bytes, sent: stats.rx_bytes };
                }
                LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| link.learn(info)),
                _ => {}
            }
        }
        link
    }
}

impl Link {
    fn learn(&mut self, info: &LinkInfo) {
        match info {
            LinkInfo::Kind(InfoKind::Bridge) => self.kind = Kind::Bridge,
            LinkInfo::Kind(InfoKind::Tun) => self.kind = Kind::Tap,
            LinkInfo::Data(InfoData::Tun(options)) => {
                self.owner = options
                    .iter()
                    .find(|option| option.kind() == IFLA_TUN_OWNER)
                    .and_then(|option| {
                        let mut bytes = [0; 4];
                        (option.value_len() == 4).then(|| option.emit_value(&mut bytes))?;
                        Some(u32::from_ne_bytes(bytes))
                    });
            }
            LinkInfo::PortData(InfoPortData::BridgePort(options)) => {
                self.strict = options.contains(&InfoBridgePort::Learning(false))
                    && options.contains(&InfoBridgePort::UnicastFlood(false))
                    && !options.contains(&InfoBridgePort::Locked(false));
            }
            _ => {}
        }
    }
}
