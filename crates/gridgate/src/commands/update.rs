//! `gridgate update`: move a site's lock to what the archive has now.

use clap::Args;
use gridgate_protocol::depot_api::UpdateRequest;

use crate::commands::target::SiteChoice;
use crate::commands::up::environment;
use crate::daemon::client::Client;
use crate::daemon::follow::{Task, follow};
use crate::daemon::with_daemon;
use crate::failure::{Exit, Outcome};
use crate::settings::Settings;

/// Lock the newest packages of the archive, and show what that changes on which node
///
/// Only the lock is changed, and the earlier one is kept: `gridgate up` rolls it out.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate update --plan    only show what would change
  gridgate update           then: gridgate up site.toml")]
pub struct Update {
    #[command(flatten)]
    choice: SiteChoice,
    /// Only show what would change
    #[arg(long)]
    plan: bool,
    /// Debian mirror, http://HOST/debian; default: the one the host's apt uses
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

impl Update {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let Update { choice, plan: plan_only, mirror } = self;
        let again = format!("update{}", choice.words());
        let task = Task { name: "update".to_owned(), again };
        with_daemon(settings, async |client: &Client| {
            let site = choice.resolve(client).await?;
            let request = UpdateRequest { mirror, environment: environment(), plan_only };
            let events = client.events(&format!("/v1/sites/{site}/update"), &request).await?;
            follow(settings, &task, events).await?;
            Ok(Exit::OK)
        })
    }
}
