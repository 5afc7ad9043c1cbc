//! Gives the node its address, its default route and its name. Never resolves
//! names and leaves everything else about the network to the profile.

use std::fs;
use std::io;
use std::path::Path;

use gridgate_protocol::agent_api::Identity;

use crate::netlink::Netlink;

/// Why the network could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("no interface has the address {mac} yet")]
    NoInterface { mac: String },
    #[error("cannot {what} of interface {interface}: {source}")]
    Set { what: &'static str, interface: String, source: io::Error },
    #[error("cannot set the host name to {name}: {source}")]
    HostName { name: String, source: io::Error },
}

/// Sets address, route and host name after `identity`. Doing it twice is harmless.
pub(crate) fn bring_up(identity: &Identity) -> Result<(), NetworkError> {
    set_host_name(&identity.node)?;
    let no_interface = || NetworkError::NoInterface { mac: identity.mac.clone() };
    let name =
        interface_by_mac(Path::new("/sys/class/net"), &identity.mac).ok_or_else(no_interface)?;
    let index = interface_index(&name).ok_or_else(no_interface)?;
    let set = |what| {
        let interface = name.clone();
        move |source| NetworkError::Set { what, interface, source }
    };
    let netlink = Netlink::open().map_err(set("open the routing socket"))?;
    if let Some(loopback) = interface_index("lo") {
        netlink.up(loopback).map_err(set("bring up the loopback"))?;
    }
    netlink
        .address(index, identity.address, identity.prefix_length)
        .map_err(set("set the address"))?;
    netlink.up(index).map_err(set("change the state"))?;
    netlink.default_route(index, identity.server).map_err(set("set the default route"))
}

fn set_host_name(name: &str) -> Result<(), NetworkError> {
    let uname = rustix::system::uname();
    let current = uname.nodename().to_string_lossy();
    // A fully qualified name (from /etc/hostname) is left alone.
    if current == name || current.split('.').next() == Some(name) {
        return Ok(());
    }
    rustix::system::sethostname(name.as_bytes())
        .map_err(|source| NetworkError::HostName { name: name.to_owned(), source: source.into() })
}

/// Name of the interface with this Ethernet address.
fn interface_by_mac(folder: &Path, mac: &str) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().find_map(|entry| {
        let address = fs::read_to_string(entry.path().join("address")).ok()?;
        let name = entry.file_name().into_string().ok()?;
        address.trim().eq_ignore_ascii_case(mac).then_some(name)
    })
}

fn interface_index(name: &str) -> Option<u32> {
    let path = Path::new("/sys/class/net").join(name).join("ifindex");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_is_found_by_its_address() {
        let folder = tempfile::tempdir().unwrap();
        for (name, mac) in [("lo", "00:00:00:00:00:00"), ("vec0", "02:67:00:00:00:14")] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("address"), format!("{mac}\n")).unwrap();
        }
        let found = interface_by_mac(folder.path(), "02:67:00:00:00:14");
        assert_eq!(found.as_deref(), Some("vec0"));
        assert_eq!(interface_by_mac(folder.path(), "02:00:00:00:00:99"), None);
    }
}
