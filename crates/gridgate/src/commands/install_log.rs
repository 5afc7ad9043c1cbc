//! `gridgate install-log`: the installations of a node, stage by stage.

use clap::Args;
use gridgate_protocol::install_api::{InstallOutcome, InstallRecord, Method, StageRecord};
use gridgate_protocol::site_api::ErrorKind;

use crate::commands::target::{SiteChoice, node_name, node_path};
use crate::daemon::client::Client;
use crate::daemon::with_daemon;
use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Settings;
use crate::show::figures::{bytes, millis, printable};
use crate::show::table::{Align, Cell, Table};
use crate::show::{Paint, Style, screen};

/// Show how a node was installed: its last installation, stage by stage
///
/// Every installation is kept, also those that failed; with --json all of them are given.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate install-log ui             the last one, and a line for each before it
  gridgate install-log ui --number 3
  gridgate install-log ui --json")]
pub struct InstallLog {
    /// Node
    #[arg(value_parser = node_name)]
    node: String,
    /// Which installation
    #[arg(long, value_name = "N")]
    number: Option<u32>,
    #[command(flatten)]
    choice: SiteChoice,
}

impl InstallLog {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let mut records: Vec<InstallRecord> = with_daemon(settings, async |client: &Client| {
            let site = self.choice.resolve(client).await?;
            client.get(&node_path(&site, &self.node, "installations")).await
        })?;
        if let Some(number) = self.number {
            records.retain(|record| record.number == number);
        }
        if settings.json {
            screen::json(&records);
            return Ok(Exit::OK);
        }
        let Some((last, before)) = records.split_last() else { return Err(self.none()) };
        for record in before {
            screen::line(&summary(record, settings.style));
        }
        screen::text(&whole(last, settings.style));
        Ok(Exit::OK)
    }

    fn none(&self) -> Failure {
        let what = match self.number {
            Some(number) => format!("{} has no installation {number}", self.node),
            None => format!("{} has never installed itself", self.node),
        };
        Failure::new(ErrorKind::NotFound, what)
            .hint(format!("gridgate install {} begins one", self.node))
    }
}

/// The method's word.
pub fn method(method: Method) -> &'static str {
    match method {
        Method::Image => "image",
        Method::Packages => "packages",
    }
}

/// One line: number, method, when, what came of it.
fn summary(record: &InstallRecord, style: Style) -> String {
    let (paint, outcome) = match &record.outcome {
        InstallOutcome::Done => (Paint::Good, format!("done in {}", millis(total(record)))),
        InstallOutcome::UnderWay => (Paint::Warn, "under way".to_owned()),
        InstallOutcome::Failed(why) => {
            let what = printable(&why.what);
            (Paint::Bad, format!("failed in stage {}: {what}", why.stage.word()))
        }
    };
    let begun = record.begun.split('.').next().unwrap_or_default().trim_end_matches('Z');
    format!(
        "installation {} of {}, method {}, begun {}Z: {}",
        record.number,
        record.node,
        method(record.method),
        begun,
        style.paint(paint, &outcome)
    )
}

/// From the launch to the end of its last stage, milliseconds.
pub fn total(record: &InstallRecord) -> u64 {
    let end = |stage: &StageRecord| stage.start_ms + stage.millis.unwrap_or(0);
    let start = record.stages.iter().map(|stage| stage.start_ms).min().unwrap_or(0);
    record.stages.iter().map(end).max().unwrap_or(0).saturating_sub(start)
}

fn whole(record: &InstallRecord, style: Style) -> String {
    let mut text = format!("{}\n\n", summary(record, style));
    let mut table = Table::new(&[
        ("STAGE", Align::Left),
        ("BEGAN", Align::Right),
        ("TOOK", Align::Right),
        ("DONE", Align::Left),
    ]);
    for stage in &record.stages {
        let took = match (stage.millis, &record.outcome) {
            (Some(time), _) => Cell::new(Paint::Plain, millis(time)),
            (None, InstallOutcome::UnderWay) => Cell::new(Paint::Warn, "goes on"),
            (None, _) => Cell::new(Paint::Bad, "cut short"),
        };
        table.row([
            Cell::new(Paint::Plain, stage.stage.word()),
            Cell::new(Paint::Dim, millis(stage.start_ms)),
            took,
            Cell::new(Paint::Plain, done(stage)),
        ]);
    }
    text.push_str(&table.render(style));
    for line in remarks(record) {
        text.push_str(&format!("{line}\n"));
    }
    text
}

fn done(stage: &StageRecord) -> String {
    let amount = stage.bytes.map(|(done, total)| match done == total {
        true => bytes(done),
        false => format!("{} of {}", bytes(done), bytes(total)),
    });
    let items = stage.items.map(|(done, total)| match done == total {
        true => format!("{done} items"),
        false => format!("{done} of {total} items"),
    });
    amount.into_iter().chain(items).collect::<Vec<_>>().join(", ")
}

fn remarks(record: &InstallRecord) -> Vec<String> {
    let mut lines = vec![String::new(), format!("profile {}", record.profile)];
    if let Some(image) = &record.image {
        lines.push(format!("image {image}"));
    }
    if record.launches > 1 {
        lines.push(format!("the installer was launched {} times", record.launches));
    }
    if let Some(off) = record.clock_off_s.filter(|off| off.abs() > 60) {
        lines.push(format!("the machine's clock was off by {off} s"));
    }
    if let InstallOutcome::Failed(why) = &record.outcome {
        lines.extend(why.package.iter().map(|package| format!("package {package}")));
        lines.extend(why.output.lines().map(|line| format!("  {}", printable(line))));
        if let Some(line) = &record.last_line {
            lines.push(format!("the last line on its console: {}", printable(line)));
        }
    }
    lines
}
