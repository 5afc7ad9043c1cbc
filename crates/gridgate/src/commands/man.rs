//! `gridgate man`: manual pages.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use clap_mangen::Man as Page;

use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Settings;
use crate::show::screen;

/// Write the manual: one page to the screen, or a page per command to a folder
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate man | man -l -              read it
  gridgate man /usr/local/share/man/man1   install it")]
pub struct Man {
    /// Folder for gridgate.1, gridgate-up.1 …
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    /// Runs the command.
    pub fn run(self, _settings: &Settings) -> Outcome {
        let mut tree = crate::cli::tree();
        tree.build();
        match &self.dir {
            None => {
                let mut page = Vec::new();
                Page::new(tree)
                    .render(&mut page)
                    .map_err(|e| not_made(Path::new("the page"), &e))?;
                screen::bytes(&page);
            }
            Some(dir) => {
                fs::create_dir_all(dir).map_err(|e| not_made(dir, &e))?;
                clap_mangen::generate_to(tree, dir).map_err(|e| not_made(dir, &e))?;
                screen::line(&format!("wrote the manual to {}", dir.display()));
            }
        }
        Ok(Exit::OK)
    }
}

fn not_made(what: &Path, error: &io::Error) -> Failure {
    Failure::host(format!("{} cannot be written", what.display())).because(error)
}
