//! Asks the install server for work and hands it on: runs to threads of their
//! own, changes of the profile to the applying thread, power-off to systemd.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use gridgate_protocol::agent_api::{RunRequest, Work};
use gridgate_protocol::drift::DriftRequest;

use crate::board::Board;
use crate::client::{Backoff, Client, until_reachable};
use crate::place::Tree;
use crate::process::Call;
use crate::runs;
use crate::system::System;

/// An answer that comes sooner than this was not held back.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Threads that only run a program and send its output need little stack.
const STACK: usize = 512 * 1024;

/// What the applying thread is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Compare with the published version and apply a difference.
    Compare,
    /// Apply even when the version is the same.
    Reapply,
    /// Look how the node differs from its profile, and answer.
    Look(DriftRequest),
    /// Something that the profile keeps may have been changed by hand.
    Disturbed,
    /// The node is powering off.
    End,
}

/// What the server is told that the agent took note of: version and package list.
pub(crate) type Noted = (String, String);

/// Serves the install server until the node powers off. `known` is what was
/// applied before.
pub(crate) fn run(
    client: &Client,
    board: &Board,
    system: &Arc<dyn System>,
    tree: &Tree,
    known: Noted,
    tasks: &Sender<Task>,
) {
    // What the server is told is what we took note of, not what was applied: a
    // version that fails is tried again on the agent's own schedule, and asking
    // with the old one would be answered at once, for ever.
    let mut noted = known;
    let mut backoff = Backoff::default();
    loop {
        let asked = Instant::now();
        let work = match client.work(&noted.0, &noted.1) {
            Ok(work) => work,
            Err(error) => {
                tracing::debug!(%error, "no answer to the question for work");
                // A server that began anew knows nothing of this node: it is told before the next sign of life.
                board.update(|_| ());
                thread::sleep(backoff.step());
                continue;
            }
        };
        // A server that knows of no list says nothing of one.
        let now = (work.published.clone(), work.packages.clone().unwrap_or_default());
        let news = now != noted || !work.runs.is_empty() || !work.drift.is_empty();
        if news || asked.elapsed() > AT_ONCE {
            backoff = Backoff::default();
        } else {
            // Nothing new and not held back: do not ask in circles.
            thread::sleep(backoff.step());
        }
        let task = task(&work, now != noted);
        for request in work.runs {
            start(client, system, tree, request);
        }
        for request in work.drift {
            if tasks.send(Task::Look(request)).is_err() {
                return;
            }
        }
        noted = now;
        if let Some(task) = task {
            let end = task == Task::End;
            if end {
                power_off(system.as_ref());
            }
            if tasks.send(task).is_err() || end {
                return;
            }
        }
    }
}

fn task(work: &Work, moved: bool) -> Option<Task> {
    if work.power_off {
        Some(Task::End)
    } else if work.reapply {
        Some(Task::Reapply)
    } else if moved {
        Some(Task::Compare)
    } else {
        None
    }
}

fn start(client: &Client, system: &Arc<dyn System>, tree: &Tree, request: RunRequest) {
    let (client, system, tree) = (client.clone(), Arc::clone(system), tree.clone());
    let id = request.id;
    let work = move || {
        let result = runs::run(system.as_ref(), &tree, &request);
        if let Err(error) = until_reachable(|| client.run_result(id, &result)) {
            tracing::warn!(id, %error, "the install server does not want a run's result");
        }
    };
    if let Err(error) = thread::Builder::new().stack_size(STACK).spawn(work) {
        // The server sees no result and its own limit ends the wait.
        tracing::error!(id, %error, "cannot start a thread for a run");
    }
}

fn power_off(system: &dyn System) {
    tracing::info!("powering off");
    let call = Call::new(&["systemctl", "poweroff", "--no-wall"], Duration::from_secs(60));
    match system.run(&call) {
        Ok(done) if done.ok() => {}
        outcome => tracing::error!(?outcome, "cannot power off"),
    }
}
