//! Why a resource could not be brought into its state.

use std::io;
use std::path::PathBuf;

use crate::accounts::AccountError;
use crate::client::ClientError;
use crate::place::PlaceError;
use crate::process::Finished;

/// The reason, as it stands in the report. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Server(#[from] ClientError),
    #[error("user {0} does not exist on this node")]
    NoUser(String),
    #[error("group {0} does not exist on this node")]
    NoGroup(String),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot run {program}: {source}")]
    Start { program: String, source: io::Error },
    #[error("{program} {ending}: {output}")]
    Program { program: String, ending: String, output: String },
    #[error("the content is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("cannot make {what}: {reason}")]
    Certificate { what: &'static str, reason: String },
    #[error("the install server's certificate is not usable: {0}")]
    Untrusted(String),
    #[error("package {name}: {reason}")]
    Package { name: String, reason: String },
    #[error("{0}: a file of this name is in the way of the mask")]
    MaskBlocked(String),
    #[error("unit {unit}: {reason}")]
    Unit { unit: String, reason: String },
}

/// How much of a program's output goes into a reason.
const OUTPUT: usize = 600;

impl ApplyError {
    /// A program that ended badly; its last words say why.
    pub(crate) fn program(program: &str, done: &Finished) -> Self {
        let ending = if done.timed_out {
            format!("was stopped after {} s", done.elapsed.as_secs())
        } else {
            format!("ended with code {}", done.exit_code)
        };
        let text = if done.stderr.is_empty() { &done.stdout } else { &done.stderr };
        let text = String::from_utf8_lossy(text);
        let mut start = text.len().saturating_sub(OUTPUT);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        Self::Program {
            program: program.to_owned(),
            ending,
            output: text[start..].trim().replace('\n', " | "),
        }
    }
}
