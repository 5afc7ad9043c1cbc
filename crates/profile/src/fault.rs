//! Located faults: what is wrong with a site's files, where, and what would be right.
//!
//! Faults are collected, never thrown at the first: one run shows them all, up to
//! [`MAX_KEPT`]. This module never decides what is a fault.

use std::fmt;

use serde::Serialize;

use crate::source::Place;

mod excerpt;
mod render;

/// Faults kept of one run; further ones are only counted.
pub const MAX_KEPT: usize = 200;

/// Faults shown in full by [`Faults::render`]; further ones are only counted.
pub const MAX_RENDERED: usize = 40;

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultCode {
    /// The text is not TOML.
    Syntax,
    /// A key that means nothing here.
    UnknownKey,
    /// A mandatory key is not there.
    Missing,
    /// A value of another type than wanted.
    WrongType,
    /// A value outside what is allowed.
    BadValue,
    /// A name that nothing has.
    UnknownName,
    /// Two things that must differ are equal, or that must agree differ.
    Conflict,
    /// A template does not parse or cannot be filled in.
    Template,
}

impl FaultCode {
    /// The word shown to people and written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::UnknownKey => "unknown-key",
            Self::Missing => "missing",
            Self::WrongType => "wrong-type",
            Self::BadValue => "bad-value",
            Self::UnknownName => "unknown-name",
            Self::Conflict => "conflict",
            Self::Template => "template",
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Kind.
    pub code: FaultCode,
    /// Path of the field, e.g. `nodes.ce.memory`.
    pub field: String,
    /// The rule that is broken, as a sentence.
    pub rule: String,
    /// The value found, shortened; `None` where nothing stands.
    pub found: Option<String>,
    /// What to write instead, or what to do.
    pub suggestion: Option<String>,
    /// Where.
    pub place: Place,
    /// Another place that has to do with it, with a word why.
    pub related: Option<(Place, String)>,
}

/// Everything that is wrong, in the order of the files. Never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// The faults kept.
    pub faults: Vec<Fault>,
    /// How many more there were.
    pub omitted: usize,
}

impl Faults {
    /// How many faults were found.
    pub fn count(&self) -> usize {
        self.faults.len() + self.omitted
    }

    /// All faults as text for a terminal, each with the lines it is about.
    pub fn render(&self, colour: bool) -> String {
        render::render(self, colour)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count();
        write!(f, "{count} fault{}", if count == 1 { "" } else { "s" })?;
        if let Some(first) = self.faults.first() {
            let (line, column) = first.place.source.position(first.place.span.start);
            write!(f, ", first: {}:{line}:{column}: ", first.place.source.name)?;
            write!(f, "{}: {}", first.field, first.rule)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A fault as `--json` shows it.
#[derive(Serialize)]
struct FaultRecord<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
    field: &'a str,
    code: FaultCode,
    rule: &'a str,
    found: Option<&'a str>,
    suggestion: Option<&'a str>,
}

impl Serialize for Fault {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let source = &self.place.source;
        let (line, column) = source.position(self.place.span.start);
        let (end_line, end_column) = source.position(self.place.span.end);
        FaultRecord {
            file: &source.name,
            line,
            column,
            end_line,
            end_column,
            field: &self.field,
            code: self.code,
            rule: &self.rule,
            found: self.found.as_deref(),
            suggestion: self.suggestion.as_deref(),
        }
        .serialize(serializer)
    }
}
