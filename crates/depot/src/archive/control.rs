//! Debian control data: paragraphs of `Field: value` lines.

/// One paragraph, borrowed from the text.
#[derive(Clone, Debug)]
pub(crate) struct Paragraph<'a> {
    text: &'a str,
}

impl<'a> Paragraph<'a> {
    /// A paragraph from its own text.
    pub(crate) fn new(text: &'a str) -> Paragraph<'a> {
        Paragraph { text }
    }

    /// The value of a field (names compare without case), continuation lines
    /// included, trimmed.
    pub(crate) fn get(&self, field: &str) -> Option<&'a str> {
        let mut offset = 0;
        for line in self.text.split_inclusive('\n') {
            let start = offset;
            offset += line.len();
            if line.starts_with([' ', '\t', '#']) {
                continue;
            }
            let Some((name, _)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case(field) {
                let value = start + name.len() + 1;
                let mut end = offset;
                for more in self.text[offset..].split_inclusive('\n') {
                    if !more.starts_with([' ', '\t']) {
                        break;
                    }
                    end += more.len();
                }
                return Some(self.text[value..end].trim());
            }
        }
        None
    }
}

/// The paragraphs of a text, each without the empty lines around it.
pub(crate) fn paragraphs(text: &str) -> impl Iterator<Item = Paragraph<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches('\n');
            if rest.is_empty() {
                return None;
            }
            let end = rest.find("\n\n").map_or(rest.len(), |at| at + 1);
            let (paragraph, tail) = rest.split_at(end);
            rest = tail;
            if !paragraph.trim().is_empty() {
                return Some(Paragraph::new(paragraph));
            }
        }
    })
}

/// The names in a dependency field: for every comma-separated clause its alternatives.
pub(crate) fn clauses(field: &str) -> impl Iterator<Item = Vec<&str>> {
    field
        .split(',')
        .map(|clause| clause.split('|').filter_map(relation_name).collect::<Vec<_>>())
        .filter(|names| !names.is_empty())
}

/// The package name of one relation: `libc6:any (>= 2.38) [amd64]` gives `libc6`.
fn relation_name(relation: &str) -> Option<&str> {
    let end = |c: char| c.is_whitespace() || matches!(c, '(' | '[' | ':' | '<');
    let name = relation.trim().split(end).next()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_and_continuations() {
        let text = "\n\nPackage: a\nDepends: b,\n c\nDescription: x\n y\n\n\nPackage: d";
        let all: Vec<_> = paragraphs(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("depends"), Some("b,\n c"));
        assert_eq!(all[0].get("Description"), Some("x\n y"));
        assert_eq!(all[0].get("Version"), None);
        assert_eq!(all[1].get("Package"), Some("d"));
    }

    #[test]
    fn relations() {
        let all: Vec<_> = clauses("libc6:any (>= 2.38), a | b(<< 2) [amd64],\n c, ").collect();
        assert_eq!(all, vec![vec!["libc6"], vec!["a", "b"], vec!["c"]]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[A-Za-z:, |\n\t()#.-]{0,200}") {
            for paragraph in paragraphs(&text) {
                let _ = paragraph.get("A");
            }
            let _ = clauses(&text).count();
        }

        #[test]
        fn what_was_written_is_read(values in proptest::collection::vec("[a-z0-9.~+-]{1,12}", 1..9)) {
            let text: String =
                values.iter().map(|v| format!("Package: {v}\nVersion: 1{v}\n\n")).collect();
            let read: Vec<_> =
                paragraphs(&text).map(|p| p.get("Package").unwrap_or("").to_owned()).collect();
            prop_assert_eq!(read, values);
        }
    }
}
