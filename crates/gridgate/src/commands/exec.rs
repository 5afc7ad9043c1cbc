//! `gridgate exec`: run a command in a node through its agent; no network login is needed.

use clap::Args;
use gridgate_protocol::agent_api::{RUN_OUTPUT, RunResult};
use gridgate_protocol::site_api::RunCommand;

use crate::commands::target::{SiteChoice, node_name, node_path};
use crate::daemon::client::Client;
use crate::daemon::with_daemon;
use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Settings;
use crate::show::screen;
use gridgate_protocol::site_api::ErrorKind;

/// Run a command in a node and give its output and exit code
///
/// The agent of the node runs it, so it works without ssh. It has no standard input; of each output stream the
/// first 64 KiB are kept.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate exec ce -- sinfo
  gridgate exec ui --user alice -- sh -c 'grid-proxy-init && grid-proxy-info'")]
pub struct Exec {
    /// Node
    #[arg(value_parser = node_name)]
    node: String,
    #[command(flatten)]
    choice: SiteChoice,
    /// Run as this user
    #[arg(long, default_value = "root", value_name = "NAME")]
    user: String,
    /// Seconds after which the command is killed
    #[arg(long, default_value_t = 600, value_name = "S")]
    limit: u32,
    /// Command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Exec {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let request =
            RunCommand { user: self.user, script: shell_words(&self.command), limit_s: self.limit };
        let result: RunResult = with_daemon(settings, async |client: &Client| {
            let site = self.choice.resolve(client).await?;
            let path = node_path(&site, &self.node, "run");
            tokio::select! {
                result = client.post(&path, &request) => result,
                _ = tokio::signal::ctrl_c() => {
                    screen::error(&format!(
                        "No longer waiting; the command goes on in {} for at most {} s.\n",
                        self.node, request.limit_s
                    ));
                    Err(Failure::Interrupted)
                }
            }
        })?;
        let code = u8::try_from(result.exit_code).unwrap_or(1);
        if settings.json {
            screen::json(&result);
            return Ok(Exit(code));
        }
        screen::text(&result.stdout);
        screen::error(&result.stderr);
        for (name, stream) in [("output", &result.stdout), ("error output", &result.stderr)] {
            if stream.len() >= RUN_OUTPUT {
                let node = &self.node;
                screen::error(&format!(
                    "\nwarning: only the first {} KiB of the command's {name} are kept; a file on {node} can take more\n",
                    RUN_OUTPUT >> 10
                ));
            }
        }
        if result.timed_out {
            let what = format!("{} ended the command after {} s", self.node, request.limit_s);
            return Err(Failure::new(ErrorKind::Node, what).hint("a longer time: --limit S"));
        }
        Ok(Exit(code))
    }
}

/// The words as a script for `/bin/sh` that means just these words.
pub fn shell_words(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    quoted.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        let words = ["echo", "it's", "a b", "", "$HOME"].map(String::from);
        assert_eq!(shell_words(&words), r"echo 'it'\''s' 'a b' '' '$HOME'");
    }
}
