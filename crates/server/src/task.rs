//! A task of a site: its events, kept for whoever joins later.
//!
//! ```text
//! running ──(Done | Failed event)──> ended
//!    └──(another task is to come instead: it gives up what it waits for)──> ended
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
    /// The task that is to come instead.
    instead: watch::Sender<Option<String>>,
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
            instead: watch::Sender::new(None),
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

    /// Returns when the last event has been said.
    async fn over(&self) {
        let mut more = self.length.subscribe();
        // Its sender is this task's own.
        let _ = more.wait_for(|_| self.ended()).await;
    }

    /// Has it give up what it waits for: another task is to come instead.
    fn give_up(&self, instead: &str) {
        self.instead.send_replace(Some(instead.to_owned()));
    }

    /// Refuses when it is to give up: for before it begins something new.
    pub fn go_on(&self) -> Result<(), Failure> {
        match &*self.instead.borrow() {
            None => Ok(()),
            Some(instead) => Err(given_up(&self.name, instead)),
        }
    }

    /// Returns when it is to give up, with the failure that it then is.
    pub async fn given_up(&self) -> Failure {
        let mut asked = self.instead.subscribe();
        // Its sender is this task's own.
        let instead =
            asked.wait_for(Option::is_some).await.ok().and_then(|instead| instead.clone());
        given_up(&self.name, instead.as_deref().unwrap_or("another task"))
    }

    /// Waits until the task that this one comes instead of has ended.
    pub async fn take_over(self: &Arc<Self>, before: &Task) {
        let stage = self.stage("site", "wait", String::new());
        stage.waiting(format!("the end of `{}`, which gives up its waits", before.name), None);
        before.over().await;
        stage.finish(format!("`{}` has ended", before.name));
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

fn given_up(task: &str, instead: &str) -> Failure {
    failure(ErrorKind::Busy, format!("`{task}` was given up for `{instead}`"))
        .hint("what it had begun is kept: the same command goes on from there")
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
        let begun = self.begin_instead(owner, name, request, |_| false)?;
        Ok((begun.task, begun.fresh))
    }

    /// The same; a task under way that `yields` is not waited for but told to give up, and ends before this one's work begins.
    pub fn begin_instead(
        &self,
        owner: &str,
        name: &str,
        request: String,
        yields: impl FnOnce(&Task) -> bool,
    ) -> Result<Begun, Failure> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = slot.clone().filter(|task| !task.ended());
        if let Some(task) = &under_way {
            if task.name == name && task.request == request {
                return Ok(Begun { task: task.clone(), fresh: false, before: None });
            }
            if !yields(task) {
                let seconds = task.millis() / 1000;
                let what = format!("{owner} is busy with `{}` for {seconds} s", task.name);
                return Err(failure(ErrorKind::Busy, what)
                    .hint("wait for it to end: `gridgate status --watch`"));
            }
            task.give_up(name);
        }
        let task = Task::new(name, request);
        *slot = Some(task.clone());
        Ok(Begun { task, fresh: true, before: under_way })
    }
}

/// A task that was begun, or joined.
pub struct Begun {
    /// It.
    pub task: Arc<Task>,
    /// Whether it is new.
    pub fresh: bool,
    /// What it comes instead of, to be waited for.
    pub before: Option<Arc<Task>>,
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

    /// See [`Task::given_up`].
    pub async fn given_up(&self) -> Failure {
        self.task.given_up().await
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
    fn a_task_that_yields_ends_before_the_one_instead_of_it_works() {
        let slot = Slot::default();
        let (up, _) = slot.begin("site", "up", "one".into()).unwrap();
        assert!(up.go_on().is_ok());
        assert!(slot.begin("site", "check", String::new()).is_err());
        let refused =
            slot.begin_instead("site", "down", String::new(), |task| task.name == "start");
        assert!(refused.is_err());
        let down =
            slot.begin_instead("site", "down", String::new(), |task| task.name == "up").unwrap();
        assert!(down.fresh && slot.current().is_some_and(|task| task.name == "down"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let before = down.before.unwrap();
            let over = down.task.take_over(&before);
            let works = async {
                let failure = up.given_up().await;
                assert_eq!(failure.what, "`up` was given up for `down`");
                assert!(up.go_on().is_err() && down.task.read(0).0.len() == 2, "it waits");
                up.emit(Event::Failed(*failure));
            };
            tokio::join!(over, works);
        });
        let joined = slot.begin_instead("site", "down", String::new(), |_| true).unwrap();
        assert!(!joined.fresh && joined.before.is_none() && joined.task.go_on().is_ok());
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
