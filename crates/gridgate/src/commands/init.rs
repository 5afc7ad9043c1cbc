//! `gridgate init`: write a site profile to begin with.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Settings;
use crate::show::screen;

/// Write a site profile to begin with
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate init mysite                   writes mysite/site.toml
  gridgate init --name dublin profiles   a site named otherwise than its folder")]
pub struct Init {
    /// Folder; it is made when it is missing
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Name of the site; default: the folder's name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl Init {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let failed = |e: &io::Error| {
            Failure::host(format!("{} cannot be made", self.dir.display())).because(e)
        };
        fs::create_dir_all(&self.dir).map_err(|e| failed(&e))?;
        let whole = self.dir.canonicalize().map_err(|e| failed(&e))?;
        let folder = whole.file_name().map(|name| name.to_string_lossy().to_lowercase());
        let name = self.name.clone().or(folder).unwrap_or_else(|| "site".to_owned());
        let path = self.dir.join("site.toml");
        let mut file = File::create_new(&path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Failure::input(format!("{} is there already and is left alone", path.display()))
                    .hint(format!("gridgate profile check {}", path.display()))
            }
            _ => failed(&error),
        })?;
        let text = gridgate_profile::init_text(&name);
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| failed(&e))?;
        if settings.json {
            screen::json(&serde_json::json!({ "site": name, "profile": path }));
        } else {
            screen::line(&format!("wrote {}", path.display()));
            screen::line(&format!("next: gridgate up {}", path.display()));
        }
        Ok(Exit::OK)
    }
}
