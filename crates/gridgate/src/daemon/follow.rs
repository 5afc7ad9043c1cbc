//! Watching a task to its end: every event is shown as it comes, and what came of it is given back.
//!
//! A task belongs to the daemon. When we go away it goes on; Ctrl-C here says so and changes nothing.

use std::time::Instant;

use gridgate_protocol::site_api::{ApiError, CheckResult, Event, Plan, SiteStatus};
use tokio::signal::unix::{SignalKind, signal};

use super::client::Events;
use crate::failure::Failure;
use crate::settings::Settings;
use crate::show::live::Live;
use crate::show::plain::Plain;
use crate::show::{Paint, checks, screen};

/// What to say of a task when its watcher leaves.
#[derive(Clone, Debug)]
pub struct Task {
    /// What it is, e.g. `up`.
    pub name: String,
    /// The words after `gridgate` that watch it again.
    pub again: String,
}

/// What came of a task.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// The site now.
    pub status: Option<SiteStatus>,
    /// Duration of the task, milliseconds.
    pub millis: u64,
    /// Whether anything was changed.
    pub changed: bool,
    /// Site checks that ended while we watched.
    pub checks: Vec<CheckResult>,
    /// The plan, when there was one.
    pub plan: Option<Plan>,
    /// Stages that ended while we watched.
    pub stages: Vec<Stage>,
}

/// A stage that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Node, role or `site`.
    pub subject: String,
    /// Its name.
    pub name: String,
    /// Duration, milliseconds.
    pub millis: u64,
}

/// Watches to the end.
pub async fn follow(
    settings: &Settings,
    task: &Task,
    mut events: Events,
) -> Result<Ended, Failure> {
    // One listener for the whole time: between two of them a Ctrl-C would be lost.
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|e| Failure::host("Ctrl-C cannot be listened for").because(&e))?;
    let mut watch = Watch::new(settings);
    let mut ended = Ended::default();
    let result = loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = interrupt.recv() => {
                watch.clear();
                left(settings, task);
                break Err(Failure::Interrupted);
            }
        };
        let event = match event {
            Ok(Some(event)) => event,
            Ok(None) => break Err(gone(settings, task)),
            Err(failure) => break Err(failure),
        };
        watch.event(&event);
        match event {
            Event::Plan(plan) => ended.plan = Some(plan),
            Event::Check(result) => ended.checks.push(result),
            Event::Finished { subject, stage, millis, .. } => {
                ended.stages.push(Stage { subject, name: stage, millis });
            }
            Event::Done { status, millis, changed } => {
                (ended.status, ended.millis, ended.changed) = (status, millis, changed);
                break Ok(ended);
            }
            Event::Failed(error) => break Err(failed(settings, &watch, &ended, error)),
            _ => {}
        }
    };
    watch.clear();
    result
}

/// The task failed. What was already on the screen is not shown again.
fn failed(settings: &Settings, watch: &Watch, ended: &Ended, error: ApiError) -> Failure {
    if settings.json {
        return Failure::Shown(error.kind);
    }
    if !ended.checks.is_empty() {
        screen::text(&format!("\n{}\n", checks::table(&ended.checks, settings.style)));
    }
    if watch.was_shown(&error) {
        let word = settings.error_style.paint(Paint::Bad, "error:");
        screen::error(&format!("{word} it did not work, see above\n"));
        return Failure::Shown(error.kind);
    }
    error.into()
}

fn gone(settings: &Settings, task: &Task) -> Failure {
    Failure::internal(format!("the daemon went away during {}", task.name)).hint(format!(
        "`{} {}` goes on where it ended; {} says why",
        settings.program(),
        task.again,
        settings.home.join("daemon.log").display()
    ))
}

fn left(settings: &Settings, task: &Task) {
    if settings.quiet {
        return;
    }
    let program = settings.program();
    screen::error(&format!(
        "\nNo longer watching; the daemon goes on with {}.\n  \
         watch again:  {program} {}\n  \
         look at it:   {program} status --watch\n  \
         stop it:      {program} daemon stop   (machines run on; {program} down stops them)\n",
        task.name, task.again
    ));
}

/// How events are shown.
#[derive(Debug)]
enum Watch {
    Live(Live),
    Plain { begun: Instant, plain: Plain },
    Json,
    Quiet,
}

impl Watch {
    fn new(settings: &Settings) -> Watch {
        if settings.json {
            Watch::Json
        } else if settings.quiet {
            Watch::Quiet
        } else if settings.live {
            Watch::Live(Live::new(settings.error_style))
        } else {
            Watch::Plain { begun: Instant::now(), plain: Plain::new(settings.style) }
        }
    }

    fn event(&mut self, event: &Event) {
        match self {
            Watch::Live(live) => live.event(event),
            Watch::Plain { begun, plain } => screen::text(&plain.text(begun.elapsed(), event)),
            Watch::Json => screen::json_line(event),
            Watch::Quiet => {}
        }
    }

    fn was_shown(&self, error: &ApiError) -> bool {
        match self {
            Watch::Live(live) => live.was_shown(error),
            Watch::Plain { plain, .. } => plain.was_shown(error),
            Watch::Json | Watch::Quiet => false,
        }
    }

    fn clear(&mut self) {
        if let Watch::Live(live) = self {
            live.clear();
        }
    }
}
