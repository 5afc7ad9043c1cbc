//! The installers' requests; see `gridgate_protocol::install_api` for the table. An installer gets what its own
//! order names, and nothing else.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use gridgate_depot::{ImagePieces, PieceFound};
use gridgate_protocol::install_api::{Begin, Held, ImageManifest, Method, Piece, Progress};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::body;
use super::installation::{Installation, Refused};
use super::origin;
use super::routes::refuse;
use crate::failure::Failure;
use crate::observe::{self, Found};
use crate::site::Site;
use crate::wait::blocking;
use crate::{disks, images, software};

/// Pieces in memory at once, over all installers: at most 64 MiB.
const PIECES: usize = 16;

/// What the routes share.
struct Served {
    site: Arc<Site>,
    /// The image last asked for: its manifest is large, and asked for with each piece.
    pieces: Mutex<Option<Arc<ImagePieces>>>,
    places: Arc<Semaphore>,
    /// Packages whose hash was found right, with what their file was then.
    whole: Mutex<HashMap<String, Stamp>>,
}

/// Length, inode and time of the last change of a file.
type Stamp = (u64, u64, i64, i64);

/// The routes of one site.
pub fn router(site: Arc<Site>) -> Router {
    let served = Served {
        site,
        pieces: Mutex::default(),
        places: Arc::new(Semaphore::new(PIECES)),
        whole: Mutex::default(),
    };
    Router::new()
        .route("/v1/install/begin", post(begin))
        .route("/v1/install/progress", post(progress))
        .route("/v1/install/image", get(image))
        .route("/v1/install/image/pieces/{number}", get(piece))
        .route("/v1/install/packages/{sha256}", get(package))
        .route("/v1/install/overlay", get(overlay))
        .route("/v1/install/seed", get(seed))
        .route("/v1/install/done", post(done))
        .with_state(Arc::new(served))
}

fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn refused(refused: Refused) -> Response {
    match refused {
        Refused::Unknown => refuse(StatusCode::UNAUTHORIZED, "no installation has this token"),
        Refused::Held(error) => (StatusCode::CONFLICT, Json(Held { error })).into_response(),
        Refused::GivenUp => refuse(StatusCode::GONE, "this installation was given up"),
        Refused::Fault(what) => refuse(StatusCode::INTERNAL_SERVER_ERROR, what),
    }
}

fn fault(node: &str, failure: &Failure) -> Response {
    let why = failure.why.join(": ");
    tracing::error!(node, "{}: {why}", failure.what);
    refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {why}", failure.what))
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Box<Response>> {
    let refuse = |e: serde_json::Error| Box::new(refuse(StatusCode::BAD_REQUEST, e.to_string()));
    serde_json::from_slice(body).map_err(refuse)
}

/// The node that installs itself with the session of this request.
struct Installer {
    node: String,
    kept: Installation,
}

impl FromRequestParts<Arc<Served>> for Installer {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        served: &Arc<Served>,
    ) -> Result<Installer, Response> {
        let installations = &served.site.installations;
        let node = token(&parts.headers).ok_or(Refused::Unknown);
        let node = node.and_then(|token| installations.node_of(token)).map_err(refused)?;
        origin::check(&served.site, &parts.extensions, &node).map_err(|answer| *answer)?;
        let kept = installations.kept(&node).ok_or_else(|| refused(Refused::Unknown))?;
        Ok(Installer { node, kept })
    }
}

async fn begin(
    State(served): State<Arc<Served>>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let begin: Begin = match read(&body) {
        Ok(begin) => begin,
        Err(answer) => return *answer,
    };
    let Some(token) = token(&headers).map(str::to_owned) else { return refused(Refused::Unknown) };
    // Looked at before the token is spent.
    if let Some(node) = served.site.installations.bound_to(&token)
        && let Err(answer) = origin::check(&served.site, &extensions, &node)
    {
        return *answer;
    }
    let begun = blocking(move || served.site.installations.begin(&token, &begin)).await;
    match begun {
        Ok(Ok(order)) => Json(order).into_response(),
        Ok(Err(why)) => refused(why),
        Err(failure) => fault("", &failure),
    }
}

async fn progress(
    State(served): State<Arc<Served>>,
    installer: Installer,
    body: Bytes,
) -> Response {
    let progress: Progress = match read(&body) {
        Ok(progress) => progress,
        Err(answer) => return *answer,
    };
    let told = blocking(move || {
        let site = &served.site;
        let line = last_line(site, &installer.node);
        site.installations.progress(&installer.node, &progress, line);
    });
    match told.await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(failure) => fault("", &failure),
    }
}

fn last_line(site: &Site, node: &str) -> Option<String> {
    match observe::machine(&site.dir.node(node)) {
        Found::Running(machine, _) => machine.last_line(),
        _ => None,
    }
}

async fn done(State(served): State<Arc<Served>>, installer: Installer, body: Bytes) -> Response {
    let progress: Progress = match read(&body) {
        Ok(progress) => progress,
        Err(answer) => return *answer,
    };
    let node = installer.node.clone();
    let noted = blocking(move || served.site.installations.done(&installer.node, &progress)).await;
    match noted.and_then(|noted| noted) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(failure) => fault(&node, &failure),
    }
}

impl Served {
    /// The pieces of this installation's image.
    fn pieces(&self, key: &str) -> Result<Arc<ImagePieces>, Failure> {
        let mut last = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = last.as_ref().filter(|pieces| pieces.key == key) {
            return Ok(found.clone());
        }
        let depot = images::depot(&self.site.home.depot())?;
        let found = depot.kept_pieces(key).map(Arc::new).ok_or_else(|| {
            let what = format!("the depot no longer holds image {key} in pieces");
            crate::failure::failure(gridgate_protocol::site_api::ErrorKind::Host, what)
        })?;
        *last = Some(found.clone());
        Ok(found)
    }
}

fn image_key(installer: &Installer) -> Result<String, Box<Response>> {
    match installer.kept.order.method {
        Method::Image => Ok(installer.kept.installed.image.clone()),
        Method::Packages => {
            Err(Box::new(refuse(StatusCode::NOT_FOUND, "this node is installed from packages")))
        }
    }
}

async fn image(State(served): State<Arc<Served>>, installer: Installer) -> Response {
    let key = match image_key(&installer) {
        Ok(key) => key,
        Err(answer) => return *answer,
    };
    match blocking(move || served.pieces(&key)).await.and_then(|found| found) {
        Ok(found) => {
            let piece = |piece: &gridgate_depot::ImagePiece| Piece {
                offset: piece.offset,
                length: piece.length,
                stored: piece.stored,
                sha256: piece.sha256.clone(),
            };
            let pieces = found.pieces.iter().map(piece).collect();
            Json(ImageManifest { key: found.key.clone(), size: found.size, pieces }).into_response()
        }
        Err(failure) => fault(&installer.node, &failure),
    }
}

async fn piece(
    State(served): State<Arc<Served>>,
    installer: Installer,
    Path(number): Path<usize>,
) -> Response {
    let key = match image_key(&installer) {
        Ok(key) => key,
        Err(answer) => return *answer,
    };
    let Ok(place) = served.places.clone().acquire_owned().await else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the install server ends");
    };
    let read = blocking(move || {
        let pieces = served.pieces(&key)?;
        if number >= pieces.pieces.len() {
            return Ok(None);
        }
        let read = pieces.read(number).map_err(|e| {
            let what = format!("piece {number} of image {key} cannot be served");
            crate::failure::caused(gridgate_protocol::site_api::ErrorKind::Host, what, &e)
        })?;
        Ok(Some(read))
    });
    match read.await.and_then(|read| read) {
        Ok(Some((bytes, found))) => {
            if found == PieceFound::Mended {
                tracing::warn!(number, "a damaged piece of an image was cut again");
            }
            held(bytes, place)
        }
        Ok(None) => refuse(StatusCode::NOT_FOUND, "the image has no such piece"),
        Err(failure) => fault(&installer.node, &failure),
    }
}

/// An answer whose place is free again when it was sent.
fn held(bytes: Vec<u8>, place: tokio::sync::OwnedSemaphorePermit) -> Response {
    let length = bytes.len().to_string();
    let whole = futures_util::stream::once(async move {
        let bytes = Bytes::from(bytes);
        drop(place);
        Ok::<_, std::convert::Infallible>(bytes)
    });
    ([(header::CONTENT_LENGTH, length)], Body::from_stream(whole)).into_response()
}

async fn package(
    State(served): State<Arc<Served>>,
    installer: Installer,
    Path(sha256): Path<String>,
    headers: HeaderMap,
) -> Response {
    let order = &installer.kept.order;
    let listed = order.base.iter().chain(&order.packages).any(|package| package.sha256 == sha256);
    let path = if listed { served.site.package_file(&sha256) } else { None };
    let Some(path) = path else {
        return refuse(StatusCode::NOT_FOUND, "this installation has no such package");
    };
    let (looked, wanted) = (path.clone(), sha256.clone());
    let whole = blocking(move || served.is_whole(&looked, &wanted)).await;
    match whole {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            let what = format!(
                "package {sha256} is damaged in the depot; `gridgate install {} --resume` fetches it anew",
                installer.node
            );
            tracing::error!("{what}");
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, what);
        }
        Ok(Err(e)) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
        Err(failure) => return fault(&installer.node, &failure),
    }
    match body::file(&path, &headers, &sha256).await {
        Ok(answer) => answer,
        Err(e) => refuse(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

impl Served {
    /// Whether a stored package is what its name says; looked at once, and again when its file has changed.
    fn is_whole(&self, path: &FilePath, sha256: &str) -> io::Result<bool> {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        let stamp = (meta.len(), meta.ino(), meta.mtime(), meta.mtime_nsec());
        let known = || self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if known().get(sha256) == Some(&stamp) {
            return Ok(true);
        }
        let mut hash = Sha256::new();
        io::copy(&mut file, &mut hash)?;
        let whole = hex::encode(hash.finalize()) == sha256;
        if whole {
            known().insert(sha256.to_owned(), stamp);
        }
        Ok(whole)
    }
}

async fn overlay(State(served): State<Arc<Served>>, installer: Installer) -> Response {
    let (site, node) = (served.site.clone(), installer.node.clone());
    match blocking(move || software::overlay(&site, &node)).await.and_then(|found| found) {
        Ok(request) => {
            let write = move |out: &mut dyn io::Write| {
                gridgate_depot::write_overlay(&request, out).map_err(io::Error::other)
            };
            ([(header::CONTENT_TYPE, "application/x-tar")], body::written(write)).into_response()
        }
        Err(failure) => fault(&installer.node, &failure),
    }
}

async fn seed(State(served): State<Arc<Served>>, installer: Installer) -> Response {
    let (site, node) = (served.site.clone(), installer.node.clone());
    match blocking(move || disks::seed(&site, &node)).await.and_then(|found| found) {
        Ok(entries) => {
            let write = move |out: &mut dyn io::Write| {
                gridgate_disk::write_seed_archive(&entries, out).map_err(io::Error::other)
            };
            ([(header::CONTENT_TYPE, "application/x-tar")], body::written(write)).into_response()
        }
        Err(failure) => fault(&installer.node, &failure),
    }
}
