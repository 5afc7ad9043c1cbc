//! A site network of the test's own, gone when dropped, and nodes that speak raw frames.
#![allow(dead_code, reason = "no test file uses all of it")]

pub mod node;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use gridgate_net::{Card, NetworkPlan, Port, namespace_path, remove};

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// A plan with a namespace that nobody else has; it is removed with this.
pub struct Network(pub NetworkPlan);

impl Network {
    /// A network with the nodes n1, n2 … at 198.51.100.11, .12 …
    pub fn of(nodes: u8) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(NetworkPlan {
            namespace: format!("ggt-{}-{number}", std::process::id()),
            bridge: "site0".into(),
            address: SERVER,
            prefix_length: 24,
            ports: (1..=nodes).map(port).collect(),
        })
    }

    pub fn path(&self) -> PathBuf {
        namespace_path(&self.0.namespace)
    }
}

pub fn port(number: u8) -> Port {
    Port {
        node: format!("n{number}"),
        tap: format!("tap-n{number}"),
        mac: format!("02:00:00:00:00:{number:02x}"),
        address: Ipv4Addr::new(198, 51, 100, 10 + number),
        owner_uid: 65_000 + u32::from(number),
        card: Card::Tap,
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let name = self.0.namespace.clone();
        // Its own thread and runtime: the test's may be the one that is failing.
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(remove(&name))
        });
        let removed = removal.join();
        if !std::thread::panicking() {
            removed.unwrap().unwrap();
        }
    }
}
