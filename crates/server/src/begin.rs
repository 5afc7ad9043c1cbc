//! A request begins a task of its site, or joins it; the answer is the task's events, a line of JSON each.

use std::future::Future;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use gridgate_protocol::site_api::{ErrorKind, Event};
use tokio_stream::wrappers::ReceiverStream;

use crate::api::{Answer, site_status};
use crate::failure::Failure;
use crate::site::Site;
use crate::task::{self, Begun, Task};

/// Starts a task, or joins the equal one under way, and streams its events.
pub(crate) fn begin<F, T>(site: &Arc<Site>, name: &str, request: String, work: F) -> Answer
where
    F: FnOnce(Arc<Site>, Arc<Task>) -> T + Send + 'static,
    T: Future<Output = Result<bool, Failure>> + Send + 'static,
{
    let (task, fresh) = site.begin(name, request)?;
    Ok(carry_out(site, Begun { task, fresh, before: None }, work))
}

/// The same, of a task that ends machines: one under way that only brings up what this ends, `node` or without one the whole
/// site, gives up.
pub(crate) fn begin_instead<F, T>(site: &Arc<Site>, name: &str, node: &str, work: F) -> Answer
where
    F: FnOnce(Arc<Site>, Arc<Task>) -> T + Send + 'static,
    T: Future<Output = Result<bool, Failure>> + Send + 'static,
{
    let begun = site.begin_instead(name, String::new(), |task| brings_up(&task.name, node))?;
    Ok(carry_out(site, begun, work))
}

fn brings_up(task: &str, node: &str) -> bool {
    let (action, of) = task.split_once(' ').unwrap_or((task, ""));
    match action {
        "up" => node.is_empty(),
        "start" | "restart" | "convert" => node.is_empty() || of == node,
        _ => false,
    }
}

fn carry_out<F, T>(site: &Arc<Site>, begun: Begun, work: F) -> Response
where
    F: FnOnce(Arc<Site>, Arc<Task>) -> T + Send + 'static,
    T: Future<Output = Result<bool, Failure>> + Send + 'static,
{
    let Begun { task, fresh, before } = begun;
    if fresh {
        let (site, task) = (site.clone(), task.clone());
        let own = work(site.clone(), task.clone());
        let mine = task.clone();
        let work = async move {
            if let Some(before) = before {
                mine.take_over(&before).await;
            }
            own.await
        };
        tokio::spawn(async move {
            // A panic in the work must still end the task for those who listen.
            let event = match tokio::spawn(work).await {
                Ok(Ok(changed)) => done(&site, &task, changed).await,
                Ok(Err(failure)) => Event::Failed(*failure),
                Err(e) => Event::Failed(*crate::failure::caused(
                    ErrorKind::Internal,
                    format!("`{}` ended early; this is a fault of gridgate", task.name),
                    &e,
                )),
            };
            task.emit(event);
        });
    }
    stream(task, !fresh)
}

async fn done(site: &Arc<Site>, task: &Task, changed: bool) -> Event {
    let status = match site.wanted().filter(|_| site.dir.path().exists()) {
        Some(wanted) => site_status(site, &wanted).await.ok().map(|mut status| {
            status.task = None;
            status
        }),
        None => None,
    };
    Event::Done { status, millis: task.millis(), changed }
}

/// A task's events as an answer.
pub(crate) fn stream(task: Arc<Task>, joined: bool) -> Response {
    let (sender, receiver) =
        tokio::sync::mpsc::channel::<Result<Bytes, std::convert::Infallible>>(64);
    tokio::spawn(async move {
        if joined {
            let event = Event::Joined { task: task.name.clone() };
            if sender.send(Ok(line(&event))).await.is_err() {
                return;
            }
        }
        let mut from = 0;
        loop {
            let (events, mut more) = task.read(from);
            from += events.len();
            for event in events {
                let last = task::is_last(&event);
                if sender.send(Ok(line(&event))).await.is_err() || last {
                    return;
                }
            }
            if more.wait_for(|length| *length > from).await.is_err() {
                return;
            }
        }
    });
    Body::from_stream(ReceiverStream::new(receiver)).into_response()
}

fn line(event: &Event) -> Bytes {
    let mut json = serde_json::to_vec(event)
        .unwrap_or_else(|e| format!("{{\"warning\":{{\"text\":\"{e}\"}}}}").into());
    json.push(b'\n');
    json.into()
}

#[cfg(test)]
mod tests {
    use super::brings_up;

    #[test]
    fn what_a_stop_would_end_yields_to_it() {
        for task in ["up", "start one", "restart two", "convert one"] {
            assert!(brings_up(task, ""), "{task}");
        }
        assert!(brings_up("start one", "one") && !brings_up("start one", "two"));
        assert!(!brings_up("up", "one"), "others are brought up, too");
        for task in ["down", "destroy", "plan", "install one", "update", "rollback one", "check"] {
            assert!(!brings_up(task, ""), "{task}");
        }
    }
}
