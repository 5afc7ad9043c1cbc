//! What went wrong, as one value, and the exit code it gives.
//!
//! Errors of the daemon arrive as [`ApiError`]; the command line's own are made into the same type, so that
//! one renderer ([`crate::show::error`]) shows all of them, once.

use std::error::Error;

use gridgate_protocol::site_api::{ApiError, ErrorKind};

/// Exit code after Ctrl-C, as shells give it (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

/// How a command ended when it ended well; a code other than 0 is that of a program run for the user.
pub type Outcome = Result<Exit, Failure>;

/// An exit code with nothing left to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// All is well.
    pub const OK: Exit = Exit(0);
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub enum Failure {
    /// To be shown.
    Error(Box<ApiError>),
    /// Already shown, as an event or a table.
    Shown(ErrorKind),
    /// Ctrl-C; what goes on without us has been said.
    Interrupted,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Failure {
        Failure::Error(Box::new(ApiError {
            kind,
            what: what.into(),
            why: Vec::new(),
            hint: None,
            faults: None,
            faults_json: None,
        }))
    }

    /// The input is wrong.
    pub fn input(what: impl Into<String>) -> Failure {
        Failure::new(ErrorKind::Input, what)
    }

    /// This host cannot do it.
    pub fn host(what: impl Into<String>) -> Failure {
        Failure::new(ErrorKind::Host, what)
    }

    /// Anything else.
    pub fn internal(what: impl Into<String>) -> Failure {
        Failure::new(ErrorKind::Internal, what)
    }

    /// Adds an error and all its causes.
    pub fn because(self, error: &(dyn Error + 'static)) -> Failure {
        self.edit(|api| {
            let mut next = Some(error);
            while let Some(cause) = next {
                let text = cause.to_string();
                // Many errors print their source too: a cause already said is not said again.
                if !api.why.last().is_some_and(|said| said.contains(&text)) {
                    api.why.push(text);
                }
                next = cause.source();
            }
        })
    }

    /// Adds a reason in words.
    pub fn why(self, reason: impl Into<String>) -> Failure {
        self.edit(|api| api.why.push(reason.into()))
    }

    /// Adds what to do next.
    pub fn hint(self, hint: impl Into<String>) -> Failure {
        self.edit(|api| api.hint = Some(hint.into()))
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Error(error) => error.kind.exit_code(),
            Failure::Shown(kind) => kind.exit_code(),
            Failure::Interrupted => INTERRUPTED,
        }
    }

    fn edit(mut self, change: impl FnOnce(&mut ApiError)) -> Failure {
        if let Failure::Error(error) = &mut self {
            change(error);
        }
        self
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        Failure::Error(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_kinds() {
        assert_eq!(Failure::input("x").exit_code(), 2);
        assert_eq!(Failure::Shown(ErrorKind::Check).exit_code(), 5);
        assert_eq!(Failure::Interrupted.exit_code(), 130);
    }

    #[test]
    fn a_cause_is_said_once() {
        let io = std::io::Error::other("disk is full");
        let Failure::Error(error) = Failure::host("cannot write").because(&io) else {
            panic!("an error")
        };
        assert_eq!(error.why, ["disk is full"]);
    }
}
