//! A task's events on a terminal: one moving line per stage under way, what is done scrolls up above them.

use std::collections::HashMap;
use std::time::Duration;

use gridgate_protocol::site_api::{ApiError, Event};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::figures::{millis, printable, progress};
use super::{Paint, Style, checks, depot, error, plan, update};

/// How often the lines move; four times a second is lively enough and costs nothing.
const TICK: Duration = Duration::from_millis(250);

/// Moving lines of one task.
#[derive(Debug)]
pub struct Live {
    style: Style,
    lines: MultiProgress,
    stages: HashMap<(String, String), Stage>,
    shown: Vec<ApiError>,
}

#[derive(Debug)]
struct Stage {
    bar: ProgressBar,
    detail: String,
}

impl Live {
    /// Lines on standard error, so that standard output carries results alone.
    pub fn new(style: Style) -> Live {
        Live { style, lines: MultiProgress::new(), stages: HashMap::new(), shown: Vec::new() }
    }

    /// Takes an event in.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Joined { task } => {
                self.above(&format!("joined a task already under way: {task}"));
            }
            Event::Plan(plan) => self.above(plan::table(plan, self.style).trim_end()),
            Event::Started { subject, stage, detail } => {
                let stage = self.stage(subject, stage);
                stage.detail.clone_from(detail);
                stage.bar.set_message(detail.clone());
            }
            Event::Progress { subject, stage, done, total, unit } => {
                self.progress(subject, stage, *done, *total, unit);
            }
            Event::Waiting { subject, stage, what, last_line } => {
                let mut text = format!("waits for {what}");
                if let Some(last) = last_line {
                    let last = printable(last);
                    text.push_str(&self.style.paint(Paint::Dim, &format!(" | {last}")));
                }
                self.stage(subject, stage).bar.set_message(text);
            }
            Event::Finished { subject, stage, millis: took, detail } => {
                self.end(subject, stage);
                self.mark(("✓", Paint::Good), subject, stage, &millis(*took), detail);
            }
            Event::StageFailed { subject, stage, error } => self.failed(subject, stage, error),
            Event::Warning { text } => {
                let word = self.style.paint(Paint::Warn, "warning:");
                self.above(&format!("{word} {text}"));
            }
            Event::Check(result) => {
                let mark = checks::sign(&result.outcome);
                self.mark(mark, "site", "check", &millis(result.millis), &result.title);
            }
            Event::Depot(report) => self.above(depot::text(report, self.style).trim_end()),
            Event::Update(report) => self.above(update::text(report, self.style).trim_end()),
            Event::Done { .. } | Event::Failed(_) => self.clear(),
        }
    }

    /// Whether this error was already shown in full with its stage.
    pub fn was_shown(&self, error: &ApiError) -> bool {
        self.shown.contains(error)
    }

    /// Takes all moving lines away.
    pub fn clear(&mut self) {
        for (_, stage) in self.stages.drain() {
            stage.bar.finish_and_clear();
        }
        // A terminal that cannot be cleared is gone; nobody is left to see it.
        let _ = self.lines.clear();
    }

    fn stage(&mut self, subject: &str, stage: &str) -> &mut Stage {
        let key = (subject.to_owned(), stage.to_owned());
        let (lines, style) = (&self.lines, self.style);
        self.stages.entry(key).or_insert_with(|| {
            let bar = lines.add(ProgressBar::new_spinner());
            bar.set_style(spinner(style));
            bar.set_prefix(prefix(subject, stage));
            bar.enable_steady_tick(TICK);
            Stage { bar, detail: String::new() }
        })
    }

    fn progress(&mut self, subject: &str, stage: &str, done: u64, total: u64, unit: &str) {
        let style = self.style;
        let stage = self.stage(subject, stage);
        if total > 0 && stage.bar.length() != Some(total) {
            stage.bar.set_style(bar(style));
            stage.bar.set_length(total);
        }
        stage.bar.set_position(done);
        let text = progress(done, total, unit);
        let detail = &stage.detail;
        stage.bar.set_message(if detail.is_empty() { text } else { format!("{text}  {detail}") });
    }

    fn failed(&mut self, subject: &str, stage: &str, failure: &ApiError) {
        self.end(subject, stage);
        self.mark(("✗", Paint::Bad), subject, stage, "failed", &printable(&failure.what));
        let details = error::details(failure, self.style);
        if !details.is_empty() {
            self.above(details.trim_end());
        }
        self.shown.push(failure.clone());
    }

    fn end(&mut self, subject: &str, stage: &str) {
        if let Some(stage) = self.stages.remove(&(subject.to_owned(), stage.to_owned())) {
            stage.bar.finish_and_clear();
            self.lines.remove(&stage.bar);
        }
    }

    fn mark(&self, mark: (&str, Paint), subject: &str, stage: &str, time: &str, detail: &str) {
        let sign = self.style.paint(mark.1, mark.0);
        let detail = self.style.paint(Paint::Dim, detail);
        self.above(&format!("{sign} {} {time:>9}  {detail}", prefix(subject, stage)));
    }

    /// Writes above the moving lines.
    fn above(&self, text: &str) {
        // As with `clear`: when this fails, nobody is left to tell.
        let _ = self.lines.println(text);
    }
}

fn prefix(subject: &str, stage: &str) -> String {
    format!("{subject:<6} {stage:<14}")
}

fn spinner(style: Style) -> ProgressStyle {
    let template = if style.color() {
        "{spinner:.cyan} {prefix} {elapsed:>9.dim}  {wide_msg}"
    } else {
        "{spinner} {prefix} {elapsed:>9}  {wide_msg}"
    };
    ProgressStyle::with_template(template).expect("the template is a constant")
}

fn bar(style: Style) -> ProgressStyle {
    let template = if style.color() {
        "{spinner:.cyan} {prefix} {elapsed:>9.dim}  {bar:20.cyan/dim} {wide_msg}"
    } else {
        "{spinner} {prefix} {elapsed:>9}  {bar:20} {wide_msg}"
    };
    ProgressStyle::with_template(template)
        .expect("the template is a constant")
        .progress_chars("━━─")
}
