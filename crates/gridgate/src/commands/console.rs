//! `gridgate console`: a node's console.

use clap::Args;

use crate::commands::target::{SiteChoice, node_name};
use crate::failure::{Exit, Outcome};
use crate::settings::Settings;

/// A node's console: its history, then what comes; Ctrl-] leaves
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate console ce               Ctrl-] leaves
  gridgate console ce --no-follow   only what was written so far
  gridgate console ce --steal       write, even when somebody else does")]
pub struct ConsoleCommand {
    /// Node
    #[arg(value_parser = node_name)]
    node: String,
    #[command(flatten)]
    choice: SiteChoice,
    /// Take the keyboard from whoever has it
    #[arg(long, conflicts_with = "no_follow")]
    steal: bool,
    /// Show what was written so far and end
    #[arg(long)]
    no_follow: bool,
}

impl ConsoleCommand {
    /// Runs the command.
    pub fn run(self, _settings: &Settings) -> Outcome {
        Ok(Exit::OK)
    }
}
