//! The install server: what the agents talk to, over HTTPS on the site's bridge.
//!
//! ```text
//! agent ──token──> link of its node ──> profile, secrets, certificates, packages
//!   └── report ──> link ──> whoever waits for the node        work <── link <── published version, runs
//! ```
//!
//! A node is known by its token, which is refused from another node's machine; what it may ask for is what its own
//! profile names.

pub mod archive_service;
mod body;
pub mod installation;
mod installation_routes;
pub mod link;
mod origin;
pub mod record;
mod routes;
mod tls;

pub use archive_service::ArchiveService;
pub use installation::Installations;
pub use link::Links;
pub use tls::{InstallServer, serve, serve_on};
