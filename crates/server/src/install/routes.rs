//! The agents' requests; see `gridgate_protocol::agent_api` for the table.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use gridgate_grid::ca::CertificateRequest;
use gridgate_protocol::agent_api::{Report, RunResult};
use gridgate_protocol::drift::DriftReport;
use gridgate_protocol::node_profile::Content;
use serde::Deserialize;

use super::origin;
use crate::site::Site;

/// How long a work request is held back when there is nothing to do.
const HOLD: Duration = Duration::from_secs(25);

/// Largest body taken from an agent, bytes.
const BODY_LIMIT: usize = 1 << 20;

#[derive(Clone)]
struct Caller(String);

/// The routes of one site's install server.
pub fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/v1/node/profile", get(profile))
        .route("/v1/node/secrets/{name}", get(secret))
        .route("/v1/node/certificates/{name}", post(certificate))
        .route("/v1/node/packages", get(packages))
        .route("/v1/node/packages/{sha256}", get(package))
        .route("/v1/node/report", post(report))
        .route("/v1/node/work", get(work))
        .route("/v1/node/runs/{id}", post(run_result))
        .route("/v1/node/drift/{id}", post(drift))
        .layer(middleware::from_fn_with_state(site.clone(), authenticate))
        .with_state(site.clone())
        .merge(super::installation_routes::router(site))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

pub fn refuse(status: StatusCode, why: impl Into<String>) -> Response {
    (status, Json(serde_json::json!({ "error": why.into() }))).into_response()
}

async fn authenticate(State(site): State<Arc<Site>>, mut request: Request, next: Next) -> Response {
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let Some(node) = token.and_then(|token| site.links.node_of(token)) else {
        return refuse(StatusCode::UNAUTHORIZED, "no node holds this token");
    };
    if let Err(answer) = origin::check(&site, request.extensions(), &node) {
        return *answer;
    }
    site.links.touch(&node);
    request.extensions_mut().insert(Caller(node));
    next.run(request).await
}

async fn profile(State(site): State<Arc<Site>>, Extension(caller): Extension<Caller>) -> Response {
    match site.links.published(&caller.0) {
        Some(published) => Json(published).into_response(),
        None => refuse(StatusCode::NOT_FOUND, "no profile is published for this node"),
    }
}

async fn secret(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Response {
    let named = site.links.published(&caller.0).is_some_and(|published| {
        published.profile.files.iter().any(|file| file.content == Content::Secret(name.clone()))
    });
    if !named {
        return refuse(StatusCode::NOT_FOUND, "this node's profile names no such secret");
    }
    let secret = tokio::task::spawn_blocking(move || site.secret(&name)).await;
    match secret {
        Ok(Ok(bytes)) => bytes.into_response(),
        Ok(Err(failure)) => {
            tracing::error!(node = caller.0, "{}: {}", failure.what, failure.why.join(": "));
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "the secret could not be read")
        }
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the secret could not be read"),
    }
}

async fn certificate(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    csr: String,
) -> Response {
    let wanted = site
        .links
        .published(&caller.0)
        .and_then(|published| published.profile.certificates.into_iter().find(|c| c.name == name));
    let Some(wanted) = wanted else {
        return refuse(StatusCode::NOT_FOUND, "this node's profile names no such certificate");
    };
    let request =
        CertificateRequest { kind: wanted.kind, subject: wanted.subject, dns: wanted.dns };
    let signed = tokio::task::spawn_blocking(move || site.sign(&csr, &request)).await;
    match signed {
        Ok(Ok(pem)) => pem.into_response(),
        Ok(Err(failure)) => refuse(StatusCode::BAD_REQUEST, failure.why.join(": ")),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "signing failed"),
    }
}

async fn packages(State(site): State<Arc<Site>>, Extension(caller): Extension<Caller>) -> Response {
    match site.links.packages(&caller.0) {
        Some(list) => Json(list).into_response(),
        None => refuse(StatusCode::NOT_FOUND, "no packages are locked for this node"),
    }
}

async fn package(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    Path(sha256): Path<String>,
    headers: HeaderMap,
) -> Response {
    let listed = site
        .links
        .packages(&caller.0)
        .is_some_and(|list| list.packages.iter().any(|package| package.sha256 == sha256));
    let path = if listed { site.package_file(&sha256) } else { None };
    let Some(path) = path else {
        return refuse(StatusCode::NOT_FOUND, "this node has no such package");
    };
    match super::body::file(&path, &headers, &sha256).await {
        Ok(response) => response,
        Err(e) => refuse(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

async fn report(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    match serde_json::from_slice::<Report>(&body) {
        Ok(report) => {
            crate::drift::tell_put_back(&site, &caller.0, &report);
            site.links.report(&caller.0, report);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(e) => refuse(StatusCode::BAD_REQUEST, e.to_string()),
    }
}

#[derive(Deserialize)]
struct Applied {
    applied: Option<String>,
    packages: Option<String>,
}

async fn work(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Applied>,
) -> Response {
    let Some(mut changes) = site.links.watch_node(&caller.0) else {
        return refuse(StatusCode::NOT_FOUND, "no profile is published for this node");
    };
    let deadline = tokio::time::Instant::now() + HOLD;
    loop {
        changes.mark_unchanged();
        let (applied, packages) = (query.applied.as_deref(), query.packages.as_deref());
        if let Some(work) = site.links.work(&caller.0, applied, packages) {
            return Json(work).into_response();
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { break },
            () = tokio::time::sleep_until(deadline) => break,
        }
    }
    match site.links.no_work(&caller.0) {
        Some(work) => Json(work).into_response(),
        None => refuse(StatusCode::NOT_FOUND, "no profile is published for this node"),
    }
}

async fn drift(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<u64>,
    body: Bytes,
) -> Response {
    match serde_json::from_slice::<DriftReport>(&body) {
        Ok(report) => {
            site.links.finish_look(&caller.0, id, report);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(e) => refuse(StatusCode::BAD_REQUEST, e.to_string()),
    }
}

async fn run_result(
    State(site): State<Arc<Site>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<u64>,
    body: Bytes,
) -> Response {
    match serde_json::from_slice::<RunResult>(&body) {
        Ok(result) => {
            site.links.finish_run(&caller.0, id, result);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(e) => refuse(StatusCode::BAD_REQUEST, e.to_string()),
    }
}
