//! The command tree, and what happens around every command.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands;
use crate::failure::{Failure, Outcome};
use crate::logging;
use crate::settings::{Global, Settings};
use crate::show::{error, screen};

const EXAMPLES: &str = "\
Examples:
  gridgate doctor                 what this host still lacks
  gridgate init mysite            write mysite/site.toml, ready to be changed
  gridgate up mysite/site.toml    bring the site up and check it
  gridgate ssh alice@ui           log in as a grid user
  gridgate down                   stop the machines, keep the disks";

/// A whole Grid site on one computer
#[derive(Parser, Debug)]
#[command(name = "gridgate", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(propagate_version = false, disable_help_subcommand = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten, next_help_heading = "Options of every command")]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// All commands, in the order in which a newcomer meets them.
#[derive(Subcommand, Debug)]
pub enum Command {
    Init(commands::init::Init),
    Up(commands::up::Up),
    Status(commands::status::Status),
    Check(commands::check::Check),
    Drift(commands::drift::Drift),
    Reconcile(commands::drift::Reconcile),
    Rollback(commands::rollback::Rollback),
    Ssh(commands::ssh::Ssh),
    Exec(commands::exec::Exec),
    Logs(commands::logs::Logs),
    Console(commands::console::ConsoleCommand),
    Down(commands::down::Down),
    Destroy(commands::destroy::Destroy),
    Start(commands::power::Start),
    Stop(commands::power::Stop),
    Restart(commands::power::Restart),
    Kill(commands::power::Kill),
    Convert(commands::convert::Convert),
    Install(commands::install::Install),
    InstallLog(commands::install_log::InstallLog),
    List(commands::list::List),
    Profile(commands::profile::Profile),
    Image(commands::image::Image),
    Depot(commands::depot::Depot),
    Update(commands::update::Update),
    Doctor(commands::doctor::Doctor),
    Bench(commands::bench::Bench),
    Daemon(commands::daemon::Daemon),
    Completions(commands::completions::Completions),
    Man(commands::man::Man),
}

impl Command {
    fn run(self, settings: &Settings) -> Outcome {
        match self {
            Command::Init(command) => command.run(settings),
            Command::Up(command) => command.run(settings),
            Command::Status(command) => command.run(settings),
            Command::Check(command) => command.run(settings),
            Command::Drift(command) => command.run(settings),
            Command::Reconcile(command) => command.run(settings),
            Command::Rollback(command) => command.run(settings),
            Command::Ssh(command) => command.run(settings),
            Command::Exec(command) => command.run(settings),
            Command::Logs(command) => command.run(settings),
            Command::Console(command) => command.run(settings),
            Command::Down(command) => command.run(settings),
            Command::Destroy(command) => command.run(settings),
            Command::Start(command) => command.run(settings),
            Command::Stop(command) => command.run(settings),
            Command::Restart(command) => command.run(settings),
            Command::Kill(command) => command.run(settings),
            Command::Convert(command) => command.run(settings),
            Command::Install(command) => command.run(settings),
            Command::InstallLog(command) => command.run(settings),
            Command::List(command) => command.run(settings),
            Command::Profile(command) => command.run(settings),
            Command::Image(command) => command.run(settings),
            Command::Depot(command) => command.run(settings),
            Command::Update(command) => command.run(settings),
            Command::Doctor(command) => command.run(settings),
            Command::Bench(command) => command.run(settings),
            Command::Daemon(command) => command.run(settings),
            Command::Completions(command) => command.run(settings),
            Command::Man(command) => command.run(settings),
        }
    }
}

/// Parses, runs, shows what went wrong, and gives the exit code.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        // Help and version go to standard output with code 0, faults to standard error with code 2.
        Err(error) => error.exit(),
    };
    let settings = Settings::new(&cli.global);
    if !matches!(cli.command, Command::Daemon(_)) {
        logging::command_line(cli.global.verbose, &settings);
    }
    match cli.command.run(&settings) {
        Ok(exit) => ExitCode::from(exit.0),
        Err(failure) => {
            report(&failure, &settings);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The tree as clap knows it, for completions and manual pages.
pub fn tree() -> clap::Command {
    Cli::command()
}

/// The only place where an error reaches the screen.
fn report(failure: &Failure, settings: &Settings) {
    let Failure::Error(error) = failure else { return };
    if settings.json {
        screen::error_json(error);
    } else {
        screen::error(&error::render(error, settings.error_style));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        tree().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn walk(path: &str, command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("gridgate "), "{path} has no example");
            assert!(command.get_about().is_some(), "{path} does not say what it does");
            for child in command.get_subcommands() {
                walk(&format!("{path} {}", child.get_name()), child);
            }
        }
        walk("gridgate", &tree());
    }

    #[test]
    fn examples_parse() {
        fn walk(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter_map(|line| line.trim().strip_prefix("gridgate ")) {
                // The words after two blanks say what the example does.
                let words = line.split("  ").next().unwrap_or(line);
                let words = words.split(" | ").next().unwrap_or(words);
                let words = words.split(" > ").next().unwrap_or(words);
                let words = words.split(" && ").next().unwrap_or(words);
                let parsed = Cli::try_parse_from(
                    std::iter::once("gridgate").chain(words.split_whitespace()),
                );
                if let Err(error) = parsed {
                    panic!("example `gridgate {words}`: {error}");
                }
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&tree());
    }
}
