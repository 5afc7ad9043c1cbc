//! `gridgate image why`: why a role image was or was not used again.

use clap::{Args, Subcommand};
use gridgate_protocol::site_api::ImageExplanation;

use crate::commands::target::{SiteChoice, node_name, node_path};
use crate::daemon::client::Client;
use crate::daemon::with_daemon;
use crate::failure::{Exit, Outcome};
use crate::settings::Settings;
use crate::show::{Paint, screen};

/// Role images
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  gridgate image why ce")]
pub struct Image {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Subcommand, Debug)]
enum ImageCommand {
    Why(Why),
}

/// Why a node's role image was or was not used again
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  gridgate image why ce --json")]
struct Why {
    /// Node
    #[arg(value_parser = node_name)]
    node: String,
    #[command(flatten)]
    choice: SiteChoice,
}

impl Image {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let ImageCommand::Why(why) = self.command;
        let explained: ImageExplanation = with_daemon(settings, async |client: &Client| {
            let site = why.choice.resolve(client).await?;
            client.get(&node_path(&site, &why.node, "image")).await
        })?;
        if settings.json {
            screen::json(&explained);
            return Ok(Exit::OK);
        }
        let (word, paint) =
            if explained.present { ("present", Paint::Good) } else { ("absent", Paint::Warn) };
        screen::line(&format!(
            "node {}, role {}: image {} is {}",
            explained.node,
            explained.role,
            explained.key,
            settings.style.paint(paint, word)
        ));
        for line in &explained.lines {
            screen::line(&format!("  {line}"));
        }
        Ok(Exit::OK)
    }
}
