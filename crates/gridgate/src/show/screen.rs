//! The only writer to standard output and standard error.
//!
//! A reader that goes away (`gridgate status | head -1`) ends the command quietly, as a signal would.

use std::io::{self, Write};
use std::process;

use gridgate_protocol::site_api::ApiError;
use serde::Serialize;

/// Exit code when the reader of our output is gone (128 + SIGPIPE).
const READER_GONE: i32 = 141;

/// Text as it is, to standard output.
pub fn text(text: &str) {
    bytes(text.as_bytes());
}

/// A line to standard output.
pub fn line(line: &str) {
    bytes(format!("{line}\n").as_bytes());
}

/// A value as JSON over several lines, to standard output.
pub fn json(value: &impl Serialize) {
    line(&serde_json::to_string_pretty(value).expect("our values have string keys only"));
}

/// A value as one line of JSON, to standard output.
pub fn json_line(value: &impl Serialize) {
    line(&serde_json::to_string(value).expect("our values have string keys only"));
}

/// Bytes as they are, to standard output.
pub fn bytes(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    if written.is_err() {
        process::exit(READER_GONE);
    }
}

/// Text as it is, to standard error. Nobody is left to tell when that fails.
pub fn error(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// An error as one line of JSON, to standard error.
pub fn error_json(value: &ApiError) {
    #[derive(Serialize)]
    struct Wrapped<'a> {
        error: &'a ApiError,
    }
    let json = serde_json::to_string(&Wrapped { error: value });
    error(&format!("{}\n", json.expect("an error has string keys only")));
}
