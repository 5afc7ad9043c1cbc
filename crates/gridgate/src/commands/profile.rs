//! `gridgate profile`: check a site profile, show a node's profile.

mod read;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gridgate_profile::{Compiled, Facts, Faults};
use gridgate_protocol::agent_api::PublishedProfile;
use gridgate_protocol::site_api::ErrorKind;
use serde::Serialize;

use crate::commands::target::{SiteChoice, node_name, node_path};
use crate::daemon::client::Client;
use crate::daemon::with_daemon;
use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Settings;
use crate::show::screen;

pub use read::{read_source, site_files};

/// Site and node profiles
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate profile check site.toml   all faults at once, each with its place
  gridgate profile show ce           what the node ce must be")]
pub struct Profile {
    #[command(subcommand)]
    command: ProfileCommand,
}

#[derive(Subcommand, Debug)]
enum ProfileCommand {
    Check(Check),
    Show(Show),
}

/// Check a site profile; touches nothing and needs no rights
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate profile check site.toml          exit code 2 when it has faults
  gridgate profile check site.toml --json   the faults for an editor")]
struct Check {
    /// Site profile
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Show what a node must be, as published to its agent
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate profile show ce
  gridgate profile show ce --json   the whole document, with the files' contents")]
struct Show {
    /// Node
    #[arg(value_parser = node_name)]
    node: String,
    #[command(flatten)]
    choice: SiteChoice,
}

impl Profile {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        match self.command {
            ProfileCommand::Check(check) => check.run(settings),
            ProfileCommand::Show(show) => show.run(settings),
        }
    }
}

/// What `profile check --json` writes.
#[derive(Serialize)]
struct Verdict<'a> {
    valid: bool,
    #[serde(flatten)]
    faults: &'a Faults,
}

impl Check {
    fn run(self, settings: &Settings) -> Outcome {
        let source = read_source(&self.file)?;
        let files = site_files(&source);
        let checked = gridgate_profile::parse_site(&files).and_then(|site| {
            let compiled = gridgate_profile::compile(&site, &stand_in_facts())?;
            Ok((site, compiled))
        });
        match checked {
            Ok((site, compiled)) => {
                if settings.json {
                    screen::json(&Verdict { valid: true, faults: &Faults::default() });
                } else if !settings.quiet {
                    screen::text(&well(&site.name, &compiled, settings));
                }
                Ok(Exit::OK)
            }
            Err(faults) if settings.json => {
                screen::json(&Verdict { valid: false, faults: &faults });
                Err(Failure::Shown(ErrorKind::Input))
            }
            Err(faults) => {
                // Their last line counts them, so no further error is shown.
                screen::error(&faults.render(settings.error_style.color()));
                Err(Failure::Shown(ErrorKind::Input))
            }
        }
    }
}

/// Templates read the running site's CA and keys, which a profile that was never brought up has not.
fn stand_in_facts() -> Facts {
    Facts {
        ca_certificate: "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_owned(),
        ca_hash: "00000000".to_owned(),
        admin_keys: vec!["ssh-ed25519 AAAA administrator".to_owned()],
    }
}

fn well(site: &str, compiled: &Compiled, settings: &Settings) -> String {
    format!("site {site} has no faults\n\n{}", show::compiled_nodes(compiled, settings.style))
}

impl Show {
    fn run(self, settings: &Settings) -> Outcome {
        let published: PublishedProfile = with_daemon(settings, async |client: &Client| {
            let site = self.choice.resolve(client).await?;
            client.get(&node_path(&site, &self.node, "profile")).await
        })?;
        if settings.json {
            screen::json(&published);
        } else {
            screen::text(&show::published(&published, settings.style));
        }
        Ok(Exit::OK)
    }
}
