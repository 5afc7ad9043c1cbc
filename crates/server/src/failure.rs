//! One shape for everything that can go wrong here: what happened, to what, why, what to do next.

use std::error::Error;

use gridgate_protocol::site_api::{ApiError, ErrorKind};

/// A failure on its way to a person. Boxed: it is large and rare.
pub type Failure = Box<ApiError>;

/// A failure of a kind, without causes.
pub fn failure(kind: ErrorKind, what: impl Into<String>) -> Failure {
    Box::new(ApiError {
        kind,
        what: what.into(),
        why: Vec::new(),
        hint: None,
        faults: None,
        faults_json: None,
    })
}

/// A failure of a kind with an error and its sources as the reason, each said once.
pub fn caused(kind: ErrorKind, what: impl Into<String>, error: &dyn Error) -> Failure {
    let mut failure = failure(kind, what);
    let mut source = Some(error);
    while let Some(error) = source {
        let text = error.to_string();
        if !failure.why.iter().any(|said| said.contains(&text)) {
            failure.why.push(text);
        }
        source = error.source();
    }
    failure
}

/// Adds what to do next.
pub trait Hint {
    /// With this advice.
    fn hint(self, hint: impl Into<String>) -> Self;
}

impl Hint for Failure {
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
