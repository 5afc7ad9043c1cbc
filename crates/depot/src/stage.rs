//! Tells of stages: their beginning, end and duration.

use std::time::Instant;

use crate::progress::{DepotEvent, Progress, Stage};

/// A stage that has begun.
#[derive(Debug)]
pub(crate) struct Timer {
    subject: String,
    stage: Stage,
    began: Instant,
}

impl Timer {
    /// Tells that a stage begins.
    pub(crate) fn start(
        progress: &dyn Progress,
        subject: &str,
        stage: Stage,
        detail: String,
    ) -> Timer {
        let subject = subject.to_owned();
        progress.event(DepotEvent::StageStarted { subject: subject.clone(), stage, detail });
        Timer { subject, stage, began: Instant::now() }
    }

    /// Tells that it ended well.
    pub(crate) fn finish(self, progress: &dyn Progress) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let Timer { subject, stage, .. } = self;
        progress.event(DepotEvent::StageFinished { subject, stage, millis });
    }
}
