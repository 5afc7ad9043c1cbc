//! A task of a site: its events, kept for whoever joins later.
//!
//! ```text
//! running ──(Done | Failed event)──> ended
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gridgate_protocol::site_api::{ErrorKind, Event};
use tokio::sync::watch;

use crate::failure::{Failure, Hint, failure};

/// A task under way or ended. Cheap to share.
pub struct Task {
    /// What it is called, e.g. `up`.
    pub name: String,
    /// Hash of what was asked for: equal requests join, others are refused.
    pub request: String,
    started: Instant,
    events: Mutex<Vec<Event>>,
    length: watch::Sender<usize>,
}

impl Task {
    /// A task that begins now.
    pub fn new(name: &str, request: String) -> Arc<Task> {
        Arc::new(Task {
            name: name.to_owned(),
            request,
            started: Instant::now(),
            events: Mutex::new(Vec::new()),
            length: watch::Sender::new(0),
        })
    }

    /// Milliseconds since it began.
    pub fn millis(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Tells everybody who listens.
    pub fn emit(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event);
        let length = events.len();
        drop(events);
        self.length.send_replace(length);
    }

    /// Whether the last event has been said.
    pub fn ended(&self) -> bool {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(events.last(), Some(Event::Done { .. } | Event::Failed(_)))
    }

    /// Events from this index on, and a receiver that wakes when there are more.
    pub fn read(&self, from: usize) -> (Vec<Event>, watch::Receiver<usize>) {
        let receiver = self.length.subscribe();
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        (events.get(from..).unwrap_or_default().to_vec(), receiver)
    }

    /// Begins a stage.
    pub fn stage(self: &Arc<Self>, subject: &str, stage: &str, detail: impl Into<String>) -> Stage {
        self.emit(Event::Started {
            subject: subject.to_owned(),
            stage: stage.to_owned(),
            detail: detail.into(),
        });
        Stage {
            task: self.clone(),
            subject: subject.to_owned(),
            stage: stage.to_owned(),
            started: Instant::now(),
        }
    }
}

/// Where one task at a time may be under way.
#[derive(Default)]
pub struct Slot(Mutex<Option<Arc<Task>>>);

impl Slot {
    /// The task under way.
    pub fn current(&self) -> Option<Arc<Task>> {
        let task = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        task.filter(|task| !task.ended())
    }

    /// Begins a task of `owner`, or gives the equal one under way (`false`), or refuses.
    pub fn begin(
        &self,
        owner: &str,
        name: &str,
        request: String,
    ) -> Result<(Arc<Task>, bool), Failure> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = slot.as_ref().filter(|task| !task.ended()) {
            if task.name == name && task.request == request {
                return Ok((task.clone(), false));
            }
            let seconds = task.millis() / 1000;
            let what = format!("{owner} is busy with `{}` for {seconds} s", task.name);
            return Err(failure(ErrorKind::Busy, what)
                .hint("wait for it to end: `gridgate status --watch`"));
        }
        let task = Task::new(name, request);
        *slot = Some(task.clone());
        Ok((task, true))
    }
}

/// A stage of a task.
pub struct Stage {
    task: Arc<Task>,
    subject: String,
    stage: String,
    started: Instant,
}

impl Stage {
    /// It goes on.
    pub fn progress(&self, done: u64, total: u64, unit: &str) {
        self.task.emit(Event::Progress {
            subject: self.subject.clone(),
            stage: self.stage.clone(),
            done,
            total,
            unit: unit.to_owned(),
        });
    }

    /// It waits.
    pub fn waiting(&self, what: impl Into<String>, last_line: Option<String>) {
        self.task.emit(Event::Waiting {
            subject: self.subject.clone(),
            stage: self.stage.clone(),
            what: what.into(),
            last_line,
        });
    }

    /// It is done.
    pub fn finish(self, detail: impl Into<String>) {
        self.task.emit(Event::Finished {
            subject: self.subject.clone(),
            stage: self.stage.clone(),
            millis: self.started.elapsed().as_millis() as u64,
            detail: detail.into(),
        });
    }

    /// It is done, after a time that somebody else measured, milliseconds.
    pub fn finish_in(self, millis: u64, detail: impl Into<String>) {
        self.task.emit(Event::Finished {
            subject: self.subject,
            stage: self.stage,
            millis,
            detail: detail.into(),
        });
    }

    /// It failed; gives the failure back for the caller to pass on.
    pub fn fail(self, failure: Failure) -> Failure {
        self.task.emit(Event::StageFailed {
            subject: self.subject,
            stage: self.stage,
            error: (*failure).clone(),
        });
        failure
    }
}
