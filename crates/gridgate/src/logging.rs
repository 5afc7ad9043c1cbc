//! Where the libraries' log lines go: always standard error, in the form that its reader wants.
//!
//! A shim and a jail log nothing, to stay small.

use std::io::stderr;

use tracing_subscriber::filter::LevelFilter;

use crate::settings::Settings;

/// Chooses the level of daemon and agent: `off`, `error`, `warn`, `info` (default), `debug`, `trace`.
const LEVEL: &str = "GRIDGATE_LOG";

/// For those who ask with `-v`; nothing otherwise.
pub fn command_line(verbose: u8, settings: &Settings) {
    let level = match verbose {
        0 => return,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(stderr)
        .with_ansi(settings.error_style.color())
        .without_time()
        .init();
}

/// For `daemon.log` or whoever runs the daemon in the foreground.
pub fn daemon() {
    tracing_subscriber::fmt()
        .with_max_level(level())
        .with_writer(stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
}

/// For the node's journal, which has its own clock.
pub fn agent() {
    tracing_subscriber::fmt()
        .with_max_level(level())
        .with_writer(stderr)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .init();
}

fn level() -> LevelFilter {
    let named = std::env::var(LEVEL).ok().and_then(|name| name.parse().ok());
    named.unwrap_or(LevelFilter::INFO)
}
