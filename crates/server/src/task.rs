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

    /// Tells everybody who listens. After the last event nothing is told: what a failed task had begun beside may
    /// still come to its end.
    pub fn emit(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.last().is_some_and(is_last) {
            return;
        }
        events.push(event);
        // Under the lock: a length that comes after a greater one would put listeners to sleep for ever.
        self.length.send_replace(events.len());
    }

    /// Whether the last event has been said.
    pub fn ended(&self) -> bool {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.last().is_some_and(is_last)
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

/// Whether an event ends its task.
pub fn is_last(event: &Event) -> bool {
    matches!(event, Event::Done { .. } | Event::Failed(_))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_the_end_is_not_told_and_does_not_open_the_task_again() {
        let slot = Slot::default();
        let (task, _) = slot.begin("site", "up", "one".into()).unwrap();
        let stage = task.stage("two", "boot", "");
        task.emit(Event::Failed(*failure(ErrorKind::Node, "one did not come up")));
        stage.finish("its agent speaks");
        assert!(task.ended() && slot.current().is_none());
        let (events, mut more) = task.read(0);
        assert_eq!(events.len(), 2);
        assert!(is_last(&events[1]) && *more.borrow_and_update() == 2);
        assert!(slot.begin("site", "down", "two".into()).is_ok());
    }

    #[test]
    fn listeners_hear_the_last_word_of_many_speakers() {
        const SPEAKERS: usize = 8;
        const WORDS: usize = 200;
        let task = Task::new("up", String::new());
        let said = std::thread::scope(|scope| {
            for speaker in 0..SPEAKERS {
                let task = &task;
                scope.spawn(move || {
                    for word in 0..WORDS {
                        task.emit(Event::Warning { text: format!("{speaker} {word}") });
                    }
                });
            }
            let listen = || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let mut from = 0;
                while from < SPEAKERS * WORDS {
                    let (events, mut more) = task.read(from);
                    from += events.len();
                    if events.is_empty() {
                        runtime.block_on(more.wait_for(|length| *length > from)).unwrap();
                    }
                }
                from
            };
            scope.spawn(listen).join().unwrap()
        });
        assert_eq!(said, SPEAKERS * WORDS);
    }
}
