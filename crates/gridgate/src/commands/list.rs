//! `gridgate list`: the sites of this home.

use clap::Args;

use crate::daemon::client::Client;
use crate::daemon::with_daemon;
use crate::failure::{Exit, Outcome};
use crate::settings::Settings;
use crate::show::table::{Align, Cell, Table};
use crate::show::{Paint, screen};

/// List the sites of this home
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  gridgate list --json")]
pub struct List {}

impl List {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let sites = with_daemon(settings, async |client: &Client| client.sites().await)?;
        if settings.json {
            screen::json(&sites);
            return Ok(Exit::OK);
        }
        if sites.is_empty() {
            screen::line("no sites; gridgate init DIR writes a site profile");
            return Ok(Exit::OK);
        }
        let mut table = Table::new(&[
            ("SITE", Align::Left),
            ("RUNNING", Align::Right),
            ("PROFILE", Align::Left),
        ]);
        for site in sites {
            let running = format!("{} of {}", site.running, site.nodes);
            let paint = if site.running == site.nodes { Paint::Good } else { Paint::Plain };
            table.row([
                Cell::new(Paint::Strong, site.site),
                Cell::new(paint, running),
                site.profile.display().to_string().into(),
            ]);
        }
        screen::text(&table.render(settings.style));
        Ok(Exit::OK)
    }
}
