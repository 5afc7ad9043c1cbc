//! What the daemon knows of each node's agent, and what it wants of it.
//!
//! An agent's work request sleeps until something of its own node changes ([`Links::watch_node`]): what is
//! published for one node, or said by it, wakes no other. Waits on the host look at all ([`Links::watch`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gridgate_protocol::agent_api::{
    PackageList, PublishedProfile, Report, RunRequest, RunResult, Work,
};
use gridgate_protocol::drift::{DriftReport, DriftRequest};
use tokio::sync::{oneshot, watch};

/// An agent that has not been heard for this long is called silent. Its work request is answered at
/// least every 25 s, after which it asks again.
pub const SILENT_AFTER: Duration = Duration::from_secs(40);

/// All nodes of a site.
pub struct Links {
    nodes: Mutex<BTreeMap<String, Link>>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Link {
    token: String,
    published: Option<PublishedProfile>,
    packages: Option<PackageList>,
    report: Option<Report>,
    heard: Option<Instant>,
    first: Option<Instant>,
    /// Its first report that all was well.
    healthy: Option<Instant>,
    queue: Vec<RunRequest>,
    running: HashMap<u64, oneshot::Sender<RunResult>>,
    looks: Vec<DriftRequest>,
    looking: HashMap<u64, oneshot::Sender<DriftReport>>,
    work: watch::Sender<u64>,
}

impl Link {
    /// Wakes the agent's work request.
    fn wake(&self) {
        self.work.send_modify(|count| *count += 1);
    }
}

/// What an agent last said, and when anything was last heard of it.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its last report in this launch.
    pub report: Report,
    /// Whether it is still in touch.
    pub silent: bool,
    /// Since its first report in this launch.
    pub since_first: Duration,
    /// Since its first report in this launch that the node does what its profile says.
    pub since_healthy: Option<Duration>,
}

impl Links {
    /// No nodes yet.
    pub fn new() -> Links {
        Links { nodes: Mutex::new(BTreeMap::new()), changes: watch::Sender::new(0) }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Link>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Wakes on every change of any node.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Wakes when there may be work for this node; none when there is no such node.
    pub fn watch_node(&self, node: &str) -> Option<watch::Receiver<u64>> {
        Some(self.nodes().get(node)?.work.subscribe())
    }

    /// Publishes a node's profile under its token; an agent that waits learns of it at once.
    pub fn publish(&self, token: String, profile: PublishedProfile, packages: Option<PackageList>) {
        let mut nodes = self.nodes();
        let link = nodes.entry(profile.profile.node.clone()).or_default();
        link.token = token;
        link.published = Some(profile);
        link.packages = packages;
        link.wake();
        drop(nodes);
        self.changed();
    }

    /// Forgets what an agent said in an earlier launch of its machine.
    pub fn reset(&self, node: &str) {
        if let Some(link) = self.nodes().get_mut(node) {
            link.report = None;
            link.heard = None;
            link.first = None;
            link.healthy = None;
            link.queue.clear();
            link.running.clear();
            link.looks.clear();
            link.looking.clear();
        }
        self.changed();
    }

    /// Forgets a node.
    pub fn remove(&self, node: &str) {
        self.nodes().remove(node);
        self.changed();
    }

    /// The node that holds this token. Compares all tokens in constant time each.
    pub fn node_of(&self, token: &str) -> Option<String> {
        let nodes = self.nodes();
        nodes
            .iter()
            .find(|(_, link)| equal(link.token.as_bytes(), token.as_bytes()))
            .map(|(n, _)| n.clone())
    }

    /// A node's published profile.
    pub fn published(&self, node: &str) -> Option<PublishedProfile> {
        self.nodes().get(node)?.published.clone()
    }

    /// A node's locked packages.
    pub fn packages(&self, node: &str) -> Option<PackageList> {
        self.nodes().get(node)?.packages.clone()
    }

    /// The agent was heard.
    pub fn touch(&self, node: &str) {
        if let Some(link) = self.nodes().get_mut(node) {
            link.heard = Some(Instant::now());
        }
    }

    /// The agent reports.
    pub fn report(&self, node: &str, report: Report) {
        if let Some(link) = self.nodes().get_mut(node) {
            link.heard = Some(Instant::now());
            link.first = link.first.or(link.heard);
            if report.healthy() {
                link.healthy = link.healthy.or(link.heard);
            }
            link.report = Some(report);
        }
        self.changed();
    }

    /// What the agent last said.
    pub fn heard(&self, node: &str) -> Option<Heard> {
        let nodes = self.nodes();
        let link = nodes.get(node)?;
        Some(Heard {
            report: link.report.clone()?,
            since_first: link.first.map_or(Duration::ZERO, |at| at.elapsed()),
            since_healthy: link.healthy.map(|at| at.elapsed()),
            silent: link.heard.is_none_or(|at| at.elapsed() > SILENT_AFTER),
        })
    }

    /// Work for the agent, if there is any beyond what it has applied.
    pub fn work(&self, node: &str, applied: Option<&str>, packages: Option<&str>) -> Option<Work> {
        let mut nodes = self.nodes();
        let link = nodes.get_mut(node)?;
        let published = link.published.as_ref()?;
        // An agent that says nothing of packages does not know of lists.
        let other_list = packages
            .is_some_and(|packages| packages != published.packages.as_deref().unwrap_or_default());
        let asked = !link.queue.is_empty() || !link.looks.is_empty();
        let due = applied != Some(published.version.as_str()) || other_list || asked;
        due.then(|| Work {
            runs: std::mem::take(&mut link.queue),
            drift: std::mem::take(&mut link.looks),
            ..idle(published)
        })
    }

    /// The answer to a work request that nothing came for.
    pub fn no_work(&self, node: &str) -> Option<Work> {
        Some(idle(self.nodes().get(node)?.published.as_ref()?))
    }

    /// Hands a run to the agent; the receiver gets its result, or an error when the node restarts.
    pub fn run(&self, node: &str, request: RunRequest) -> Option<oneshot::Receiver<RunResult>> {
        let (sender, receiver) = oneshot::channel();
        let mut nodes = self.nodes();
        let link = nodes.get_mut(node)?;
        link.running.insert(request.id, sender);
        link.queue.push(request);
        link.wake();
        Some(receiver)
    }

    /// Asks the agent how its node differs; the receiver gets the answer, or an error when the node restarts.
    pub fn look(
        &self,
        node: &str,
        request: DriftRequest,
    ) -> Option<oneshot::Receiver<DriftReport>> {
        let (sender, receiver) = oneshot::channel();
        let mut nodes = self.nodes();
        let link = nodes.get_mut(node)?;
        link.looking.insert(request.id, sender);
        link.looks.push(request);
        link.wake();
        Some(receiver)
    }

    /// The answer to a look at this node. Unknown ids are ignored: the look was given up.
    pub fn finish_look(&self, node: &str, id: u64, report: DriftReport) {
        if let Some(sender) = self.nodes().get_mut(node).and_then(|link| link.looking.remove(&id)) {
            // The receiver may have gone; then nobody wants the answer.
            drop(sender.send(report));
        }
    }

    /// The result of a run of this node. Unknown ids are ignored: the run was given up.
    pub fn finish_run(&self, node: &str, id: u64, result: RunResult) {
        if let Some(sender) = self.nodes().get_mut(node).and_then(|link| link.running.remove(&id)) {
            // The receiver may have gone; then nobody wants the result.
            drop(sender.send(result));
        }
    }
}

/// Nothing to do but to be what is published.
fn idle(published: &PublishedProfile) -> Work {
    Work {
        published: published.version.clone(),
        packages: published.packages.clone(),
        reapply: false,
        runs: Vec::new(),
        drift: Vec::new(),
        power_off: false,
    }
}

fn equal(a: &[u8], b: &[u8]) -> bool {
    !a.is_empty() && a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use gridgate_protocol::agent_api::{AgentPhase, HealthReport};
    use gridgate_protocol::drift::PutBack;

    use super::*;

    fn report(phase: AgentPhase, passed: &[bool]) -> Report {
        let health = passed.iter().map(|ok| HealthReport {
            name: "ssh".into(),
            ok: *ok,
            detail: String::new(),
            since_ms: ok.then_some(700),
        });
        Report {
            boot_id: String::new(),
            agent: String::new(),
            uptime_ms: 0,
            phase,
            wanted: None,
            applied: None,
            packages: None,
            resources: Vec::new(),
            unchanged: 0,
            health: health.collect(),
            put_back: PutBack::default(),
            memory_used: 0,
            memory_total: 0,
        }
    }

    #[test]
    fn a_node_is_ready_when_its_profile_is_applied_and_its_checks_pass() {
        let links = Links::new();
        links.nodes().insert("one".into(), Link::default());
        let ready = |said: Report| {
            links.report("one", said);
            links.heard("one").unwrap().since_healthy.is_some()
        };
        assert!(!ready(report(AgentPhase::Starting, &[])), "it has no checks yet");
        assert!(!ready(report(AgentPhase::Applied, &[true, false])));
        assert!(ready(report(AgentPhase::Applied, &[true, true])));
        assert!(ready(report(AgentPhase::Applied, &[true, false])), "the first time counts");
        links.reset("one");
        assert!(links.heard("one").is_none());
    }
}
