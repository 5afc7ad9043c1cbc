//! The command line's requests; see `gridgate_protocol::site_api` for the table.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use gridgate_protocol::depot_api::UpdateRequest;
use gridgate_protocol::drift::DriftCommand;
use gridgate_protocol::site_api::{
    ConvertRequest, DownRequest, ErrorKind, ImageExplanation, InstallRequest, RunCommand,
    SiteStatus, SiteSummary, UpRequest,
};
use sha2::{Digest, Sha256};

use crate::begin::{begin, begin_instead};
use crate::daemon::Daemon;
use crate::failure::{Failure, Hint, failure};
use crate::images::Installed;
use crate::install::record;
use crate::observe::{self, Found};
use crate::site::Site;
use crate::task::Task;
use crate::vmms::Vmms;
use crate::wait::blocking;
use crate::wanted::Wanted;
use crate::{
    access, checks, convert, depot_tasks, drift, images, installing, probing, reunion, rollout,
    stop, up, update, wanted,
};

/// Largest request, bytes: a site profile with its components.
const BODY_LIMIT: usize = 16 << 20;

pub(crate) type Answer = Result<Response, Refusal>;

/// A failure before a stream has begun.
pub(crate) struct Refusal(Failure);

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal(failure)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.0.kind {
            ErrorKind::Input => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Busy => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(*self.0)).into_response()
    }
}

/// All routes.
pub fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route("/v1/daemon", get(info))
        .route("/v1/daemon/stop", post(stop_daemon))
        .route("/v1/sites", get(sites))
        .route("/v1/sites/up", post(site_up))
        .route("/v1/sites/{site}", get(status))
        .route("/v1/sites/{site}/down", post(down))
        .route("/v1/sites/{site}/destroy", post(destroy))
        .route("/v1/sites/{site}/check", post(check))
        .route("/v1/sites/{site}/nodes/{node}/install", post(install))
        .route("/v1/sites/{site}/nodes/{node}/installations", get(installations))
        .route("/v1/sites/{site}/update", post(site_update))
        .route("/v1/sites/{site}/nodes/{node}/profile", get(profile))
        .route("/v1/sites/{site}/nodes/{node}/image", get(image))
        .route("/v1/sites/{site}/nodes/{node}/access", get(node_access))
        .route("/v1/sites/{site}/nodes/{node}/run", post(run))
        .route("/v1/sites/{site}/nodes/{node}/drift", post(node_drift))
        .route("/v1/sites/{site}/nodes/{node}/convert", post(node_convert))
        .route("/v1/sites/{site}/nodes/{node}/{action}", post(node_action))
        .merge(depot_tasks::router())
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(daemon)
}

async fn info(State(daemon): State<Arc<Daemon>>) -> Response {
    Json(daemon.info()).into_response()
}

async fn stop_daemon(State(daemon): State<Arc<Daemon>>) -> StatusCode {
    daemon.stop.notify_one();
    StatusCode::NO_CONTENT
}

async fn sites(State(daemon): State<Arc<Daemon>>) -> Answer {
    let summaries = blocking(move || {
        let known = daemon.sites().into_iter();
        known
            .filter_map(|site| {
                let wanted = site.wanted()?;
                let names = wanted.compiled.nodes.iter().map(|node| site.dir.node(&node.name));
                let running =
                    names.filter(|dir| matches!(observe::machine(dir), Found::Running(..))).count();
                Some(SiteSummary {
                    site: site.name.clone(),
                    profile: wanted.source.path.clone(),
                    nodes: wanted.compiled.nodes.len() as u32,
                    running: running as u32,
                })
            })
            .collect::<Vec<_>>()
    })
    .await?;
    Ok(Json(summaries).into_response())
}

/// A site and what it must be.
fn known(daemon: &Daemon, name: &str) -> Result<(Arc<Site>, Arc<Wanted>), Failure> {
    let site = daemon.site(name)?;
    let wanted = site.wanted().ok_or_else(|| {
        failure(ErrorKind::NotFound, format!("{name} has not been brought up yet"))
    })?;
    Ok((site, wanted))
}

fn known_node(
    daemon: &Daemon,
    site: &str,
    node: &str,
) -> Result<(Arc<Site>, Arc<Wanted>), Failure> {
    let (site, wanted) = known(daemon, site)?;
    if wanted.node(node).is_some() {
        return Ok((site, wanted));
    }
    let names: Vec<_> = wanted.compiled.nodes.iter().map(|node| node.name.as_str()).collect();
    let mut unknown = failure(ErrorKind::NotFound, format!("{} has no node {node}", site.name));
    unknown.hint = Some(format!("its nodes: {}", names.join(", ")));
    Err(unknown)
}

async fn status(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Answer {
    let (site, wanted) = known(&daemon, &name)?;
    Ok(Json(site_status(&site, &wanted).await?).into_response())
}

pub(crate) async fn site_status(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
) -> Result<SiteStatus, Failure> {
    reunion::wait(site, wanted).await?;
    let (site, wanted) = (site.clone(), wanted.clone());
    blocking(move || observe::site(&site, &wanted)).await
}

async fn site_up(State(daemon): State<Arc<Daemon>>, Json(request): Json<UpRequest>) -> Answer {
    let source = request.source.clone();
    let name = blocking(move || wanted::check(&source)).await??;
    let site = daemon.site_or_new(&name);
    let key = request_key(&request);
    let title = if request.plan_only { "plan" } else { "up" };
    begin(&site, title, key, |site, task| async move {
        probing::unasked(&site, &request.source, &task).await?;
        up::run(&site, request, &task).await
    })
}

/// Tells equal requests from others.
pub(crate) fn request_key(request: &impl serde::Serialize) -> String {
    let json = serde_json::to_vec(request).unwrap_or_default();
    hex::encode(Sha256::digest(json))
}

async fn down(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>, body: Bytes) -> Answer {
    let (site, _) = known(&daemon, &name)?;
    let limit = up::limit(down_request(&body)?.limit_s);
    begin_instead(&site, "down", "", move |site, task| async move {
        stop::all(&site, limit, &task).await
    })
}

fn down_request(body: &Bytes) -> Result<DownRequest, Failure> {
    if body.is_empty() {
        return Ok(DownRequest::default());
    }
    serde_json::from_slice(body)
        .map_err(|e| crate::failure::caused(ErrorKind::Input, "the request could not be read", &e))
}

async fn destroy(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Answer {
    let site = daemon.site(&name)?;
    begin_instead(&site, "destroy", "", move |site, task| async move {
        stop::destroy(&site, &task).await?;
        daemon.forget(&site.name);
        Ok(true)
    })
}

async fn check(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Answer {
    let (site, wanted) = known(&daemon, &name)?;
    begin(&site, "check", String::new(), move |site, task| async move {
        let run = checks::run(&site, &wanted, &task).await?;
        if run.passed() { Ok(false) } else { Err(up::checks_failed(&run)) }
    })
}

async fn site_update(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
    Json(request): Json<UpdateRequest>,
) -> Answer {
    let (site, wanted) = known(&daemon, &name)?;
    let title = if request.plan_only { "update --plan" } else { "update" };
    begin(&site, title, request_key(&request), move |site, task| async move {
        blocking(move || update::run(&site, &wanted, &request, &task)).await?
    })
}

async fn node_action(
    State(daemon): State<Arc<Daemon>>,
    Path((name, node, action)): Path<(String, String, String)>,
    body: Bytes,
) -> Answer {
    let (site, wanted) = known_node(&daemon, &name, &node)?;
    let limit = up::limit(down_request(&body)?.limit_s);
    let act = match action.as_str() {
        "start" | "stop" | "restart" | "kill" | "rollback" | "discard" => action.clone(),
        other => return Err(failure(ErrorKind::NotFound, format!("no action {other}")).into()),
    };
    let (title, of) = (format!("{action} {node}"), node.clone());
    let work =
        move |site, task| async move { node_task(&site, &wanted, &node, &act, limit, &task).await };
    match action.as_str() {
        "stop" | "kill" => begin_instead(&site, &title, &of, work),
        _ => begin(&site, &title, String::new(), work),
    }
}

async fn node_convert(
    State(daemon): State<Arc<Daemon>>,
    Path((name, node)): Path<(String, String)>,
    Json(request): Json<ConvertRequest>,
) -> Answer {
    let (site, wanted) = known_node(&daemon, &name, &node)?;
    let key = request_key(&request);
    begin(&site, &format!("convert {node}"), key, move |site, task| async move {
        convert::run(&site, &wanted, &node, request, &task).await
    })
}

async fn node_task(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    node: &str,
    action: &str,
    limit: Option<Duration>,
    task: &Arc<Task>,
) -> Result<bool, Failure> {
    match action {
        "stop" => stop::node(site, node, limit, task).await,
        "kill" => stop::kill(site, node, task).await,
        "rollback" => rollout::rollback(site, wanted, node, task).await,
        "discard" => rollout::discard(site, node),
        "restart" => {
            stop::node(site, node, limit, task).await?;
            up::start_node(site, wanted, node, task).await
        }
        _ => up::start_node(site, wanted, node, task).await,
    }
}

async fn install(
    State(daemon): State<Arc<Daemon>>,
    Path((name, node)): Path<(String, String)>,
    Json(request): Json<InstallRequest>,
) -> Answer {
    let site = match request.source.clone() {
        Some(source) => {
            let profile = blocking(move || wanted::check(&source)).await??;
            if profile != name {
                let what = format!("the profile is of site {profile}, not of {name}");
                return Err(failure(ErrorKind::Input, what).into());
            }
            daemon.site_or_new(&name)
        }
        None => known_node(&daemon, &name, &node)?.0,
    };
    let title = format!("install {node}");
    let under_way = site.task().filter(|task| task.name == title);
    let key = match (&under_way, request.resume) {
        (Some(task), true) => task.request.clone(),
        (Some(task), false) => return Err(held(&site, &node, task).into()),
        (None, _) => request_key(&request),
    };
    begin(&site, &title, key, move |site, task| async move {
        installing::run(&site, &node, request, &task).await
    })
}

/// A node installs itself once at a time.
fn held(site: &Site, node: &str, task: &Task) -> Failure {
    let seconds = task.millis() / 1000;
    let which = site.installations.look(node).map_or(String::new(), |look| {
        let record = look.record;
        format!(", installation {} begun {}", record.number, record.begun)
    });
    let what = format!("{node} is being installed already: `{}` for {seconds} s{which}", task.name);
    failure(ErrorKind::Busy, what).hint(format!("`gridgate install {node} --resume` watches it"))
}

async fn installations(
    State(daemon): State<Arc<Daemon>>,
    Path((name, node)): Path<(String, String)>,
) -> Answer {
    let (site, _) = known_node(&daemon, &name, &node)?;
    let records = blocking(move || record::all(&site.dir.node(&node))).await?;
    Ok(Json(records).into_response())
}

async fn profile(
    State(daemon): State<Arc<Daemon>>,
    Path((name, node)): Path<(String, String)>,
) -> Answer {
    let (site, wanted) = known_node(&daemon, &name, &node)?;
    let Some(node) = wanted.node(&node) else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    Ok(Json(gridgate_protocol::agent_api::PublishedProfile {
        version: node.profile.version(),
        profile: node.profile.clone(),
        packages: Installed::load(&site.dir.node(&node.name))
            .map(|installed| installed.list.fingerprint()),
    })
    .into_response())
}

async fn image(
    State(daemon): State<Arc<Daemon>>,
    Path((name, node)): Path<(String, String)>,
) -> Answer {
    let (site, wanted) = known_node(&daemon, &name, &node)?;
    let explanation = blocking(move || explain(&site, &wanted, &node)).await??;
    Ok(Json(explanation).into_response())
}

fn explain(site: &Site, wanted: &Wanted, name: &str) -> Result<ImageExplanation, Failure> {
    let depot = images::depot(&site.home.depot())?;
    let vmms = Vmms::present(&depot, &site.dir);
    let found = images::explain(&depot, &site.dir, wanted, &vmms, name)
        .ok_or_else(|| failure(ErrorKind::NotFound, format!("no node {name}")))?;
    let mut lines = vec![format!("made of {} inputs", found.inputs.len())];
    match (&found.key, found.reused, &found.nearest) {
        (None, _, _) => lines.push("its packages are not locked yet: it will be built".into()),
        (Some(_), true, _) => lines.push("the depot holds it: it is reused".into()),
        (Some(_), false, None) => lines.push("the depot holds no image: it will be built".into()),
        (Some(_), false, Some(nearest)) => {
            lines.push(format!("it will be built; the nearest image, {nearest}, differs in:"));
        }
    }
    for difference in &found.differences {
        let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".into());
        lines.push(format!(
            "{}: {} → {}",
            difference.name,
            side(&difference.cached),
            side(&difference.wanted)
        ));
    }
    Ok(ImageExplanation {
        node: name.to_owned(),
        role: found.role,
        key: found.key.unwrap_or_default(),
        present: found.reused,
        lines,
    })
}

async fn node_access(
    State(daemon): State<Arc<Daemon>>,
    Path((name, node)): Path<(String, String)>,
) -> Answer {
    let (site, wanted) = known_node(&daemon, &name, &node)?;
    match access::of(&site.dir, &wanted, &node, None) {
        Some(access) => Ok(Json(access).into_response()),
        None => Err(failure(ErrorKind::NotFound, format!("no node {node}")).into()),
    }
}

async fn node_drift(
    State(daemon): State<Arc<Daemon>>,
    Path((name, node)): Path<(String, String)>,
    Json(command): Json<DriftCommand>,
) -> Answer {
    let (site, wanted) = known_node(&daemon, &name, &node)?;
    Ok(Json(drift::ask(&site, &wanted, &node, command).await?).into_response())
}

async fn run(
    State(daemon): State<Arc<Daemon>>,
    Path((name, node)): Path<(String, String)>,
    Json(command): Json<RunCommand>,
) -> Answer {
    let (site, _) = known_node(&daemon, &name, &node)?;
    let result =
        checks::command(&site, &node, &command.user, &command.script, command.limit_s).await?;
    Ok(Json(result).into_response())
}
