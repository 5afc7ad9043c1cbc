//! A text with its name, and places in it.

use std::ops::Range;
use std::sync::Arc;

/// A file's text and the name it is shown under.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Name shown to people, e.g. `site.toml`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// A shared source.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into() })
    }

    /// Line and column of a byte offset, both from 1; the column counts characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    /// Byte range of a line (from 1) without its end; empty at the end of the
    /// text for a line that is not there.
    pub fn line(&self, number: usize) -> Range<usize> {
        let mut start = 0;
        for (index, line) in self.text.split('\n').enumerate() {
            if index + 1 == number {
                return start..start + line.trim_end_matches('\r').len();
            }
            start += line.len() + 1;
        }
        self.text.len()..self.text.len()
    }
}

/// A place: a source and a byte range in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which text.
    pub source: Arc<Source>,
    /// Bytes of it.
    pub span: Range<usize>,
}

impl Place {
    /// A place in a source.
    pub fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        Self { source: Arc::clone(source), span }
    }
}
