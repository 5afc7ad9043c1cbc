//! The three requests to the kernel's routing socket that a node needs: put an
//! address on an interface, bring it up, set the default route. Messages are
//! built by hand after rtnetlink(7); multi-byte fields are in the machine's
//! byte order.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const RT_SCOPE_UNIVERSE: u8 = 0;

/// A socket to the kernel's routing tables.
pub(crate) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// Opens the socket.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is protocol 0, the default.
            None,
        )?;
        Ok(Self { socket })
    }

    /// Brings the interface up.
    pub(crate) fn up(&self, index: u32) -> io::Result<()> {
        self.call(RTM_NEWLINK, 0, &link_up(index))
    }

    /// Puts an address on the interface, or leaves the same one there.
    pub(crate) fn address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        self.call(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &new_address(index, address, prefix))
    }

    /// Sets the default route.
    pub(crate) fn default_route(&self, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
        self.call(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &new_route(index, gateway))
    }

    fn call(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(16 + body.len());
        let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        message.extend(1u32.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(body);
        rustix::net::send(&self.socket, &message, SendFlags::empty())?;
        let mut answer = [0u8; 4096];
        let (read, _) = rustix::net::recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
        acknowledged(&answer[..read])
    }
}

/// Reads the kernel's answer: an NLMSG_ERROR with errno negated, 0 for success.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "short netlink answer");
    let kind = answer.get(4..6).ok_or_else(short)?;
    let code = answer.get(16..20).ok_or_else(short)?;
    if kind != NLMSG_ERROR.to_ne_bytes() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "unexpected netlink answer"));
    }
    let code = i32::from_ne_bytes([code[0], code[1], code[2], code[3]]);
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

/// `struct ifinfomsg`.
fn link_up(index: u32) -> Vec<u8> {
    let mut body = vec![0u8; 4];
    body.extend(index.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body
}

/// `struct ifaddrmsg` and its attributes.
fn new_address(index: u32, address: Ipv4Addr, prefix: u8) -> Vec<u8> {
    let mut body = vec![AF_INET, prefix, 0, RT_SCOPE_UNIVERSE];
    body.extend(index.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, address.octets());
    attribute(&mut body, IFA_ADDRESS, address.octets());
    if prefix < 31 {
        let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        let broadcast = Ipv4Addr::from(u32::from(address) | host_bits);
        attribute(&mut body, IFA_BROADCAST, broadcast.octets());
    }
    body
}

/// `struct rtmsg` and its attributes.
fn new_route(index: u32, gateway: Ipv4Addr) -> Vec<u8> {
    let mut body =
        vec![AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST];
    body.extend(0u32.to_ne_bytes());
    attribute(&mut body, RTA_GATEWAY, gateway.octets());
    attribute(&mut body, RTA_OIF, index.to_ne_bytes());
    body
}

/// `struct rtattr` with four bytes of payload, which needs no padding.
fn attribute(body: &mut Vec<u8>, kind: u16, value: [u8; 4]) {
    body.extend(8u16.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broadcast_address_ends_the_network() {
        let body = new_address(2, Ipv4Addr::new(198, 51, 100, 20), 24);
        assert_eq!(&body[body.len() - 4..], &[198, 51, 100, 255]);
        assert_eq!(new_address(2, Ipv4Addr::new(10, 0, 0, 1), 32).len(), 8 + 16);
    }

    #[test]
    fn refusals_carry_the_kernels_code() {
        let mut answer = vec![0u8; 36];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        assert!(acknowledged(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-1i32).to_ne_bytes());
        assert_eq!(acknowledged(&answer).unwrap_err().raw_os_error(), Some(1));
        assert!(acknowledged(&answer[..10]).is_err());
    }
}
