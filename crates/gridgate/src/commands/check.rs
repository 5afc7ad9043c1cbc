//! `gridgate check`: do on the site what a grid user does.

use clap::Args;
use gridgate_protocol::site_api::DownRequest;

use crate::commands::target::SiteChoice;
use crate::commands::up::verdict;
use crate::daemon::client::Client;
use crate::daemon::follow::{Task, follow};
use crate::daemon::with_daemon;
use crate::failure::Outcome;
use crate::settings::Settings;
use crate::show::figures::millis;
use crate::show::{checks, screen};

/// Do on the site what a grid user does: proxy, jobs, transfers
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate check          exit code 5 when a check fails
  gridgate check --json   one event a line")]
pub struct Check {
    #[command(flatten)]
    choice: SiteChoice,
}

impl Check {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let task =
            Task { name: "check".to_owned(), again: format!("check{}", self.choice.words()) };
        let ended = with_daemon(settings, async |client: &Client| {
            let site = self.choice.resolve(client).await?;
            let path = format!("/v1/sites/{site}/check");
            follow(settings, &task, client.events(&path, &DownRequest::default()).await?).await
        })?;
        if !settings.json {
            screen::text(&format!("\n{}", checks::table(&ended.checks, settings.style)));
            let summary = checks::summary(&ended.checks);
            screen::line(&format!("\n{summary}, {} in all", millis(ended.millis)));
        }
        verdict(&ended.checks)
    }
}
