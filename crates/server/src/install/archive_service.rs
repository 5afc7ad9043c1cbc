//! The package service: the depot as a Debian archive for the nodes' own apt, plain HTTP on port 8141 of the
//! install server's address. apt in the node checks Debian's signatures itself, so no token is asked for; what
//! is served is what anybody may have of Debian.
//!
//! | path | answer |
//! |---|---|
//! | `/debian/dists/SUITE/InRelease`, `…/Packages.xz`, `…/by-hash/SHA256/…` | as stored in the depot |
//! | `/debian/pool/…` | from the depot; what the lock or an index names and is missing is fetched first |

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gridgate_depot::{DepotError, Pool, PoolFile, is_out_of_reach};
use gridgate_protocol::site_api::ErrorKind;

use super::body;
use crate::failure::{Failure, caused};
use crate::images;
use crate::site::Site;

/// Where it listens. The nodes' `sources.list.d` names it too (component `base`).
pub const PORT: u16 = 8141;

/// A running package service; it ends when dropped.
pub struct ArchiveService {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for ArchiveService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shelf {
    site: Arc<Site>,
    pool: Pool,
}

/// Starts the package service of a site on its bridge's address.
pub fn serve(
    site: &Arc<Site>,
    namespace: &str,
    address: Ipv4Addr,
) -> Result<ArchiveService, Failure> {
    let fault = |e: &dyn std::error::Error| {
        let what = format!("the package service could not listen on {address}:{PORT}");
        caused(ErrorKind::Host, what, e)
    };
    let path = gridgate_net::namespace_path(namespace);
    let listener = gridgate_net::in_namespace(&path, move || {
        TcpListener::bind(SocketAddrV4::new(address, PORT))
    })
    .map_err(|e| fault(&e))?
    .map_err(|e| fault(&e))?;
    listener.set_nonblocking(true).map_err(|e| fault(&e))?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|e| fault(&e))?;
    let pool = images::depot(&site.home.depot())?.pool();
    let router = router(Arc::new(Shelf { site: site.clone(), pool }));
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the package service ended");
        }
    });
    Ok(ArchiveService { task })
}

fn router(shelf: Arc<Shelf>) -> Router {
    // `get` answers HEAD too.
    Router::new()
        .route("/debian/dists/{*path}", get(index))
        .route("/debian/pool/{*path}", get(package))
        .with_state(shelf)
}

async fn index(
    State(shelf): State<Arc<Shelf>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    let found = tokio::task::spawn_blocking(move || shelf.pool.index_file(&path)).await;
    match found {
        Ok(Some(file)) => answer(&file, &headers).await,
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn package(
    State(shelf): State<Arc<Shelf>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    let path = format!("pool/{path}");
    let name = path.clone();
    match tokio::task::spawn_blocking(move || shelf.package(&path)).await {
        Ok(Ok(Some(file))) => answer(&file, &headers).await,
        Ok(Ok(None)) => StatusCode::NOT_FOUND.into_response(),
        Ok(Err(error)) => {
            tracing::warn!(%error, name, "a package could not be served");
            let status = match is_out_of_reach(&error) {
                true => StatusCode::SERVICE_UNAVAILABLE,
                false => StatusCode::BAD_GATEWAY,
            };
            (status, format!("{error}\n")).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl Shelf {
    fn package(&self, path: &str) -> Result<Option<PoolFile>, DepotError> {
        let lock = images::lock(&self.site.dir).ok().flatten();
        let wanted = self.site.wanted();
        let profile = wanted.as_ref().and_then(|wanted| wanted.site.mirror.as_deref());
        let mirrors = images::mirrors(None, profile, &Default::default()).unwrap_or_default();
        self.pool.package(path, lock.as_ref(), &mirrors)
    }
}

/// The file, or word that the client has it already.
async fn answer(file: &PoolFile, headers: &HeaderMap) -> Response {
    let has = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if has.is_some_and(|tags| tags == "*" || tags.contains(&format!("\"{}\"", file.tag))) {
        let tag = format!("\"{}\"", file.tag);
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    match body::file(&file.path, headers, &file.tag).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(%error, path = %file.path.display(), "a file could not be served");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
