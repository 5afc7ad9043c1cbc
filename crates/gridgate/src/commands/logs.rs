//! `gridgate logs`: a node's journal; its console when the node does not answer.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use clap::Args;
use gridgate_protocol::agent_api::RunResult;
use gridgate_protocol::site_api::{Access, ErrorKind, RunCommand};

use crate::commands::exec::shell_words;
use crate::commands::ssh::{access, replace_by_ssh};
use crate::commands::target::{SiteChoice, node_name, node_path};
use crate::daemon::client::Client;
use crate::daemon::with_daemon;
use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Settings;
use crate::show::figures::printable;
use crate::show::screen;

/// Seconds a node may take to read its journal before its console is shown instead.
const LIMIT_S: u32 = 20;

/// How much of a console log's end is looked at, bytes.
const TAIL: u64 = 256 << 10;

/// Show a node's journal; its console when the node does not answer
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate logs ce                         the last 100 lines
  gridgate logs ce slurmctld.service -n 20
  gridgate logs ce -f                      go on as lines come")]
pub struct Logs {
    /// Node
    #[arg(value_parser = node_name)]
    node: String,
    /// Only this unit
    unit: Option<String>,
    #[command(flatten)]
    choice: SiteChoice,
    /// How many lines
    #[arg(short = 'n', long, default_value_t = 100, value_name = "LINES")]
    lines: u32,
    /// Go on as lines come, through ssh
    #[arg(short, long)]
    follow: bool,
}

impl Logs {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        if self.follow {
            let access = access(settings, &self.choice, &self.node)?;
            return Err(replace_by_ssh(&access, None, &[shell_words(&self.journalctl())]));
        }
        match self.journal(settings) {
            Ok(result) => {
                screen::text(&result.stdout);
                screen::error(&result.stderr);
                Ok(Exit(u8::try_from(result.exit_code).unwrap_or(1)))
            }
            Err(Failure::Error(error))
                if !matches!(error.kind, ErrorKind::NotFound | ErrorKind::Input) =>
            {
                let access = access(settings, &self.choice, &self.node)?;
                self.console(&access, &error.what)
            }
            Err(failure) => Err(failure),
        }
    }

    fn journalctl(&self) -> Vec<String> {
        let mut words: Vec<String> = ["journalctl", "--no-pager", "-n"].map(str::to_owned).to_vec();
        words.push(self.lines.to_string());
        if let Some(unit) = &self.unit {
            words.extend(["-u".to_owned(), unit.clone()]);
        }
        if self.follow {
            words.push("-f".to_owned());
        }
        words
    }

    fn journal(&self, settings: &Settings) -> Result<RunResult, Failure> {
        let script = shell_words(&self.journalctl());
        let request = RunCommand { user: "root".to_owned(), script, limit_s: LIMIT_S };
        let result: RunResult = with_daemon(settings, async |client: &Client| {
            let site = self.choice.resolve(client).await?;
            client.post(&node_path(&site, &self.node, "run"), &request).await
        })?;
        if result.timed_out {
            return Err(Failure::new(
                ErrorKind::Node,
                format!("reading the journal took over {LIMIT_S} s"),
            ));
        }
        Ok(result)
    }

    fn console(&self, access: &Access, why: &str) -> Outcome {
        let path = access.run_dir.join("console.log");
        let text = tail(&path, self.lines).map_err(|e| {
            Failure::new(
                ErrorKind::Node,
                format!("{} does not answer and has no console log", self.node),
            )
            .why(why)
            .because(&e)
        })?;
        screen::error(&format!(
            "note: {} does not answer ({why}); this is the end of its console\n",
            self.node
        ));
        screen::text(&text);
        Ok(Exit::OK)
    }
}

/// The last lines of a file, made fit for a terminal.
fn tail(path: &Path, lines: u32) -> io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let first = all.len().saturating_sub(lines as usize);
    Ok(all[first..].iter().map(|line| format!("{}\n", printable(line))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_console() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "one\r\n\u{1b}[1mtwo\u{1b}[0m\r\nthree").expect("written");
        assert_eq!(tail(file.path(), 2).expect("read"), "two\nthree\n");
    }
}
