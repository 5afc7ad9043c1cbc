//! `gridgate completions`: completion scripts for shells.

use clap::Args;
use clap_complete::Shell;

use crate::failure::{Exit, Outcome};
use crate::settings::Settings;
use crate::show::screen;

/// Write a completion script for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  gridgate completions bash > /etc/bash_completion.d/gridgate")]
pub struct Completions {
    /// Shell
    shell: Shell,
}

impl Completions {
    /// Runs the command.
    pub fn run(self, _settings: &Settings) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::cli::tree(), "gridgate", &mut script);
        screen::bytes(&script);
        Ok(Exit::OK)
    }
}
