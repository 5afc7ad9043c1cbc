//! A port of a node, published on the host: a TCP forwarder in user space.
//!
//! Each connection is one task that copies both ways until both sides have ended; the end
//! of one direction is passed on and the other goes on. When the node cannot be
//! reached, the client's connection is reset, so that it does not look like an empty answer.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::NetError;
use crate::error::io as fault;
use crate::namespace::in_namespace;

/// Bytes held for each direction of a connection.
const BUFFER: usize = 64 << 10;
/// Pause after a failed `accept` (no descriptors left), so that it does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// A published port; dropping it ends the listener and all its connections.
#[derive(Debug)]
pub struct PublishedPort {
    listen: SocketAddr,
    task: AbortHandle,
}

impl PublishedPort {
    /// The address listened on; with the port that was given when 0 was asked for.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }
}

impl Drop for PublishedPort {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens on `listen` on the host and forwards each connection to `target` inside
/// the namespace. The namespace is entered anew for each connection, so it may be
/// removed and made again meanwhile.
pub async fn publish(
    listen: SocketAddr,
    namespace: PathBuf,
    target: SocketAddrV4,
) -> Result<PublishedPort, NetError> {
    let listener = TcpListener::bind(listen).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => NetError::AddressInUse { listen },
        _ => fault("listen on", listen)(error),
    })?;
    let listen = listener.local_addr().map_err(fault("listen on", listen))?;
    let task = tokio::spawn(serve(listener, namespace.into(), target)).abort_handle();
    Ok(PublishedPort { listen, task })
}

/// Ends only by being aborted; its connections' tasks end with it.
async fn serve(listener: TcpListener, namespace: Arc<Path>, target: SocketAddrV4) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn(forward(client, Arc::clone(&namespace), target));
                }
                Err(error) => {
                    tracing::warn!(%target, %error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn forward(mut client: TcpStream, namespace: Arc<Path>, target: SocketAddrV4) {
    let mut node = match connect(namespace, target).await {
        Ok(node) => node,
        Err(error) => {
            tracing::warn!(%target, %error, "a published port cannot reach its node");
            reset(client);
            return;
        }
    };
    // Small messages are not held back to be sent together.
    let _ = (client.set_nodelay(true), node.set_nodelay(true));
    let copy =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut node, BUFFER, BUFFER).await;
    if let Err(error) = copy {
        tracing::debug!(%target, %error, "a forwarded connection broke");
        reset(client);
        reset(node);
    }
}

async fn connect(namespace: Arc<Path>, target: SocketAddrV4) -> Result<TcpStream, NetError> {
    let make = move || in_namespace(&namespace, TcpSocket::new_v4);
    let socket = tokio::task::spawn_blocking(make)
        .await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?
        .map_err(fault("make a socket for", target))?;
    socket.connect(target.into()).await.map_err(fault("connect to", target))
}

/// Closes a connection so that the other side sees an error, not an end.
fn reset(stream: TcpStream) {
    let aborted: io::Result<()> =
        set_socket_linger(&stream, Some(Duration::ZERO)).map_err(Into::into);
    if let Err(error) = aborted {
        tracing::debug!(%error, "a connection is closed instead of reset");
    }
    drop(stream);
}
