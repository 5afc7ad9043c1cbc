//! A node in place of a machine: it holds a tap open and reads and writes frames.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use gridgate_net::{Port, in_namespace};

pub type Mac = [u8; 6];
pub const BROADCAST: Mac = [0xff; 6];

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
/// Header of a frame with room for offload information, as machines use it.
const VNET_HEADER: usize = 10;

pub struct Node {
    tap: File,
    pub mac: Mac,
    pub address: Ipv4Addr,
}

impl Node {
    /// Opens the tap as User Mode Linux does, and waits until the bridge forwards to it.
    pub fn open(namespace: &Path, port: &Port) -> Self {
        let events = LinkEvents::subscribe(namespace);
        let tap = in_namespace(namespace, || {
            let tap = OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
            let mut request = [0_u8; 40];
            request[..port.tap.len()].copy_from_slice(port.tap.as_bytes());
            let flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as u16;
            request[16..18].copy_from_slice(&flags.to_ne_bytes());
            // SAFETY: the request reads and writes one `struct ifreq`, which has 40 bytes.
            let answer = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETIFF as _, &mut request) };
            assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
            tap
        });
        while !forwards(namespace, &port.tap) {
            events.wait();
        }
        let number = port.address.octets()[3] - 10;
        Self { tap: tap.unwrap(), mac: [2, 0, 0, 0, 0, number], address: port.address }
    }

    pub fn send(&self, frame: &[u8]) {
        let mut bytes = vec![0; VNET_HEADER];
        bytes.extend_from_slice(frame);
        // A frame that a filter drops is still a frame that was sent.
        (&self.tap).write_all(&bytes).unwrap();
    }

    /// Waits for the next frame that is sent to this node.
    pub fn receive(&self) -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let length = (&self.tap).read(&mut bytes).unwrap();
        bytes[VNET_HEADER..length].to_vec()
    }

    /// An IPv4 frame of a protocol that no one uses (253), saying `text`.
    pub fn ipv4(&self, to: Mac, destination: Ipv4Addr, text: &str) -> Vec<u8> {
        ipv4(self.mac, to, self.address, destination, text)
    }

    pub fn arp(&self, operation: u8, target: Ipv4Addr) -> Vec<u8> {
        arp(self.mac, BROADCAST, operation, (self.mac, self.address), ([0; 6], target))
    }
}

fn forwards(namespace: &Path, tap: &str) -> bool {
    let namespace = namespace.file_name().unwrap();
    let mut ip = Command::new("ip");
    let output = ip.arg("-n").arg(namespace).args(["-d", "link", "show", tap]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("state forwarding")
}

/// The kernel's notices of changed links in a namespace.
struct LinkEvents(OwnedFd);

impl LinkEvents {
    fn subscribe(namespace: &Path) -> Self {
        let socket = in_namespace(namespace, || {
            // SAFETY: no memory is passed; the new descriptor is owned right away.
            let socket = unsafe {
                let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
                let number = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE);
                assert!(number >= 0, "{}", std::io::Error::last_os_error());
                OwnedFd::from_raw_fd(number)
            };
            // `struct sockaddr_nl`: family, padding, port (given by the kernel), groups.
            let address = [libc::AF_NETLINK as u32, 0, libc::RTMGRP_LINK as u32];
            // SAFETY: the address is a `struct sockaddr_nl` of 12 bytes.
            let answer = unsafe {
                let length = size_of_val(&address) as u32;
                libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length)
            };
            assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
            socket
        });
        Self(socket.unwrap())
    }

    fn wait(&self) {
        let mut bytes = [0_u8; 65_536];
        let length = rustix::io::read(&self.0, &mut bytes).unwrap();
        assert!(length > 0);
    }
}

fn ethernet(from: Mac, to: Mac, kind: u16) -> Vec<u8> {
    [&to[..], &from[..], &kind.to_be_bytes()].concat()
}

pub fn ipv4(from: Mac, to: Mac, source: Ipv4Addr, destination: Ipv4Addr, text: &str) -> Vec<u8> {
    let mut frame = ethernet(from, to, 0x0800);
    let mut header = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&(20 + text.len() as u16).to_be_bytes());
    header[12..16].copy_from_slice(&source.octets());
    header[16..].copy_from_slice(&destination.octets());
    let sum: u32 =
        header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(text.as_bytes());
    frame
}

pub fn arp(
    from: Mac,
    to: Mac,
    operation: u8,
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
) -> Vec<u8> {
    let mut frame = ethernet(from, to, 0x0806);
    frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
    for (mac, address) in [sender, target] {
        frame.extend_from_slice(&mac);
        frame.extend_from_slice(&address.octets());
    }
    frame
}

/// The text of a frame that [`ipv4`] made.
pub fn text(frame: &[u8]) -> &str {
    std::str::from_utf8(&frame[34..]).unwrap()
}
