//! `gridgate up`: bring a site to what its profile says.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use gridgate_protocol::site_api::{CheckOutcome, CheckResult, ErrorKind, SiteSource, UpRequest};

use crate::daemon::client::Client;
use crate::daemon::follow::{Ended, Task, follow};
use crate::daemon::with_daemon;
use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Settings;
use crate::show::figures::millis;
use crate::show::{Paint, checks, nodes, plan, screen};

/// What the daemon wants to know of our environment: it runs in another.
const ENVIRONMENT: [&str; 5] =
    ["GRIDGATE_MIRROR", "http_proxy", "https_proxy", "no_proxy", "all_proxy"];

/// Bring a site to what its profile says, and check it
///
/// What is already as it should be is left alone, so it can be given at any time; after an interruption it goes
/// on where it was. FILE may also be the folder that holds site.toml.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate up site.toml             bring the site up and check it
  gridgate up --plan site.toml      only say what would be done
  gridgate up --no-check site.toml  without the site checks at the end")]
pub struct Up {
    /// Site profile
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only say what would be done
    #[arg(long)]
    pub plan: bool,
    /// Do not run the site checks at the end
    #[arg(long)]
    pub no_check: bool,
    /// Seconds that an updated node gets to become healthy before it is rolled back [default: 180]
    #[arg(long, value_name = "S")]
    pub patience: Option<u32>,
    /// Debian mirror, http://HOST/debian; default: the one the host's apt uses
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
}

impl Up {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let source = crate::commands::profile::read_source(&self.file)?;
        let user = first_user(&source);
        let task = Task { name: "up".to_owned(), again: format!("up {}", self.file.display()) };
        let request = UpRequest {
            source,
            mirror: self.mirror,
            environment: environment(),
            plan_only: self.plan,
            check: !self.no_check,
            patience_s: self.patience,
        };
        let ended = with_daemon(settings, async |client: &Client| {
            follow(settings, &task, client.events("/v1/sites/up", &request).await?).await
        })?;
        if !settings.json {
            if self.plan {
                show_plan(&ended, settings);
            } else {
                show(&ended, user.as_deref(), settings);
            }
        }
        verdict(&ended.checks)
    }
}

/// The exit code that site checks give.
pub fn verdict(results: &[CheckResult]) -> Outcome {
    let well = |result: &CheckResult| {
        matches!(result.outcome, CheckOutcome::Passed { .. } | CheckOutcome::NotApplicable { .. })
    };
    if results.iter().all(well) { Ok(Exit::OK) } else { Err(Failure::Shown(ErrorKind::Check)) }
}

/// What of our environment the daemon is told.
pub fn environment() -> BTreeMap<String, String> {
    let value = |name: &str| std::env::var(name).or_else(|_| std::env::var(name.to_uppercase()));
    ENVIRONMENT
        .iter()
        .filter_map(|name| value(name).ok().map(|value| ((*name).to_owned(), value)))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

fn show_plan(ended: &Ended, settings: &Settings) {
    // The plan came as an event and is on the screen, unless events are not shown.
    match &ended.plan {
        Some(planned) if settings.quiet => screen::text(&plan::table(planned, settings.style)),
        Some(_) => {}
        None => screen::line("nothing to do"),
    }
}

/// The node table, the check table, the time, and what to try next.
fn show(ended: &Ended, user: Option<&str>, settings: &Settings) {
    let style = settings.style;
    let Some(status) = &ended.status else { return };
    screen::text(&format!("\n{}", nodes::table(&status.nodes, style)));
    screen::text(&nodes::remarks(&status.nodes, style));
    if !ended.checks.is_empty() {
        screen::text(&format!("\n{}", checks::table(&ended.checks, style)));
    }
    let time = millis(ended.millis);
    let word =
        if ended.changed { "is up, after" } else { "is as its profile says: nothing to do," };
    let mut last = format!("\nsite {} {word} {time}", style.paint(Paint::Strong, &status.site));
    if !ended.checks.is_empty() {
        last.push_str(&format!("; checks: {}", checks::summary(&ended.checks)));
    }
    screen::line(&last);
    if !settings.quiet && ended.changed {
        screen::text(&advice(ended, user, &settings.program()));
    }
}

/// What to try next, with names of this very site.
fn advice(ended: &Ended, user: Option<&str>, program: &str) -> String {
    let nodes = ended.status.iter().flat_map(|status| &status.nodes);
    let Some(door) = nodes.clone().find(|node| node.role == "ui").or_else(|| nodes.clone().next())
    else {
        return String::new();
    };
    let login = match user {
        Some(user) if door.role == "ui" => format!("{user}@{}", door.name),
        _ => door.name.clone(),
    };
    let lines = [
        (format!("ssh {login}"), "log in"),
        ("status --watch".to_owned(), "see how the nodes do"),
        ("check".to_owned(), "run the site checks again"),
        ("down".to_owned(), "stop the machines, keep the disks"),
    ];
    let line = |(words, what): &(String, &str)| format!("  {program} {words:<16}  {what}\n");
    format!("\nTry next\n{}", lines.iter().map(line).collect::<String>())
}

/// The first grid user of a profile, for the advice; a profile with faults has none.
fn first_user(source: &SiteSource) -> Option<String> {
    let site = gridgate_profile::parse_site(&crate::commands::profile::site_files(source)).ok()?;
    site.users.first().map(|user| user.name.clone())
}
