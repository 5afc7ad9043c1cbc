//! `gridgate start`, `stop`, `restart`, `kill`: one machine.

use clap::Args;
use gridgate_protocol::site_api::DownRequest;

use crate::commands::target::{SiteChoice, node_name, node_path};
use crate::daemon::client::Client;
use crate::daemon::follow::{Task, follow};
use crate::daemon::with_daemon;
use crate::failure::{Exit, Outcome};
use crate::settings::Settings;
use crate::show::figures::millis;
use crate::show::{nodes, screen};

/// Start a node's machine
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  gridgate start wn1")]
pub struct Start {
    #[command(flatten)]
    target: Target,
}

/// Stop a node's machine in good order
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  gridgate stop wn1 --limit 60")]
pub struct Stop {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    limit: Limit,
}

/// Stop a node's machine in good order and start it again
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  gridgate restart se")]
pub struct Restart {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    limit: Limit,
}

/// End a node's machine at once, as if its power had failed
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  gridgate kill wn2")]
pub struct Kill {
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
struct Target {
    /// Node
    #[arg(value_parser = node_name)]
    node: String,
    #[command(flatten)]
    choice: SiteChoice,
}

#[derive(Args, Debug)]
struct Limit {
    /// Seconds for a stop in good order before the machine is killed [default: 30, more where machines are slow to come up]
    #[arg(long = "limit", value_name = "S")]
    seconds: Option<u32>,
}

impl Start {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        self.target.ask("start", None, settings)
    }
}

impl Stop {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        self.target.ask("stop", self.limit.seconds, settings)
    }
}

impl Restart {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        self.target.ask("restart", self.limit.seconds, settings)
    }
}

impl Kill {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        self.target.ask("kill", None, settings)
    }
}

impl Target {
    fn ask(&self, verb: &str, limit_s: Option<u32>, settings: &Settings) -> Outcome {
        let node = &self.node;
        let task = Task {
            name: format!("{verb} {node}"),
            again: format!("{verb} {node}{}", self.choice.words()),
        };
        with_daemon(settings, async |client: &Client| {
            let site = self.choice.resolve(client).await?;
            let path = node_path(&site, node, verb);
            let events = client.events(&path, &DownRequest { limit_s }).await?;
            let ended = follow(settings, &task, events).await?;
            if settings.json {
                return Ok(Exit::OK);
            }
            let status = ended.status.iter().flat_map(|status| &status.nodes);
            let word = status.clone().find(|status| status.name == *node);
            let word = word.map_or("done", |status| nodes::state(status.state).0);
            let note = if ended.changed { "" } else { " (nothing to do)" };
            screen::line(&format!("{node}: {word} after {}{note}", millis(ended.millis)));
            Ok(Exit::OK)
        })
    }
}
