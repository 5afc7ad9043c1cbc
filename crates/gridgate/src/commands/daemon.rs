//! `gridgate daemon`: be the site daemon, or stop it.

use clap::{Args, Subcommand};

use crate::daemon::client::{Client, Presence};
use crate::daemon::{launch, with_runtime};
use crate::failure::{Exit, Outcome};
use crate::logging;
use crate::settings::Settings;
use crate::show::screen;

/// Be the site daemon; other commands start it themselves
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate daemon          run it here, for a service manager
  gridgate daemon stop     machines run on without it
  gridgate daemon status   who answers")]
#[command(args_conflicts_with_subcommands = true)]
pub struct Daemon {
    /// Log to standard error (it does so anyway; for service files that say it)
    #[arg(long)]
    foreground: bool,
    #[command(subcommand)]
    command: Option<DaemonCommand>,
}

#[derive(Subcommand, Debug)]
enum DaemonCommand {
    Stop(Stop),
    Status(Status),
}

/// Stop the daemon; machines run on
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  gridgate daemon stop")]
struct Stop {}

/// Who answers on the daemon's socket
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  gridgate daemon status --json")]
struct Status {}

impl Daemon {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        match self.command {
            None => {
                logging::daemon();
                let code = gridgate_server::daemon_main(&settings.home);
                Ok(Exit(u8::try_from(code).unwrap_or(1)))
            }
            Some(DaemonCommand::Stop(_)) => stop(settings),
            Some(DaemonCommand::Status(_)) => status(settings),
        }
    }
}

fn stop(settings: &Settings) -> Outcome {
    with_runtime(async {
        let client = Client::new(&settings.socket());
        match client.presence().await? {
            Presence::Answers(info) => {
                launch::stop(&client, &info).await?;
                say(
                    settings,
                    &format!("the daemon (process {}) has ended; machines run on", info.pid),
                );
            }
            Presence::Silent => say(settings, "no daemon was running"),
        }
        Ok(Exit::OK)
    })
}

fn status(settings: &Settings) -> Outcome {
    let presence = with_runtime(async { Client::new(&settings.socket()).presence().await })?;
    match presence {
        Presence::Answers(info) if settings.json => screen::json(&info),
        Presence::Answers(info) => {
            let same = if info.build == launch::own_build() { "this" } else { "another" };
            screen::line(&format!(
                "version {}, {same} build ({}), process {}, home {}",
                info.version,
                info.build,
                info.pid,
                info.home.display()
            ));
        }
        Presence::Silent if settings.json => screen::line("null"),
        Presence::Silent => screen::line("no daemon is running; the next command starts it"),
    }
    Ok(Exit::OK)
}

fn say(settings: &Settings, text: &str) {
    if !settings.quiet && !settings.json {
        screen::line(text);
    }
}
