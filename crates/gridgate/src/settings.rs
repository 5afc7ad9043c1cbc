//! What every command is told: where the home is, and how to show things.

use std::io::{IsTerminal, stderr, stdout};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::show::Style;

/// Where everything lives unless told otherwise.
const DEFAULT_HOME: &str = "/var/lib/gridgate";

/// Options that every command takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Folder below which everything lives
    #[arg(
        long,
        global = true,
        env = "GRIDGATE_HOME",
        default_value = DEFAULT_HOME,
        value_name = "DIR"
    )]
    pub home: PathBuf,

    /// Write JSON for programs instead of text for people
    #[arg(long, global = true)]
    pub json: bool,

    /// Colour: auto (on a terminal, unless NO_COLOR is set), always, never
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true
    )]
    pub color: Color,

    /// Only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more about what the command line itself does; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Settings of this run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `GRIDGATE_HOME`, absolute.
    pub home: PathBuf,
    /// Write JSON.
    pub json: bool,
    /// Say only results and errors.
    pub quiet: bool,
    /// How to write on standard output.
    pub style: Style,
    /// How to write on standard error.
    pub error_style: Style,
    /// Whether a person watches, so that lines may move.
    pub live: bool,
}

impl Settings {
    /// From the options and the process's surroundings.
    pub fn new(global: &Global) -> Settings {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let (out, err) = (stdout().is_terminal(), stderr().is_terminal());
        let style = |terminal: bool| {
            Style::new(match global.color {
                Color::Always => true,
                Color::Never => false,
                Color::Auto => terminal && !no_color && !dumb,
            })
        };
        Settings {
            home: absolute(&global.home),
            json: global.json,
            quiet: global.quiet,
            style: style(out),
            error_style: style(err),
            live: out && err && !dumb && !global.json,
        }
    }

    /// How to call gridgate again so that it finds the same home.
    pub fn program(&self) -> String {
        let inherited = std::env::var_os("GRIDGATE_HOME").map(PathBuf::from);
        let usual = inherited.unwrap_or_else(|| PathBuf::from(DEFAULT_HOME));
        if usual == self.home {
            "gridgate".to_owned()
        } else {
            format!("gridgate --home {}", self.home.display())
        }
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.home.join("daemon.sock")
    }
}

/// The path from the root; a working directory that cannot be told leaves it as it is.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
