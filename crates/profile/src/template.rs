//! Filling in templates (minijinja). Undefined names are errors; a template that
//! does not end is stopped. This module never decides what templates may read.

use std::ops::Range;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, Value};

use crate::component::{Component, Text};
use crate::fault::{Fault, FaultCode, FaultSink, Located, Spot};
use crate::source::{Place, Source};

pub(crate) mod filters;

/// Steps one template may take; a large file of ours takes a few thousand.
const FUEL: u64 = 5_000_000;

/// What templates read.
pub(crate) type Context = std::collections::BTreeMap<String, Value>;

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(syntax());
    environment.set_debug(true);
    environment.set_fuel(Some(FUEL));
    filters::add(&mut environment);
    environment
}

/// Files keep their last newline and lose the lines that hold only a tag; strings
/// in `component.toml` too, whose text is written the same way.
fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()
        .unwrap_or_default()
}

/// Makes a fault when a template file does not parse.
pub(crate) fn check_file(source: &Arc<Source>, sink: &FaultSink) {
    let environment = environment();
    if let Err(error) = environment.template_from_named_str(&source.name, &source.text) {
        sink.push(*file_fault(source, &error));
    }
}

/// Makes a fault when a string does not parse as a template.
pub(crate) fn check_text(text: &Text, sink: &FaultSink) {
    if is_template(&text.value)
        && let Err(error) = environment().template_from_str(&text.value)
    {
        sink.push(*text_fault(text, &error));
    }
}

/// Makes a fault when a string does not parse as an expression.
pub(crate) fn check_expression(text: &Text, sink: &FaultSink) {
    if let Err(error) = environment().compile_expression(&text.value) {
        sink.push(*text_fault(text, &error));
    }
}

/// Fills in one component's templates.
pub(crate) struct Renderer<'a> {
    component: &'a Component,
    environment: Environment<'a>,
}

impl<'a> Renderer<'a> {
    /// A renderer that knows the component's template files, so that they can
    /// include each other. Files that do not parse are faults already.
    pub(crate) fn new(component: &'a Component) -> Self {
        let mut environment = environment();
        for (name, source) in &component.templates {
            let _ = environment.add_template(name, &source.text);
        }
        Self { component, environment }
    }

    /// A template file's text.
    pub(crate) fn file(
        &self,
        name: &Located<String>,
        context: &Context,
    ) -> Result<String, Box<Fault>> {
        let rendered = self
            .environment
            .get_template(&name.value)
            .and_then(|template| template.render(Value::from_pairs(context.clone())));
        rendered.map_err(|error| {
            let error = innermost(&error);
            let source = error.name().and_then(|name| self.component.templates.get(name));
            let mut fault = match source {
                Some(source) => file_fault(source, error),
                None => text_fault(name, error),
            };
            fault.field.clone_from(&name.spot.field);
            fault
        })
    }

    /// A string's text.
    pub(crate) fn text(&self, text: &Text, context: &Context) -> Result<String, Box<Fault>> {
        if !is_template(&text.value) {
            return Ok(text.value.clone());
        }
        self.environment
            .render_str(&text.value, Value::from_pairs(context.clone()))
            .map_err(|error| text_fault(text, &error))
    }

    /// Whether an expression is true.
    pub(crate) fn condition(&self, text: &Text, context: &Context) -> Result<bool, Box<Fault>> {
        Ok(self.evaluate(text, context)?.is_true())
    }

    /// The elements of the list an expression gives.
    pub(crate) fn list(&self, text: &Text, context: &Context) -> Result<Vec<Value>, Box<Fault>> {
        let value = self.evaluate(text, context)?;
        let elements = value.try_iter().map_err(|error| text_fault(text, &error))?;
        Ok(elements.take(LONGEST_LIST).collect())
    }

    fn evaluate(&self, text: &Text, context: &Context) -> Result<Value, Box<Fault>> {
        let value = self
            .environment
            .compile_expression(&text.value)
            .and_then(|expression| expression.eval(Value::from_pairs(context.clone())))
            .map_err(|error| text_fault(text, &error))?;
        if value.is_undefined() {
            let rule = "the expression's value is undefined";
            return Err(Box::new(text.spot.fault(FaultCode::Template, rule)));
        }
        Ok(value)
    }
}

/// Most elements `each` repeats an entry for.
const LONGEST_LIST: usize = 10_000;

fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

/// The error deepest in the chain: an included file's own.
fn innermost(error: &Error) -> &Error {
    let mut error = error;
    while let Some(inner) =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>())
    {
        error = inner;
    }
    error
}

fn sentence(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn text_fault(text: &Text, error: &Error) -> Box<Fault> {
    let piece = error.range().and_then(|range| text.value.get(range)).map(str::to_owned);
    let mut spot = text.spot.clone();
    // In a string without escapes the piece stands in the file as it is.
    let span = spot.place.span.clone();
    let written = spot.place.source.text.get(span.clone()).unwrap_or_default();
    if let Some(piece) = piece.as_deref().filter(|piece| !piece.is_empty())
        && let Some(at) = written.find(piece)
    {
        spot.place.span = span.start + at..span.start + at + piece.len();
    }
    let fault = spot.fault(FaultCode::Template, sentence(error));
    match piece {
        Some(piece) if !piece.is_empty() => Box::new(fault.found(piece)),
        _ => Box::new(fault),
    }
}

fn file_fault(source: &Arc<Source>, error: &Error) -> Box<Fault> {
    let span = error
        .range()
        .filter(|range| range.start < range.end && source.text.get(range.clone()).is_some())
        .unwrap_or_else(|| line_span(source, error.line().unwrap_or(1)));
    let spot = Spot { place: Place::new(source, span), field: String::new() };
    Box::new(spot.fault(FaultCode::Template, sentence(error)))
}

fn line_span(source: &Source, line: usize) -> Range<usize> {
    source.line(line)
}
