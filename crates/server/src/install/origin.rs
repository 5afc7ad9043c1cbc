//! Where a request comes from: a node's token is worth nothing in another node's machine.
//!
//! No machine can send from an address that is not its own (`gridgate-net`, anti-spoofing), so the address at the other
//! end of a connection tells the machine. Addresses that no node has are the host's, and not looked at.

use std::net::IpAddr;

use axum::http::{Extensions, StatusCode};
use axum::response::Response;

use super::routes::refuse;
use crate::site::Site;

/// The address at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Refuses a request with the token of `node` out of another node's machine.
pub fn check(site: &Site, parts: &Extensions, node: &str) -> Result<(), Box<Response>> {
    let Some(Peer(address)) = parts.get::<Peer>() else { return Ok(()) };
    let Some(from) = site.node_at(*address).filter(|from| from != node) else { return Ok(()) };
    let what = format!("this is a token of {node}, and the request comes from {from}'s machine");
    tracing::warn!(%address, "refused: {what}");
    Err(Box::new(refuse(StatusCode::FORBIDDEN, what)))
}
