//! Which paths dpkg leaves out by its settings `path-exclude` and `path-include`, dpkg(1).

use std::io;

use super::place::Root;
use crate::malformed;

/// The patterns in their order; the last one that matches decides.
#[derive(Debug, Default)]
pub(super) struct Filter {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    text: Vec<u8>,
    includes: bool,
}

impl Filter {
    /// Reads dpkg's settings.
    pub(super) fn read(root: &Root) -> io::Result<Self> {
        let mut texts = vec![];
        for name in root.names("/etc/dpkg/dpkg.cfg.d")? {
            texts.push(root.read(&format!("/etc/dpkg/dpkg.cfg.d/{name}"))?);
        }
        texts.push(root.read("/etc/dpkg/dpkg.cfg")?);
        Self::parse(&texts.join(&b'\n'))
    }

    fn parse(text: &[u8]) -> io::Result<Self> {
        let mut patterns = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            let (text, includes) = match line.strip_prefix(b"path-exclude=") {
                Some(text) => (text, false),
                None => match line.strip_prefix(b"path-include=") {
                    Some(text) => (text, true),
                    None => continue,
                },
            };
            if text.iter().any(|byte| b"?[\\".contains(byte)) {
                return Err(malformed("dpkg's settings have a pattern with more than `*`"));
            }
            patterns.push(Pattern { text: text.to_vec(), includes });
        }
        Ok(Self { patterns })
    }

    /// Whether a path is left out. Folders, and links that may be to folders, are kept where something below them
    /// may be included.
    pub(super) fn leaves_out(&self, path: &[u8], folder: bool) -> bool {
        let last = self.patterns.iter().rev().find(|pattern| matches(&pattern.text, path));
        if last.is_none_or(|pattern| pattern.includes) {
            return false;
        }
        let mut included = self.patterns.iter().filter(|pattern| pattern.includes);
        !(folder && included.any(|pattern| path.starts_with(pattern.beginning())))
    }
}

impl Pattern {
    /// Up to its first `*`, without slashes at the end.
    fn beginning(&self) -> &[u8] {
        let end = self.text.iter().position(|byte| *byte == b'*').unwrap_or(self.text.len());
        let mut beginning = &self.text[..end];
        while let Some(shorter) = beginning.strip_suffix(b"/") {
            beginning = shorter;
        }
        beginning
    }
}

/// As fnmatch(3) without flags, for patterns with `*` only: it stands for anything, also for slashes.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&[u8]> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let found = part.is_empty().then_some(0);
        let found = found.or_else(|| rest.windows(part.len().max(1)).position(|at| at == part));
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        let matches = |pattern: &str, text: &str| matches(pattern.as_bytes(), text.as_bytes());
        assert!(matches("/a/*", "/a/") && matches("/a/*", "/a/b/c") && !matches("/a/*", "/a"));
        assert!(matches("/d/*/copyright", "/d/x/y/copyright"));
        assert!(!matches("/d/*/copyright", "/d/copyright") && !matches("/d/*/c", "/d/x/cc"));
        assert!(matches("/e", "/e") && !matches("/e", "/e/f"));
        assert!(matches("*a*b*", "xaxbx") && !matches("*a*b*", "xbxax"));
    }

    #[test]
    fn folders_stay_where_something_in_them_may() {
        let text = b"path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\n\
            path-exclude=/usr/share/man/*\npath-exclude=/l/*\npath-include=/l/alias\n#no\nforce-x\n";
        let filter = Filter::parse(text).unwrap();
        let out = |path: &str, folder| filter.leaves_out(path.as_bytes(), folder);
        assert!(!out("/usr/share/doc", true) && !out("/usr/share/doc/a", true));
        assert!(out("/usr/share/doc/a/README", false) && !out("/usr/share/doc/a/copyright", false));
        assert!(out("/usr/share/man/man1", true) && !out("/usr/share/man", true));
        assert!(out("/l/de", true) && !out("/l/alias", false) && !out("/usr/bin/ls", false));
        assert!(Filter::parse(b"path-exclude=/[ab]").is_err());
    }
}
