//! The few lines around a fault, cut so that no input can make the output long.

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

use crate::source::Place;

/// Longest piece of a line that is shown, in characters.
const WIDTH: usize = 160;
/// How much of a long line is shown before the fault.
const BEFORE: usize = 60;

/// Lines around a place, as a source of their own.
#[derive(Debug)]
pub(super) struct Excerpt {
    name: String,
    text: String,
    first_line: usize,
    highlight: SourceSpan,
}

impl Excerpt {
    /// The line of a place with one line before and after.
    pub(super) fn new(place: &Place) -> Self {
        let source = &place.source;
        let (line, _) = source.position(place.span.start);
        let range = source.line(line);
        let mut text = String::new();
        if line > 1 {
            text.push_str(&clip(&source.text[source.line(line - 1)], 0));
            text.push('\n');
        }
        let raw = &source.text[range.clone()];
        let start = place.span.start.clamp(range.start, range.end) - range.start;
        let end = place.span.end.clamp(range.start + start, range.end) - range.start;
        let before = raw.get(..start).map_or(0, |part| part.chars().count());
        let marked = raw.get(start..end).map_or(0, |part| part.chars().count());
        let skipped =
            if before > BEFORE && raw.chars().count() > WIDTH { before - BEFORE } else { 0 };
        let shown = clip(raw, skipped);
        let offset = |characters: usize| -> usize {
            shown.chars().take(characters).map(char::len_utf8).sum()
        };
        let from = offset(before - skipped);
        let to = offset((before - skipped + marked).min(WIDTH));
        let highlight = SourceSpan::from(text.len() + from..text.len() + to.max(from));
        text.push_str(&shown);
        if range.end < source.text.len() {
            text.push('\n');
            text.push_str(&clip(&source.text[source.line(line + 1)], 0));
        }
        let first_line = if line > 1 { line - 2 } else { 0 };
        Self { name: source.name.clone(), text, first_line, highlight }
    }

    /// What to underline, within this source.
    pub(super) fn highlight(&self) -> SourceSpan {
        self.highlight
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let inner = self.text.read_span(span, lines_before, lines_after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            inner.data(),
            *inner.span(),
            inner.line() + self.first_line,
            inner.column(),
            inner.line_count(),
        )))
    }
}

fn clip(line: &str, skip: usize) -> String {
    line.chars()
        .skip(skip)
        .take(WIDTH)
        .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}
