//! `gridgate status`: how a site and its nodes do.

use std::time::Duration;

use clap::Args;

use crate::commands::target::SiteChoice;
use crate::daemon::client::Client;
use crate::daemon::with_daemon;
use crate::failure::{Exit, INTERRUPTED, Outcome};
use crate::settings::Settings;
use crate::show::{nodes, screen};

/// How often `--watch` looks.
const EVERY: Duration = Duration::from_secs(1);

/// Cursor to the upper left corner, rest of the screen cleared line by line as it is written.
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";
const CLEAR_ALL: &str = "\u{1b}[2J";

/// How a site and its nodes do
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate status           once
  gridgate status --watch   until Ctrl-C
  gridgate status --json    for programs; see docs/cli.md")]
pub struct Status {
    #[command(flatten)]
    choice: SiteChoice,
    /// Go on looking until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

impl Status {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        with_daemon(settings, async |client: &Client| {
            let site = self.choice.resolve(client).await?;
            if !self.watch {
                let status = client.site(&site).await?;
                if settings.json {
                    screen::json(&status);
                } else {
                    screen::text(&nodes::site(&status, settings.style));
                    screen::line(&format!("\n{}", nodes::host_use(&status.nodes)));
                }
                return Ok(Exit::OK);
            }
            tokio::select! {
                never = watch(client, &site, settings) => never,
                _ = tokio::signal::ctrl_c() => Ok(Exit(INTERRUPTED)),
            }
        })
    }
}

/// On a terminal the table is drawn again in place; elsewhere it is written when it has changed.
async fn watch(client: &Client, site: &str, settings: &Settings) -> Outcome {
    let mut ticks = tokio::time::interval(EVERY);
    let mut before = String::new();
    if settings.live {
        screen::text(CLEAR_ALL);
    }
    loop {
        ticks.tick().await;
        let status = client.site(site).await?;
        if settings.json {
            screen::json_line(&status);
            continue;
        }
        let text = nodes::site(&status, settings.style);
        if settings.live {
            screen::text(&redraw(&text));
        } else if text != before {
            screen::text(&text);
            screen::line("");
        }
        before = text;
    }
}

fn redraw(text: &str) -> String {
    let body = text.replace('\n', &format!("{CLEAR_LINE}\n"));
    format!("{HOME}{body}{CLEAR_BELOW}")
}
