//! The site's network on one host: a network namespace with a bridge, which carries
//! the install server's address, and one tap for each node.
//!
//! ```text
//!   host's loopback            /run/netns/gg-SITE-ID
//!   127.0.0.1:PORT ──publish──▶ site0 (bridge, server's address)
//!                                ├── tap of ce   ◀─ filter: only ce's MAC and address may come in
//!                                ├── tap of wn1  ◀─ filter: only wn1's …
//!                                └── …
//! ```
//!
//! A VMM may make its node's interface itself, when its machine starts; the tap's name is left free for it
//! then ([`Card`]).
//!
//! The namespace has no way out: no interface of the host is in it and none of its
//! interfaces is on the host. It outlives the process that made it. [`ensure`] brings
//! it into the planned state from any other; [`remove`] leaves nothing of it.
//!
//! It never touches an interface of the host and never changes the namespace of a
//! thread that others use. VMMs, users and policy are not its business.

mod changes;
mod error;
mod filter;
mod namespace;
mod netlink;
mod plan;
mod publish;
mod site;
mod tap;

pub use changes::{Change, Changes, Warning};
pub use error::NetError;
pub use namespace::{enter_in_child, exists, in_namespace, namespace_path, remove};
pub use plan::{Card, NetworkPlan, Port};
pub use publish::{PublishedPort, publish};
pub use site::{Usage, ensure, make_ready, usage};
