//! Faults for people: each with its lines, and what to do.

use std::fmt::{self, Write as _};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, SourceCode};

use super::excerpt::Excerpt;
use super::{Fault, Faults, MAX_RENDERED};

/// Width that the text is wrapped to.
const WIDTH: usize = 110;

/// See [`Faults::render`].
pub(super) fn render(faults: &Faults, colour: bool) -> String {
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(WIDTH)
        .with_links(false)
        .without_syntax_highlighting();
    let mut text = String::new();
    for fault in faults.faults.iter().take(MAX_RENDERED) {
        text.push('\n');
        let report = Report { fault, excerpt: Excerpt::new(&fault.place) };
        // Writing to a string fails only when a source cannot be read; then the
        // fault is shown without its lines.
        if handler.render_report(&mut text, &report).is_err() {
            let _ = writeln!(text, "{report}");
        }
    }
    let count = faults.count();
    let shown = faults.faults.len().min(MAX_RENDERED);
    if count > shown {
        let _ = writeln!(text, "\n… and {} more faults.", count - shown);
    }
    let _ = writeln!(text, "\n{count} fault{}.", if count == 1 { "" } else { "s" });
    text
}

/// One fault in miette's terms.
#[derive(Debug)]
struct Report<'a> {
    fault: &'a Fault,
    excerpt: Excerpt,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fault.field.is_empty() {
            f.write_str(&self.fault.rule)
        } else {
            write!(f, "{}: {}", self.fault.field, self.fault.rule)
        }
    }
}

impl std::error::Error for Report<'_> {}

impl Diagnostic for Report<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.fault.code.as_str()))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let mut lines = Vec::new();
        lines.extend(self.fault.suggestion.clone());
        if let Some((place, why)) = &self.fault.related {
            let (line, column) = place.source.position(place.span.start);
            lines.push(format!("{why}: {}:{line}:{column}", place.source.name));
        }
        match self.fault.nodes.as_slice() {
            [] => {}
            [node] => lines.push(format!("met on node {node}")),
            [node, more @ ..] => lines.push(format!("met on node {node} and {} more", more.len())),
        }
        (!lines.is_empty()).then(|| Box::new(lines.join("\n")) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.excerpt)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = match &self.fault.found {
            Some(value) => format!("found {value}"),
            None => "here".to_owned(),
        };
        let span = LabeledSpan::new_primary_with_span(Some(label), self.excerpt.highlight());
        Some(Box::new(std::iter::once(span)))
    }
}
