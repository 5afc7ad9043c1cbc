//! The agent's course from start to end; see the crate's diagram. This thread
//! applies; others report, look after the health and ask for work.

mod early;
mod stay;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use gridgate_protocol::agent_api::{
    AgentPhase, Identity, Outcome as ResourceOutcome, PublishedProfile, ResourceReport,
};
use gridgate_protocol::drift::DriftRequest;
use gridgate_protocol::node_profile::{NodeProfile, SCHEMA};

use crate::apply::{self, Intent, Moment, Outcome, Tools};
use crate::board::Board;
use crate::client::{Backoff, Client, ClientError};
use crate::place::Tree;
use crate::priority::Priority;
use crate::state::{Applied, StateFolder};
use crate::system::System;
use crate::work::{self, Task};
use crate::{AgentOptions, allocator, health, identity, reporter};

/// First wait before an application with failures is tried again; it doubles …
const RETRY: Duration = Duration::from_secs(5);

/// … up to this.
const RETRY_MOST: Duration = Duration::from_secs(300);

/// How often the certificates' ends are looked at.
const RENEWAL_LOOK: Duration = Duration::from_secs(6 * 3600);

/// Why the agent cannot run at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
    #[error(transparent)]
    State(#[from] crate::state::StateError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot start the {name} thread: {source}")]
    Thread { name: &'static str, source: std::io::Error },
}

/// Everything the applying thread has.
struct Agent {
    system: Arc<dyn System>,
    tree: Tree,
    folder: StateFolder,
    identity: Identity,
    client: Client,
    board: Arc<Board>,
    applied: Applied,
    profile: Option<NodeProfile>,
    /// Whether the last application had failures.
    failed: bool,
    stay: stay::Stay,
}

/// Runs until the node powers off.
pub(crate) fn run(options: &AgentOptions, system: Arc<dyn System>) -> Result<(), AgentError> {
    system.notify("STATUS=Starting");
    let identity = identity::read(&options.state)?;
    let folder = StateFolder::open(&options.state)?;
    let client = Client::new(&identity)?;
    let stored = folder.applied().zip(folder.profile());
    let first_boot = stored.is_none();
    let (applied, profile) = stored.map_or((Applied::default(), None), |(a, p)| (a, Some(p)));

    let up = system.bring_up(&identity).is_ok();
    if !first_boot {
        system.notify("READY=1\nSTATUS=Comparing with the install server");
    }
    if !up {
        early::network(system.as_ref(), &identity);
    }
    let board = Arc::new(Board::new(applied.version.clone(), applied.locked.clone()));
    if let Some(profile) = &profile {
        board.watch(&profile.checks);
    }
    let tree = Tree::new(&options.root);
    start_reporter(&board, &client)?;
    // The unit's haste ends here: what a profile asks for is not ahead of the node's services.
    Priority::Ordinary.take();
    early::file_systems(system.as_ref());
    system.prepare_disks();
    let (sender, tasks) = mpsc::channel();
    let mut agent = Agent {
        system,
        tree,
        folder,
        identity,
        client,
        board,
        failed: first_boot || applied.version.is_none(),
        applied,
        profile,
        stay: stay::Stay::new(sender.clone()),
    };
    if first_boot {
        agent.apply_first();
    }
    agent.watch();
    agent.start_health()?;
    agent.start_work(sender)?;
    agent.serve(&tasks, if first_boot { None } else { Some(Task::Compare) });
    agent.board.update(|facts| facts.ended = true);
    Ok(())
}

fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), AgentError> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(1024 * 1024)
        .spawn(move || {
            let _all_or_nothing = AllOrNothing;
            work();
        })
        .map(drop)
        .map_err(|source| AgentError::Thread { name, source })
}

/// An agent that lost one of its threads would look alive and be useless: when
/// a thread panics the process ends, and systemd starts it anew.
struct AllOrNothing;

impl Drop for AllOrNothing {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

fn start_reporter(board: &Arc<Board>, client: &Client) -> Result<(), AgentError> {
    let (board, client) = (Arc::clone(board), client.clone());
    spawn("report", move || reporter::run(&board, &client))
}

impl Agent {
    fn start_health(&self) -> Result<(), AgentError> {
        let (board, system) = (Arc::clone(&self.board), Arc::clone(&self.system));
        let tree = self.tree.clone();
        spawn("health", move || health::run(&board, system.as_ref(), &tree))
    }

    fn start_work(&self, tasks: Sender<Task>) -> Result<(), AgentError> {
        let (client, system) = (self.client.clone(), Arc::clone(&self.system));
        let (board, tree) = (Arc::clone(&self.board), self.tree.clone());
        let known =
            (self.applied.attempted.clone(), self.applied.locked.clone().unwrap_or_default());
        spawn("work", move || work::run(&client, &board, &system, &tree, known, &tasks))
    }

    /// The first application, for which the boot waits. Whatever fails, the boot
    /// goes on afterwards: a node that can be looked at is better than none.
    fn apply_first(&mut self) {
        self.system.notify("STATUS=Waiting for the install server");
        let published = self.fetch();
        let Some(mut outcome) = self.apply(&published, Moment::Booting) else {
            self.system.notify("READY=1");
            return;
        };
        self.system.notify("READY=1\nSTATUS=Starting services");
        apply::start(&self.tools(&|_| {}, Intent::Apply), &published.profile, &mut outcome);
        self.finish(published, outcome);
    }

    /// Does what it is told until the node powers off.
    fn serve(&mut self, tasks: &Receiver<Task>, first: Option<Task>) {
        let mut next = Batch { change: first, ..Batch::default() };
        let mut retry = RETRY;
        loop {
            if next.change == Some(Task::End) {
                return;
            }
            if let Some(task) = next.change {
                self.compare(&task);
            }
            for request in next.looks {
                self.answer(request);
            }
            if next.disturbed {
                self.stay.disturb();
            }
            self.tend();
            allocator::give_back();
            let calm = if self.failed { retry } else { RENEWAL_LOOK };
            let tend = self.stay.wait().filter(|wait| *wait < calm);
            let wait = tend.unwrap_or(calm);
            next = match tasks.recv_timeout(wait) {
                Ok(task) => {
                    retry = RETRY;
                    Batch::of(task, tasks)
                }
                Err(RecvTimeoutError::Timeout) if tend.is_some() => Batch::default(),
                Err(RecvTimeoutError::Timeout) if self.failed => {
                    retry = (retry * 2).min(RETRY_MOST);
                    Batch { change: Some(Task::Reapply), ..Batch::default() }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let change = self.renewal_due().then_some(Task::Reapply);
                    Batch { change, ..Batch::default() }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
        }
    }

    fn renewal_due(&self) -> bool {
        self.profile.as_ref().is_some_and(|profile| {
            apply::certificate_due(&self.tree, profile, &self.applied, &self.identity.ca)
        })
    }

    /// Fetches what is published and applies it, unless it is what the node is.
    fn compare(&mut self, task: &Task) {
        let published = self.fetch();
        let same = self.applied.version.as_deref() == Some(published.version.as_str())
            && (published.packages.is_none() || published.packages == self.applied.locked);
        if same && !self.failed && *task != Task::Reapply {
            self.board.update(|facts| {
                facts.phase = AgentPhase::Applied;
                facts.wanted = None;
            });
            self.system.notify(&format!("STATUS=Version {} is applied", published.version));
            return;
        }
        if let Some(outcome) = self.apply(&published, Moment::Running) {
            self.finish(published, outcome);
        }
    }

    /// The published profile. Every error is "not yet": even a refusal can be
    /// that the server does not know the node at this moment.
    fn fetch(&self) -> PublishedProfile {
        let mut backoff = Backoff::default();
        let mut said = String::new();
        loop {
            match self.client.profile() {
                Ok(published) => return published,
                Err(error) => {
                    let text = error.to_string();
                    if text != said {
                        tracing::info!(%error, "waiting for the install server");
                        self.system
                            .notify(&format!("STATUS=Waiting for the install server: {text}"));
                        said = text;
                    }
                    thread::sleep(backoff.step());
                }
            }
        }
    }

    fn tools<'a>(&'a self, progress: &'a dyn Fn(&str), intent: Intent) -> Tools<'a> {
        Tools {
            tree: &self.tree,
            system: self.system.as_ref(),
            source: &self.client,
            folder: &self.folder,
            ca: &self.identity.ca,
            progress,
            packages: self.applied.locked.as_deref(),
            intent,
            package_files: false,
        }
    }

    /// Applies; none when the profile is of a kind that this agent does not know.
    fn apply(&mut self, published: &PublishedProfile, moment: Moment) -> Option<Outcome> {
        let version = published.version.as_str();
        self.board.update(|facts| {
            facts.phase = AgentPhase::Applying;
            facts.wanted = Some(version.to_owned());
        });
        if published.profile.schema != SCHEMA {
            self.refuse(&published.profile);
            return None;
        }
        tracing::info!(version, "applying");
        let system = Arc::clone(&self.system);
        let progress = move |text: &str| system.notify(&format!("STATUS={text}"));
        let tools = Tools {
            packages: published.packages.as_deref(),
            ..self.tools(&progress, Intent::Apply)
        };
        Some(apply::apply(&tools, &published.profile, version, &self.applied, moment))
    }

    fn refuse(&mut self, profile: &NodeProfile) {
        let reason =
            format!("the profile has schema {}, this agent understands {SCHEMA}", profile.schema);
        tracing::error!(reason, "cannot apply");
        self.failed = true;
        self.board.update(|facts| {
            facts.phase = AgentPhase::Failed;
            facts.resources = vec![ResourceReport {
                kind: "profile".to_owned(),
                name: profile.node.clone(),
                component: String::new(),
                outcome: ResourceOutcome::Failed(reason),
                millis: 0,
            }];
        });
    }

    /// Remembers an application and says what became of it.
    fn finish(&mut self, published: PublishedProfile, outcome: Outcome) {
        let ok = outcome.ok();
        let Outcome { applied, resources, unchanged, .. } = outcome;
        apply::sync(&self.tree);
        if let Err(error) = self.folder.save(&applied, &published.profile) {
            // The next boot applies again; nothing is lost by it.
            tracing::error!(%error, "the application is not remembered");
        }
        tracing::info!(
            version = published.version,
            ok,
            changed = resources.len(),
            unchanged,
            "applied"
        );
        self.failed = !ok;
        self.board.update(|facts| {
            if facts.phase == AgentPhase::Applying && !resources.is_empty() {
                facts.doubt_health();
            }
            facts.phase = if ok { AgentPhase::Applied } else { AgentPhase::Failed };
            facts.wanted = (!ok).then(|| published.version.clone());
            facts.applied.clone_from(&applied.version);
            facts.packages.clone_from(&applied.locked);
            facts.resources = resources;
            facts.unchanged = unchanged;
        });
        // After the doubt: a look taken before the application's end is not believed.
        self.board.watch(&published.profile.checks);
        let word = if ok { "is applied" } else { "is applied with failures" };
        self.system.notify(&format!("STATUS=Version {} {word}", published.version));
        self.applied = applied;
        self.profile = Some(published.profile);
        self.watch();
    }
}

/// What waits to be done.
#[derive(Default)]
struct Batch {
    /// Of the changes the strongest: one application serves all.
    change: Option<Task>,
    looks: Vec<DriftRequest>,
    disturbed: bool,
}

impl Batch {
    fn of(first: Task, tasks: &Receiver<Task>) -> Self {
        let mut batch = Self::default();
        for task in std::iter::once(first).chain(tasks.try_iter()) {
            batch.change = match (batch.change.take(), task) {
                (change, Task::Look(request)) => {
                    batch.looks.push(request);
                    change
                }
                (change, Task::Disturbed) => {
                    batch.disturbed = true;
                    change
                }
                (Some(Task::End), _) | (_, Task::End) => Some(Task::End),
                (Some(Task::Reapply), _) | (_, Task::Reapply) => Some(Task::Reapply),
                (_, Task::Compare) => Some(Task::Compare),
            };
        }
        batch
    }
}
