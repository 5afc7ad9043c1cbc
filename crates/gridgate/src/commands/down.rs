//! `gridgate down`: stop the machines of a site.

use clap::Args;
use gridgate_protocol::site_api::DownRequest;

use crate::commands::target::SiteChoice;
use crate::daemon::client::Client;
use crate::daemon::follow::{Task, follow};
use crate::daemon::with_daemon;
use crate::failure::{Exit, Outcome};
use crate::settings::Settings;
use crate::show::figures::millis;
use crate::show::screen;

/// Stop all machines of a site; disks stay
///
/// An `up`, `start`, `restart` or `convert` of this site that still waits for its nodes gives up.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate down               stop in good order
  gridgate down --limit 5     kill what has not stopped after five seconds")]
pub struct Down {
    #[command(flatten)]
    choice: SiteChoice,
    /// Seconds for a stop in good order before a machine is killed [default: 30, more where machines are slow to come up]
    #[arg(long, value_name = "S")]
    limit: Option<u32>,
}

impl Down {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let task = Task { name: "down".to_owned(), again: format!("down{}", self.choice.words()) };
        with_daemon(settings, async |client: &Client| {
            let site = self.choice.resolve(client).await?;
            let request = DownRequest { limit_s: self.limit };
            let events = client.events(&format!("/v1/sites/{site}/down"), &request).await?;
            let ended = follow(settings, &task, events).await?;
            if !settings.json {
                let word =
                    if ended.changed { "is down, after" } else { "was down: nothing to do," };
                screen::line(&format!("site {site} {word} {}", millis(ended.millis)));
            }
            Ok(Exit::OK)
        })
    }
}
