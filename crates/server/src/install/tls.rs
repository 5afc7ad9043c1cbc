//! The install server's listener: a socket made inside the site's network namespace, TLS with a
//! certificate of the site's CA, HTTP/1.1 on top.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use gridgate_protocol::agent_api::{PORT, SERVER_NAME};
use gridgate_protocol::site_api::ErrorKind;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::origin::Peer;
use super::routes::router;
use crate::failure::{Failure, caused};
use crate::site::Site;

/// Connections served at once: a guest that opens more waits.
const CONNECTIONS: usize = 512;

/// A client that does not finish its handshake or headers in this time is dropped.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// A running install server; it ends when dropped.
pub struct InstallServer {
    task: tokio::task::JoinHandle<()>,
    /// Where it listens.
    pub address: Ipv4Addr,
}

impl Drop for InstallServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts the install server of a site on its bridge's address.
pub fn serve(
    site: &Arc<Site>,
    namespace: &str,
    address: Ipv4Addr,
) -> Result<InstallServer, Failure> {
    let fault = |e: &dyn std::error::Error| {
        caused(
            ErrorKind::Host,
            format!("the install server could not listen on {address}:{PORT}"),
            e,
        )
    };
    let path = gridgate_net::namespace_path(namespace);
    let listener = gridgate_net::in_namespace(&path, move || {
        TcpListener::bind(SocketAddrV4::new(address, PORT))
    })
    .map_err(|e| fault(&e))?
    .map_err(|e| fault(&e))?;
    serve_on(site, listener, address)
}

/// Starts the install server of a site on a socket that listens.
pub fn serve_on(
    site: &Arc<Site>,
    listener: TcpListener,
    address: Ipv4Addr,
) -> Result<InstallServer, Failure> {
    let fault = |e: &dyn std::error::Error| {
        caused(ErrorKind::Host, format!("the install server could not be started on {address}"), e)
    };
    let acceptor = acceptor(site)?;
    listener.set_nonblocking(true).map_err(|e| fault(&e))?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|e| fault(&e))?;
    let router = router(site.clone());
    let task = tokio::spawn(accept(listener, acceptor, router));
    Ok(InstallServer { task, address })
}

async fn accept(listener: tokio::net::TcpListener, acceptor: TlsAcceptor, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    connection(stream, Peer(from.ip()), acceptor, router).await;
                    drop(place);
                });
            }
            Err(e) => {
                tracing::warn!("install server: accept: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: Peer, acceptor: TlsAcceptor, router: Router) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(tls)) = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await else {
        return;
    };
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(120))
        .serve_connection(TokioIo::new(tls), service)
        .await;
    if let Err(e) = served {
        tracing::debug!("install server: connection: {e}");
    }
}

fn acceptor(site: &Site) -> Result<TlsAcceptor, Failure> {
    let what = "the install server's certificate could not be used";
    let identity = site.server_identity(SERVER_NAME)?;
    let fault = |e: &dyn std::error::Error| caused(ErrorKind::Internal, what, e);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| fault(&e))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|e| fault(&e))?;
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| fault(&e))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
