//! What the host's own apt says: sources in both formats, and the proxy.

use std::fs;
use std::path::{Path, PathBuf};

use crate::archive::control::paragraphs;

/// Debian's suites by name, to tell its archive from others by what is taken from it.
const SUITES: [&str; 9] = [
    "stable",
    "testing",
    "sid",
    "unstable",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "oldstable",
];

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostApt {
    pub(super) debian: Option<String>,
    pub(super) security: Option<String>,
    pub(super) proxy: Option<String>,
}

/// One base and the suites taken from it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    base: String,
    suites: Vec<String>,
}

impl HostApt {
    /// Reads apt's configuration folder; what cannot be read says nothing.
    pub(super) fn read(dir: &Path) -> HostApt {
        let mut sources = Vec::new();
        let mut lists = vec![dir.join("sources.list")];
        lists.extend(ending(&dir.join("sources.list.d"), "list"));
        for path in lists {
            sources.extend(one_line(&fs::read_to_string(path).unwrap_or_default()));
        }
        for path in ending(&dir.join("sources.list.d"), "sources") {
            sources.extend(deb822(&fs::read_to_string(path).unwrap_or_default()));
        }
        let mut settings: Vec<PathBuf> = fs::read_dir(dir.join("apt.conf.d"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        settings.sort();
        settings.push(dir.join("apt.conf"));
        let texts = settings.iter().filter_map(|path| fs::read_to_string(path).ok());
        let proxy = texts.filter_map(|text| proxy(&text)).reduce(|_, later| later);
        let is_http = |source: &&Source| source.base.starts_with("http");
        let base = |source: &Source| source.base.trim_end_matches('/').to_owned();
        let mut http = sources.iter().filter(is_http);
        let debian = http.clone().find(|s| s.is_debian_by_path());
        let debian = debian.or_else(|| http.clone().find(|s| s.is_debian_by_suite()));
        let security = http.find(|s| s.is_security());
        HostApt {
            debian: debian.map(base),
            security: security.map(base),
            proxy: proxy.filter(|proxy| !proxy.is_empty() && proxy != "DIRECT"),
        }
    }
}

impl Source {
    fn is_debian_by_path(&self) -> bool {
        self.base.trim_end_matches('/').ends_with("/debian") && self.is_debian_by_suite()
    }

    fn is_debian_by_suite(&self) -> bool {
        let plain = |suite: &String| {
            let stem = suite.strip_suffix("-updates").unwrap_or(suite);
            SUITES.contains(&stem)
        };
        self.suites.iter().any(plain) && !self.is_security()
    }

    fn is_security(&self) -> bool {
        self.suites
            .iter()
            .any(|suite| suite.strip_suffix("-security").is_some_and(|stem| SUITES.contains(&stem)))
    }
}

fn ending(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    paths.sort();
    paths
}

/// `deb [options] BASE SUITE COMPONENT…`
fn one_line(text: &str) -> Vec<Source> {
    let source = |line: &str| {
        let line = line.split('#').next()?.trim();
        let rest = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '[']))?;
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let mut words = rest.split_whitespace();
        let base = words.next()?.to_owned();
        Some(Source { base, suites: vec![words.next()?.to_owned()] })
    };
    text.lines().filter_map(source).collect()
}

/// Paragraphs with `Types`, `URIs`, `Suites`, `Enabled`.
fn deb822(text: &str) -> Vec<Source> {
    let plain: String =
        text.lines().filter(|line| !line.starts_with('#')).flat_map(|l| [l, "\n"]).collect();
    let mut sources = Vec::new();
    for paragraph in paragraphs(&plain) {
        let words = |field| paragraph.get(field).unwrap_or_default().split_whitespace();
        let off = ["no", "false", "without", "off", "disable"];
        let enabled = !words("Enabled").next().is_some_and(|word| off.contains(&word));
        if enabled && words("Types").any(|kind| kind == "deb") {
            let suites: Vec<String> = words("Suites").map(str::to_owned).collect();
            let source = |base: &str| Source { base: base.to_owned(), suites: suites.clone() };
            sources.extend(words("URIs").map(source));
        }
    }
    sources
}

/// `Acquire::http::Proxy "…";` as one line or nested in blocks.
fn proxy(text: &str) -> Option<String> {
    let mut stack: Vec<String> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut found = None;
    for token in tokens(text) {
        match token.as_str() {
            "{" => stack.push(words.drain(..).next().unwrap_or_default()),
            "}" => {
                stack.pop();
                words.clear();
            }
            ";" => {
                if let [name, value] = words.as_slice() {
                    let full = stack.iter().chain([name]).cloned().collect::<Vec<_>>().join("::");
                    if full.eq_ignore_ascii_case("acquire::http::proxy") {
                        found = Some(value.trim_end_matches('/').to_owned());
                    }
                }
                words.clear();
            }
            _ => words.push(token),
        }
    }
    found
}

/// Words, quoted values, braces and semicolons; comments are passed over.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skip_to = |end: &str| rest.find(end).map_or("", |at| &rest[at + end.len()..]);
        if first.is_whitespace() {
            rest = rest.trim_start();
        } else if rest.starts_with("//") || first == '#' {
            rest = skip_to("\n");
        } else if rest.starts_with("/*") {
            rest = skip_to("*/");
        } else if first == '"' {
            let (value, after) = rest[1..].split_once('"').unwrap_or((&rest[1..], ""));
            tokens.push(value.to_owned());
            rest = after;
        } else if "{};".contains(first) {
            tokens.push(first.to_string());
            rest = &rest[1..];
        } else {
            let ends = |c: char| c.is_whitespace() || "{};\"".contains(c);
            let end = rest.find(ends).unwrap_or(rest.len());
            tokens.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_both_formats() {
        let dir = tempfile::tempdir().unwrap();
        let parts = dir.path().join("sources.list.d");
        fs::create_dir_all(&parts).unwrap();
        let write = |name: &str, text: &str| fs::write(parts.join(name), text).unwrap();
        write("a.list", "deb [arch=amd64 signed-by=/x] https://other.invalid/apt stable-x main\n");
        write(
            "b.sources",
            "Types: deb\n# a comment\nURIs: http://m.invalid/debian\nSuites: bookworm bookworm-updates\n\n\
             Types: deb\nEnabled: no\nURIs: http://off.invalid/debian\nSuites: trixie\n\n\
             Types: deb deb-src\nURIs: http://m.invalid/debian-security/\nSuites: bookworm-security\n",
        );
        fs::write(dir.path().join("apt.conf"), "Acquire { http { Proxy \"http://p:3142/\"; } };")
            .unwrap();
        let found = HostApt::read(dir.path());
        assert_eq!(found.debian.as_deref(), Some("http://m.invalid/debian"));
        assert_eq!(found.security.as_deref(), Some("http://m.invalid/debian-security"));
        assert_eq!(found.proxy.as_deref(), Some("http://p:3142"));
    }

    #[test]
    fn knows_debian_by_its_suite() {
        let sources = one_line(
            "# deb http://no.invalid/debian trixie main\ndeb-src http://src.invalid x y\n\
             deb http://mirror.invalid/pub/linux trixie main # why\n",
        );
        assert_eq!(sources.len(), 1);
        assert!(sources[0].is_debian_by_suite() && !sources[0].is_debian_by_path());
    }

    #[test]
    fn reads_the_proxy() {
        let said = |text: &str| proxy(text);
        assert_eq!(said("Acquire::http::Proxy \"http://a:1\";").as_deref(), Some("http://a:1"));
        assert_eq!(said("// Acquire::http::Proxy \"http://a:1\";\n"), None);
        assert_eq!(said("/* x */ Acquire::HTTP { proxy \"b\" ; }").as_deref(), Some("b"));
        assert_eq!(said("Acquire::https::Proxy \"c\";"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[A-Za-z:/{};\" #*\\[\\]\n-]{0,200}") {
            let _ = (one_line(&text), deb822(&text), proxy(&text));
        }
    }
}
