//! A task's events as plain lines: for logs, pipes and CI. Pure: time comes in, lines go out.

use std::collections::HashMap;
use std::time::Duration;

use gridgate_protocol::site_api::{ApiError, Event};

use super::figures::{millis, printable, progress};
use super::{Paint, Style, checks, depot, error, plan, update};

/// Progress of one stage is written at most this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Turns events into lines `[ 12.3s] ce     boot         …`.
#[derive(Debug)]
pub struct Plain {
    style: Style,
    /// When a stage last said something.
    said: HashMap<(String, String), Said>,
    /// Errors shown in full with their stage: the task's own error often repeats one.
    shown: Vec<ApiError>,
}

#[derive(Debug)]
struct Said {
    at: Duration,
    waiting: Option<String>,
}

impl Plain {
    /// With or without colour.
    pub fn new(style: Style) -> Plain {
        Plain { style, said: HashMap::new(), shown: Vec::new() }
    }

    /// What to write for an event that came `at` this time since the command began; may be nothing.
    pub fn text(&mut self, at: Duration, event: &Event) -> String {
        match event {
            Event::Joined { task } => {
                self.line(at, "site", "joined", &format!("a task already under way: {task}"))
            }
            Event::Plan(plan) => format!("{}\n", plan::table(plan, self.style)),
            Event::Started { subject, stage, detail } => {
                self.said(at, subject, stage, None);
                let detail = if detail.is_empty() { "…" } else { detail };
                self.line(at, subject, stage, detail)
            }
            Event::Progress { subject, stage, done, total, unit } => {
                let key = (subject.clone(), stage.clone());
                let early = self.said.get(&key).is_some_and(|said| at < said.at + PROGRESS_EVERY);
                // The last step is always worth a line: it says that the stage is not stuck just before its end.
                if early && (*total == 0 || done < total) {
                    return String::new();
                }
                self.said(at, subject, stage, None);
                self.line(at, subject, stage, &progress(*done, *total, unit))
            }
            Event::Waiting { subject, stage, what, last_line } => {
                self.waiting(at, subject, stage, what, last_line.as_deref())
            }
            Event::Finished { subject, stage, millis: took, detail } => {
                let mut text = format!("done in {}", millis(*took));
                if !detail.is_empty() {
                    text.push_str(&format!(": {detail}"));
                }
                self.line(at, subject, stage, &text)
            }
            Event::StageFailed { subject, stage, error } => self.failed(at, subject, stage, error),
            Event::Warning { text } => {
                self.line(at, "site", &self.style.paint(Paint::Warn, "warning"), text)
            }
            Event::Check(result) => {
                let (sign, paint) = checks::sign(&result.outcome);
                let sign = self.style.paint(paint, sign);
                self.line(at, "site", "check", &format!("{sign} {}", result.title))
            }
            Event::Depot(report) => format!("\n{}", depot::text(report, self.style)),
            Event::Update(report) => format!("\n{}", update::text(report, self.style)),
            Event::Done { .. } | Event::Failed(_) => String::new(),
        }
    }

    /// Whether this error was already shown in full with its stage.
    pub fn was_shown(&self, error: &ApiError) -> bool {
        self.shown.contains(error)
    }

    /// A line is written when what is waited for changes, and now and then to show that we still wait.
    fn waiting(
        &mut self,
        at: Duration,
        subject: &str,
        stage: &str,
        what: &str,
        last: Option<&str>,
    ) -> String {
        let said = self.said.get(&(subject.to_owned(), stage.to_owned()));
        let same = said.is_some_and(|said| said.waiting.as_deref() == Some(what));
        if same && said.is_some_and(|said| at < said.at + PROGRESS_EVERY) {
            return String::new();
        }
        self.said(at, subject, stage, Some(what.to_owned()));
        let mut text = format!("waits for {what}");
        if let Some(last) = last {
            text.push_str(&self.style.paint(Paint::Dim, &format!(" | {}", printable(last))));
        }
        self.line(at, subject, stage, &text)
    }

    fn failed(&mut self, at: Duration, subject: &str, stage: &str, failure: &ApiError) -> String {
        self.shown.push(failure.clone());
        let what =
            format!("{} {}", self.style.paint(Paint::Bad, "failed:"), printable(&failure.what));
        self.line(at, subject, stage, &what) + &error::details(failure, self.style)
    }

    fn said(&mut self, at: Duration, subject: &str, stage: &str, waiting: Option<String>) {
        self.said.insert((subject.to_owned(), stage.to_owned()), Said { at, waiting });
    }

    fn line(&self, at: Duration, subject: &str, stage: &str, text: &str) -> String {
        let time = self.style.paint(Paint::Dim, &format!("[{:5.1}s]", at.as_secs_f64()));
        format!("{time} {subject:<6} {stage:<14} {}\n", text.replace('\n', "\n          "))
    }
}
