//! `gridgate destroy`: remove a site from this host.

use std::io::{IsTerminal, stdin};

use clap::Args;
use gridgate_protocol::site_api::DownRequest;

use crate::commands::target::SiteChoice;
use crate::daemon::client::Client;
use crate::daemon::follow::{Task, follow};
use crate::daemon::with_daemon;
use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Settings;
use crate::show::figures::millis;
use crate::show::screen;

/// Remove a site: machines, disks, keys and certificates
///
/// The site profile and the depot of packages and images stay.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate destroy                      asks first
  gridgate destroy --yes --site dublin  for scripts")]
pub struct Destroy {
    #[command(flatten)]
    choice: SiteChoice,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Destroy {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        if !self.yes && !stdin().is_terminal() {
            return Err(Failure::input(
                "destroying a site is asked about, and nobody is there to answer",
            )
            .hint("gridgate destroy --yes"));
        }
        let task =
            Task { name: "destroy".to_owned(), again: format!("destroy{}", self.choice.words()) };
        with_daemon(settings, async |client: &Client| {
            let site = self.choice.resolve(client).await?;
            if !self.yes && !agreed(client, &site).await? {
                screen::error("nothing was touched\n");
                return Ok(Exit(1));
            }
            let request = DownRequest::default();
            let events = client.events(&format!("/v1/sites/{site}/destroy"), &request).await?;
            let ended = follow(settings, &task, events).await?;
            if !settings.json {
                screen::line(&format!("site {site} is gone, after {}", millis(ended.millis)));
            }
            Ok(Exit::OK)
        })
    }
}

/// Asks for the site's name, so that a hasty Enter destroys nothing.
async fn agreed(client: &Client, site: &str) -> Result<bool, Failure> {
    let nodes = client.site(site).await?.nodes;
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    screen::error(&format!(
        "This removes site {site} with all that is on the disks of {}.\nType the site's name to go on: ",
        names.join(", ")
    ));
    let mut answer = String::new();
    let read = stdin().read_line(&mut answer);
    read.map_err(|e| Failure::host("the answer cannot be read").because(&e))?;
    Ok(answer.trim() == site)
}
