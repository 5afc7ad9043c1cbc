//! Located faults: what is wrong with a site's files, where, and what would be right.
//!
//! Faults are collected, never thrown at the first: one run shows them all, up to
//! `MAX_KEPT`. This module never decides what is a fault.

use std::fmt;

use serde::Serialize;

use crate::source::Place;

mod excerpt;
mod render;
mod sink;

pub(crate) use sink::FaultSink;

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
    /// Nodes it was met on, where it is not about all.
    pub nodes: Vec<String>,
}

impl Fault {
    /// States the value found.
    pub(crate) fn found(mut self, value: impl fmt::Display) -> Self {
        self.found = Some(shorten(&value.to_string()));
        self
    }

    /// States no value found: nothing stands there.
    pub(crate) fn found_nothing(mut self) -> Self {
        self.found = None;
        self
    }

    /// Says what to do instead.
    pub(crate) fn suggest(mut self, what: impl Into<String>) -> Self {
        self.suggestion = Some(what.into());
        self
    }

    /// Says what to do instead, where something comes to mind.
    pub(crate) fn suggest_some(mut self, what: Option<String>) -> Self {
        self.suggestion = what.or(self.suggestion);
        self
    }

    /// Points at another place too.
    pub(crate) fn related(mut self, spot: &Spot, why: impl Into<String>) -> Self {
        self.related = Some((spot.place.clone(), why.into()));
        self
    }

    /// Names the node it was met on.
    pub(crate) fn on_node(mut self, node: &str) -> Self {
        self.nodes = vec![node.to_owned()];
        self
    }
}

/// A value's place together with its field path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    /// Where it stands.
    pub place: Place,
    /// Field path.
    pub field: String,
}

impl Spot {
    /// A fault here, with the text that stands here as the value found.
    pub(crate) fn fault(&self, code: FaultCode, rule: impl Into<String>) -> Fault {
        let text = self.place.source.text.get(self.place.span.clone()).unwrap_or_default();
        Fault {
            code,
            field: self.field.clone(),
            rule: rule.into(),
            found: (!text.is_empty()).then(|| shorten(text)),
            suggestion: None,
            place: self.place.clone(),
            related: None,
            nodes: Vec::new(),
        }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Located<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub spot: Spot,
}

impl<T> Located<T> {
    /// The same place, another value.
    pub(crate) fn with<U>(&self, value: U) -> Located<U> {
        Located { value, spot: self.spot.clone() }
    }
}

/// Cuts a value to what fits on a line and makes control characters visible.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut short = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == LONGEST {
            short.push('…');
            break;
        }
        match character {
            '\n' | '\r' | '\t' => short.push(' '),
            c if c.is_control() => short.extend(c.escape_default()),
            c => short.push(c),
        }
    }
    short
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
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    nodes: &'a [String],
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
            nodes: &self.nodes,
        }
        .serialize(serializer)
    }
}
