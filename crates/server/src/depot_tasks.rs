//! The depot's own tasks: fill, export, import, sweep, verify. One at a time for the whole home.
//!
//! Nothing is removed while a site's task is under way: between finding an image and cloning it, `up`
//! relies on its being there. What is needed is looked up after the depot is held, so that it is no
//! older than the sweep.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use gridgate_depot::{Depot, DepotError, Held, Item, Lock, References};
use gridgate_protocol::depot_api::{
    DepotItem, DepotReport, ExportRequest, FillRequest, GcRequest, ImportRequest, VerifyRequest,
};
use gridgate_protocol::site_api::{ErrorKind, Event, SiteSource};

use crate::api::{Answer, request_key};
use crate::begin::stream;
use crate::daemon::Daemon;
use crate::failure::{Failure, Hint, caused, failure};
use crate::home::{SiteDir, write_atomic};
use crate::images::{self, Reporter};
use crate::task::Task;
use crate::wait::blocking;
use crate::{filling, references};

/// Routes below `/v1/depot`.
pub fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/depot/fill", post(fill))
        .route("/v1/depot/export", post(export))
        .route("/v1/depot/import", post(import))
        .route("/v1/depot/gc", post(gc))
        .route("/v1/depot/verify", post(verify))
}

/// What a task gives: its report, whether anything was changed, and a failure that it ends with all the same.
struct Outcome {
    report: DepotReport,
    changed: bool,
    failure: Option<Failure>,
}

/// Starts a task of the depot, or joins the equal one under way.
fn begin<W>(daemon: &Arc<Daemon>, name: &str, request: String, work: W) -> Answer
where
    W: FnOnce(&Daemon, &Arc<Task>) -> Result<Outcome, Failure> + Send + 'static,
{
    let (task, fresh) = daemon.depot.begin("the depot", name, request)?;
    if fresh {
        let (daemon, task) = (daemon.clone(), task.clone());
        tokio::spawn(async move {
            let worker = task.clone();
            let event = match blocking(move || work(&daemon, &worker)).await.and_then(|done| done) {
                Ok(Outcome { report, changed, failure }) => {
                    task.emit(Event::Depot(report));
                    match failure {
                        Some(failure) => Event::Failed(*failure),
                        None => Event::Done { status: None, millis: task.millis(), changed },
                    }
                }
                Err(failure) => Event::Failed(*failure),
            };
            task.emit(event);
        });
    }
    Ok(stream(task, !fresh))
}

async fn fill(State(daemon): State<Arc<Daemon>>, Json(request): Json<FillRequest>) -> Answer {
    let key = request_key(&request);
    begin(&daemon, "depot fill", key, move |daemon, task| {
        let report = filling::fill(daemon, request, task)?;
        Ok(Outcome { report, changed: true, failure: None })
    })
}

async fn export(State(daemon): State<Arc<Daemon>>, Json(request): Json<ExportRequest>) -> Answer {
    let key = request_key(&request);
    begin(&daemon, "depot export", key, move |daemon, task| {
        let site = daemon.site(&request.site)?;
        let lock = images::lock(&site.dir)?.ok_or_else(|| {
            failure(ErrorKind::NotFound, format!("{} has no lock yet", site.name))
                .hint("`gridgate up` makes it with the first images")
        })?;
        let profile = fs::read(site.dir.source()).ok();
        let depot = images::depot(&daemon.home.depot())?;
        let done = depot
            .export(
                &site.name,
                &lock,
                profile.as_deref(),
                &request.file,
                &Reporter::new(task.clone()),
            )
            .map_err(|e| depot_failure("the export could not be written", &e))?;
        let (file, mib) = (request.file.display(), done.bytes.div_ceil(1 << 20));
        let report = DepotReport {
            summary: format!(
                "{file}: {} packages, signed indexes of {}, {mib} MiB",
                done.packages,
                done.suites.join(", ")
            ),
            next: "on the other host: `gridgate depot import FILE`".to_owned(),
            items: Vec::new(),
        };
        Ok(Outcome { report, changed: true, failure: None })
    })
}

async fn import(State(daemon): State<Arc<Daemon>>, Json(request): Json<ImportRequest>) -> Answer {
    let key = request_key(&request);
    begin(&daemon, "depot import", key, move |daemon, task| {
        let depot = images::depot(&daemon.home.depot())?;
        let done = depot
            .import(&request.file, &Reporter::new(task.clone()))
            .map_err(|e| depot_failure("the export was not taken in", &e))?;
        let dir = daemon.home.site(&done.site);
        let profile = unpack_profile(&dir, &done.lock, done.profile.as_deref())?;
        let known = done.vouched + done.by_lock_only.len();
        let mut report = DepotReport {
            summary: format!(
                "site {}: {known} packages, {} of them new, {} named by Debian's signed indexes",
                done.site, done.new_packages, done.vouched
            ),
            next: match profile {
                Some(path) => format!("`gridgate up {}`", path.display()),
                None => "`gridgate up site.toml` with the site's profile".to_owned(),
            },
            items: Vec::new(),
        };
        for name in done.by_lock_only {
            let remark =
                "the lock alone vouches for it: Debian's index has another version".to_owned();
            report.items.push(DepotItem { folder: "packages".to_owned(), name, bytes: 0, remark });
        }
        if dir.lock().exists() && images::lock(&dir)?.is_some_and(|lock| lock != done.lock) {
            let text = format!("{} has another lock already and keeps it", done.site);
            task.emit(Event::Warning { text });
        }
        Ok(Outcome { report, changed: true, failure: None })
    })
}

/// Puts lock and profile of an import where the site's first `up` finds them.
fn unpack_profile(
    dir: &SiteDir,
    lock: &Lock,
    profile: Option<&[u8]>,
) -> Result<Option<PathBuf>, Failure> {
    let folder = dir.imported();
    let write = |path: &Path, bytes: &[u8]| {
        write_atomic(path, bytes).map_err(|e| {
            caused(ErrorKind::Host, format!("{} could not be written", path.display()), &e)
        })
    };
    write(&folder.join("site.lock"), lock.to_text().as_bytes())?;
    let Some(bytes) = profile else { return Ok(None) };
    let source: SiteSource = serde_json::from_slice(bytes)
        .map_err(|e| caused(ErrorKind::Input, "the export's profile cannot be read", &e))?;
    for (component, files) in &source.components {
        for (name, text) in files {
            if !is_plain(component) || !is_plain(name) {
                let what = format!("the export's component {component:?} has a file {name:?}");
                return Err(failure(ErrorKind::Input, what));
            }
            let path = folder.join("components").join(component).join(name);
            write(&path, text.as_bytes())?;
        }
    }
    let path = folder.join("site.toml");
    write(&path, source.text.as_bytes())?;
    Ok(Some(path))
}

/// Whether a name stays in its folder.
fn is_plain(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(fits)
}

async fn gc(State(daemon): State<Arc<Daemon>>, Json(request): Json<GcRequest>) -> Answer {
    let key = request_key(&request);
    begin(&daemon, "depot gc", key, move |daemon, _| {
        let depot = images::depot(&daemon.home.depot())?;
        let (held, needed) = hold(daemon, &depot)?;
        let swept = held
            .sweep(&needed, !request.dry_run)
            .map_err(|e| depot_failure("the depot could not be swept", &e))?;
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let word = if request.dry_run { "would be removed" } else { "removed" };
        let summary = format!(
            "{} things {word}, {} MiB; {} stay, {} MiB",
            swept.items.len(),
            mib(swept.bytes()),
            swept.kept,
            mib(swept.kept_bytes)
        );
        let changed = !request.dry_run && !swept.items.is_empty();
        let items = swept.items.into_iter().map(item).collect();
        let report = DepotReport { summary, next: String::new(), items };
        Ok(Outcome { report, changed, failure: None })
    })
}

async fn verify(State(daemon): State<Arc<Daemon>>, Json(request): Json<VerifyRequest>) -> Answer {
    let key = request_key(&request);
    begin(&daemon, "depot verify", key, move |daemon, task| {
        let depot = images::depot(&daemon.home.depot())?;
        let mut found = depot
            .verify(&Reporter::new(task.clone()))
            .map_err(|e| depot_failure("the depot could not be read", &e))?;
        let damaged = found.damaged.len();
        if request.mend && damaged > 0 {
            let mirrors = images::mirrors(request.mirror.as_deref(), None, &request.environment)?;
            let (held, needed) = hold(daemon, &depot)?;
            held.mend(&mut found, &needed, &mirrors)
                .map_err(|e| depot_failure("the depot could not be mended", &e))?;
        }
        let (read, mib) = (found.read, found.bytes.div_ceil(1 << 20));
        let mut summary = format!("{read} things read, {mib} MiB: {damaged} damaged");
        if !found.unsealed.is_empty() {
            summary += &format!(", {} made without a seal", found.unsealed.len());
        }
        let hint = "`gridgate depot verify --mend` removes what is damaged and fetches it again";
        let failure = (damaged > 0 && !request.mend).then(|| {
            failure(ErrorKind::Host, format!("{damaged} things in the depot are damaged"))
                .hint(hint)
        });
        let unsealed = found.unsealed.into_iter().map(|item| Item {
            remark: "made without a seal: nothing can be said of it".to_owned(),
            ..item
        });
        let items = found.damaged.into_iter().chain(unsealed).map(item).collect();
        let report = DepotReport { summary, next: String::new(), items };
        Ok(Outcome { report, changed: request.mend && damaged > 0, failure })
    })
}

fn item(item: Item) -> DepotItem {
    let Item { folder, name, bytes, remark } = item;
    DepotItem { folder: folder.to_owned(), name, bytes, remark }
}

/// Takes the depot while no site is being worked on, and finds out what is needed of it.
///
/// Which images the profiles want is asked before, since that looks into the depot; a site that is brought up
/// meanwhile has noted its images with its nodes, which are read after.
fn hold<'d>(daemon: &Daemon, depot: &'d Depot) -> Result<(Held<'d>, References), Failure> {
    let sites = daemon.sites();
    let images: BTreeSet<String> =
        sites.iter().flat_map(|site| references::wanted_images(site, depot)).collect();
    let held = depot.hold().map_err(|e| depot_failure("nothing was removed", &e))?;
    for site in daemon.sites() {
        if let Some(task) = site.task() {
            let what = format!("{} is busy with `{}`", site.name, task.name);
            return Err(failure(ErrorKind::Busy, what).hint("again when it has ended"));
        }
    }
    let mut needed = references::all(&daemon.home)?;
    needed.images.extend(images);
    Ok((held, needed))
}

fn depot_failure(what: &str, error: &DepotError) -> Failure {
    let (kind, hint) = match error {
        DepotError::Busy => (ErrorKind::Busy, "again when it has ended: `gridgate status`"),
        DepotError::Export { .. } | DepotError::Signature { .. } | DepotError::Lock(_) => {
            (ErrorKind::Input, "nothing of it was taken; carry the file over again")
        }
        DepotError::Incomplete { .. } => (ErrorKind::Host, "`gridgate up` first, then again"),
        _ => (ErrorKind::Host, "`gridgate depot verify --mend` finds and mends damage"),
    };
    caused(kind, what, error).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_components_stay_in_their_folder() {
        assert!(is_plain("web") && is_plain("component.toml") && is_plain("a_b-1.j2"));
        for bad in ["", "..", ".x", "a/b", "/etc", "a b"] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
