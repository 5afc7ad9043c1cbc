//! The messages that gridgate's parts exchange, and nothing else: no behaviour,
//! no files, no network.
//!
//! | module | between |
//! |---|---|
//! | [`drift`] | agent ↔ install server ↔ site daemon ↔ command line |
//! | [`node_profile`] | compiler → install server → agent |
//! | [`agent_api`] | agent ↔ install server (HTTPS, JSON) |
//! | [`install_api`] | installer ↔ install server (HTTPS, JSON and bytes) |
//! | [`boot`] | site daemon → `/init` (kernel's command line) |
//! | [`depot_api`] | command line ↔ site daemon, about the depot |
//! | [`site_api`] | command line ↔ site daemon (HTTP and JSON on a Unix socket) |
//!
//! All types are serialised with `serde_json`. Unknown fields are accepted when
//! reading, so that an older agent understands a newer server.

pub mod agent_api;
pub mod boot;
pub mod depot_api;
pub mod drift;
pub mod install_api;
pub mod node_profile;
pub mod site_api;
