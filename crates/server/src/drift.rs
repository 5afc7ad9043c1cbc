//! Asking a node's agent how its node differs from its profile, and to put it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gridgate_protocol::agent_api::{Outcome, Report};
use gridgate_protocol::drift::{DriftCommand, DriftReport, DriftRequest, PutBackEntry};
use gridgate_protocol::site_api::{ErrorKind, NodeState};

use crate::failure::{Failure, Hint, failure};
use crate::reunion;
use crate::site::Site;
use crate::wait::look;
use crate::wanted::Wanted;

/// An agent that is applying a profile answers after that; installing packages takes minutes.
const LIMIT: Duration = Duration::from_secs(1800);

/// Looks are numbered within this daemon's life.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Asks and waits for the answer. A node that does not run or whose agent is silent is said so at once.
pub async fn ask(
    site: &Arc<Site>,
    wanted: &Arc<Wanted>,
    node: &str,
    command: DriftCommand,
) -> Result<DriftReport, Failure> {
    reunion::wait(site, wanted).await?;
    let status = look(site, wanted, node).await?;
    let silent = site.links.heard(node).is_none_or(|heard| heard.silent);
    let down = matches!(status.state, NodeState::Absent | NodeState::Stopped);
    if down || status.uptime_ms.is_none() || silent {
        let why = if down { "it does not run" } else { "its agent does not answer" };
        let mut refused =
            failure(ErrorKind::Node, format!("{node} cannot be compared with its profile"));
        refused.why.push(why.to_owned());
        return Err(refused.hint(format!("`gridgate start {node}`, or `gridgate status`")));
    }
    let request = DriftRequest { id: NEXT.fetch_add(1, Ordering::Relaxed), command };
    let answer = site
        .links
        .look(node, request)
        .ok_or_else(|| failure(ErrorKind::NotFound, format!("the site has no node {node}")))?;
    match tokio::time::timeout(LIMIT, answer).await {
        Ok(Ok(report)) => {
            tell(site, node, &report);
            Ok(report)
        }
        Ok(Err(_)) => {
            Err(failure(ErrorKind::Node, format!("{node} was restarted while it was compared")))
        }
        Err(_) => Err(failure(
            ErrorKind::Node,
            format!("{node}'s agent did not answer within {} s", LIMIT.as_secs()),
        )),
    }
}

/// What an agent put back unasked stands in the daemon's log, each once.
pub fn tell_put_back(site: &Site, node: &str, report: &Report) {
    let told = site.links.heard(node).filter(|heard| heard.report.boot_id == report.boot_id);
    let told = told.map_or(0, |heard| heard.report.put_back.count);
    let new = report.put_back.count.saturating_sub(told);
    let last = &report.put_back.last;
    let start = last.len().saturating_sub(usize::try_from(new).unwrap_or(usize::MAX));
    for entry in &last[start..] {
        let PutBackEntry { kind, name, what, failed, .. } = entry;
        match failed {
            None => tracing::info!(site = site.name, node, kind, name, what, "put back unasked"),
            Some(why) => tracing::warn!(site = site.name, node, kind, name, why, "not put back"),
        }
    }
}

/// What was put back stands in the daemon's log.
fn tell(site: &Site, node: &str, report: &DriftReport) {
    for done in &report.put_back {
        match &done.outcome {
            Outcome::Changed => {
                tracing::info!(site = site.name, node, done.kind, done.name, "put back");
            }
            Outcome::Failed(why) => {
                tracing::warn!(site = site.name, node, done.kind, done.name, why, "not put back");
            }
        }
    }
}
