//! `gridgate rollback`: put a node's disk from before its last update back, or let go of it.

use std::io::{IsTerminal, stdin};

use clap::Args;
use gridgate_protocol::site_api::DownRequest;

use crate::commands::target::{SiteChoice, node_name, node_path};
use crate::daemon::client::Client;
use crate::daemon::follow::{Task, follow};
use crate::daemon::with_daemon;
use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Settings;
use crate::show::figures::millis;
use crate::show::screen;

/// Put a node back to its disk from before the last update
///
/// The node loses what was written to its disk since then. It keeps its earlier packages until another lock or profile
/// is wanted. Refused when there is no earlier disk; `gridgate status` names the nodes that have one.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate rollback ce             asks first
  gridgate rollback ce --yes       for scripts
  gridgate rollback --discard ce   the update was good: remove the earlier disk
                                   after a rollback: let the next up try the same update again")]
pub struct Rollback {
    /// Node
    #[arg(value_parser = node_name)]
    node: String,
    #[command(flatten)]
    choice: SiteChoice,
    /// Remove the earlier disk, or let a node that was rolled back be updated to the same again
    #[arg(long)]
    discard: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Rollback {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let (node, words) = (&self.node, self.choice.words());
        if !self.discard && !self.yes && !agreed(node)? {
            screen::error("nothing was touched\n");
            return Ok(Exit(1));
        }
        let (verb, option) =
            if self.discard { ("discard", " --discard") } else { ("rollback", " --yes") };
        let task = Task {
            name: format!("{verb} {node}"),
            again: format!("rollback{option} {node}{words}"),
        };
        with_daemon(settings, async |client: &Client| {
            let site = self.choice.resolve(client).await?;
            let path = node_path(&site, node, verb);
            let events = client.events(&path, &DownRequest::default()).await?;
            let ended = follow(settings, &task, events).await?;
            if !settings.json {
                let done = if self.discard {
                    "has no earlier disk any more and is not held"
                } else {
                    "is what it was before its last update"
                };
                screen::line(&format!("{node} {done}, after {}", millis(ended.millis)));
            }
            Ok(Exit::OK)
        })
    }
}

/// Asks, since what was written since is lost.
fn agreed(node: &str) -> Result<bool, Failure> {
    if !stdin().is_terminal() {
        return Err(Failure::input("a rollback is asked about, and nobody is there to answer")
            .hint(format!("gridgate rollback {node} --yes")));
    }
    screen::error(&format!(
        "This puts {node} back to before its last update; what was written to its disk since is lost.\n\
         Type the node's name to go on: "
    ));
    let mut answer = String::new();
    let read = stdin().read_line(&mut answer);
    read.map_err(|e| Failure::host("the answer cannot be read").because(&e))?;
    Ok(answer.trim() == node)
}
