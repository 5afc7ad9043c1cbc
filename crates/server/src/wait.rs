//! Waiting for a node: always says for what, ends when the machine does, never calls "not yet" a failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gridgate_protocol::site_api::{ErrorKind, NodeState, NodeStatus};

use crate::failure::{Failure, Hint, failure};
use crate::news::News;
use crate::observe;
use crate::pace;
use crate::site::Site;
use crate::task::Stage;
use crate::wanted::Wanted;

/// How often the machine itself is looked at; agents' reports wake the wait at once.
const LOOK: Duration = Duration::from_millis(500);

/// After this long without any news from the node, `up` hands the wait back to the person; later where machines are slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// The same before its agent's first word: how slow it is nobody knows yet, and its kernel says nothing while all is well.
const BOOTING: Duration = Duration::from_secs(300);

/// Installing packages may take this long without news.
const INSTALLING: Duration = Duration::from_secs(3600);

/// Waits until a node runs what is published, its machine ends, or the task is to give up.
pub async fn for_node(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    node: &str,
    stage: &Stage,
) -> Result<NodeStatus, Failure> {
    tokio::select! {
        ready = within(site, wanted, node, stage, None) => ready,
        given_up = stage.given_up() => Err(given_up),
    }
}

/// Like [`for_node`]; with a patience, a node that has applied what is published and is not healthy after it is a
/// failure, and one that still applies is not.
pub async fn within(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    node: &str,
    stage: &Stage,
    patience: Option<Duration>,
) -> Result<NodeStatus, Failure> {
    let mut applied: Option<Instant> = None;
    let mut changes = site.links.watch();
    let mut said = String::new();
    let mut heard = News::none();
    loop {
        changes.mark_unchanged();
        let status = look(site, wanted, node).await?;
        match status.state {
            NodeState::Running => return Ok(status),
            NodeState::Failed => return Err(failed(&status)),
            NodeState::Stopped | NodeState::Absent => {
                return Err(failure(
                    ErrorKind::Node,
                    format!("{node} was stopped by somebody else"),
                ));
            }
            _ => {}
        }
        let line = status.last_line.as_deref().unwrap_or_default();
        heard.look(&status.detail, line);
        let text = format!("{} {line}", status.detail);
        if text != said {
            said = text;
            stage.waiting(status.detail.clone(), status.last_line.clone());
        }
        let silence = match patience {
            Some(patience) if has_applied(&status) => {
                let since = *applied.get_or_insert_with(Instant::now);
                if since.elapsed() > patience {
                    return Err(unhealthy(&status, patience));
                }
                patience
            }
            // Its agent is at work.
            Some(patience) if status.state != NodeState::Booting => INSTALLING.max(patience),
            Some(patience) => usual(site, status.state).max(patience),
            None => usual(site, status.state),
        };
        if heard.silence() > silence {
            return Err(not_yet(&status, silence));
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Waits until a node's agent speaks, whatever it says, or its machine ends.
pub async fn for_first_word(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    node: &str,
    stage: &Stage,
) -> Result<(), Failure> {
    let mut changes = site.links.watch();
    let mut said = None;
    let mut heard = News::none();
    loop {
        changes.mark_unchanged();
        let status = look(site, wanted, node).await?;
        match status.state {
            NodeState::Booting => {}
            NodeState::Failed | NodeState::Stopped | NodeState::Absent => {
                return Err(not_booted(&status));
            }
            _ => return Ok(()),
        }
        heard.look(&status.detail, status.last_line.as_deref().unwrap_or_default());
        if heard.silence() > BOOTING {
            return Err(not_yet(&status, BOOTING));
        }
        if said.as_ref() != Some(&status.last_line) {
            stage.waiting(status.detail.clone(), status.last_line.clone());
            said = Some(status.last_line);
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// How long a node may say nothing new.
fn usual(site: &Site, state: NodeState) -> Duration {
    if state == NodeState::Booting { BOOTING } else { PATIENCE * pace::of(site) }
}

/// One node's status, looked at off the async threads.
pub async fn look(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    node: &str,
) -> Result<NodeStatus, Failure> {
    let (site, wanted, name) = (site.clone(), wanted.clone(), node.to_owned());
    let status = blocking(move || {
        wanted
            .node(&name)
            .map(|node| observe::node_status(&site, &wanted, node, observe::Detail::State))
    })
    .await?;
    status.ok_or_else(|| failure(ErrorKind::NotFound, format!("the site has no node {node}")))
}

/// Runs blocking work on its own thread.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| crate::failure::caused(ErrorKind::Internal, "a worker thread ended early", &e))
}

fn failed(status: &NodeStatus) -> Failure {
    let name = &status.name;
    let mut failure =
        failure(ErrorKind::Node, format!("{name} did not come up: {}", status.detail));
    if let Some(line) = &status.last_line {
        failure.why.push(format!("the last line on its console: {line}"));
    }
    failure.hint(format!("look further with `gridgate console {name}` and `gridgate logs {name}`"))
}

fn not_booted(status: &NodeStatus) -> Failure {
    let name = &status.name;
    let what = format!("{name} did not boot from its new disk: {}", status.detail);
    let mut failed = failure(ErrorKind::Node, what);
    let line = status.last_line.as_ref();
    failed.why.extend(line.map(|line| format!("the last line on its console: {line}")));
    failed.hint(format!("`gridgate console {name}` shows what it said"))
}

/// Whether the node is what is published, if not healthy.
fn has_applied(status: &NodeStatus) -> bool {
    status.applied.is_some()
        && status.applied == status.published
        && status.staying.applied_packages == status.staying.published_packages
}

fn unhealthy(status: &NodeStatus, patience: Duration) -> Failure {
    let mut failure = failure(
        ErrorKind::Node,
        format!("{} is not healthy {} s after it was updated", status.name, patience.as_secs()),
    );
    failure.why.push(status.detail.clone());
    failure
}

fn not_yet(status: &NodeStatus, silence: Duration) -> Failure {
    let name = &status.name;
    let mut failure = failure(
        ErrorKind::Node,
        format!(
            "{name} has said nothing new for {} s; it still runs: {}",
            silence.as_secs(),
            status.detail
        ),
    );
    if let Some(line) = &status.last_line {
        failure.why.push(format!("the last line on its console: {line}"));
    }
    failure.hint(format!(
        "`gridgate up` again goes on waiting; `gridgate console {name}` and `gridgate logs {name}` show more"
    ))
}
