//! A suite's package index (`Packages`): look-up, closures, and what a minimal
//! root consists of.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use super::control::{Paragraph, clauses};
use crate::lock::PinnedPackage;

/// What a base root has beyond the essential and required packages: apt, the tools
/// that make the image's file system and index its modules.
const BASE_EXTRA: [&str; 3] = ["apt", "e2fsprogs", "kmod"];

/// A checked package index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    text: String,
    stanzas: Vec<Range<usize>>,
    by_name: HashMap<String, Vec<usize>>,
    providers: HashMap<String, Vec<usize>>,
}

impl Index {
    /// Reads an index's text.
    pub(crate) fn parse(text: String) -> Index {
        let mut index = Index { text, ..Index::default() };
        let mut start = 0;
        while start < index.text.len() {
            let end =
                index.text[start..].find("\n\n").map_or(index.text.len(), |at| start + at + 1);
            if !index.text[start..end].trim().is_empty() {
                index.stanzas.push(start..end);
            }
            start = end + usize::from(end < index.text.len());
        }
        for number in 0..index.stanzas.len() {
            let stanza = index.stanza(number);
            let Some(name) = stanza.get("Package") else { continue };
            let (name, provides) = (name.to_owned(), stanza.get("Provides").unwrap_or_default());
            let provided: Vec<String> = clauses(provides).flatten().map(str::to_owned).collect();
            index.by_name.entry(name).or_default().push(number);
            for name in provided {
                index.providers.entry(name).or_default().push(number);
            }
        }
        index
    }

    /// The same index with only the newest version of each package name.
    pub(crate) fn newest(mut self, compare: fn(&str, &str) -> std::cmp::Ordering) -> Index {
        if self.by_name.values().all(|numbers| numbers.len() == 1) {
            return self;
        }
        let version = |number: usize| self.stanza(number).get("Version").unwrap_or_default();
        let newest = |numbers: &Vec<usize>| {
            numbers.iter().copied().max_by(|a, b| compare(version(*a), version(*b)))
        };
        let kept: HashSet<usize> = self.by_name.values().filter_map(newest).collect();
        for numbers in self.by_name.values_mut().chain(self.providers.values_mut()) {
            numbers.retain(|number| kept.contains(number));
        }
        self.providers.retain(|_, numbers| !numbers.is_empty());
        self
    }

    /// The paragraph of a stanza.
    pub(crate) fn stanza(&self, number: usize) -> Paragraph<'_> {
        Paragraph::new(self.stanza_text(number))
    }

    /// The text of a stanza, with its final line end.
    pub(crate) fn stanza_text(&self, number: usize) -> &str {
        &self.text[self.stanzas[number].clone()]
    }

    /// All stanzas.
    pub(crate) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.stanzas.len()
    }

    /// How many packages there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.stanzas.len()
    }

    /// The stanzas of packages with this name.
    pub(crate) fn named(&self, name: &str) -> &[usize] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The stanza of a package at a version.
    pub(crate) fn at_version(&self, name: &str, version: &str) -> Option<usize> {
        let numbers = self.named(name).iter().copied();
        numbers.into_iter().find(|n| self.stanza(*n).get("Version") == Some(version))
    }

    /// Whether a package has this name, or one provides it.
    pub(crate) fn offers(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || self.providers.contains_key(name)
    }

    /// The pin of a stanza; none when it lacks a field that a pin needs.
    pub(crate) fn pin(&self, number: usize) -> Option<PinnedPackage> {
        let stanza = self.stanza(number);
        let field = |name| stanza.get(name).map(str::to_owned);
        Some(PinnedPackage {
            name: field("Package")?,
            version: field("Version")?,
            architecture: field("Architecture")?,
            sha256: field("SHA256").filter(|s| is_sha256(s))?.to_ascii_lowercase(),
            size: stanza.get("Size")?.parse().ok()?,
            filename: field("Filename").filter(|f| is_pool_path(f))?,
        })
    }

    /// Everything that could come in when `names` are installed: over all
    /// alternatives and all providers. What a solver chooses from this part it
    /// would choose from the whole.
    pub(crate) fn reachable(&self, names: impl IntoIterator<Item = String>) -> BTreeSet<usize> {
        let mut seen = HashSet::new();
        let mut found = BTreeSet::new();
        let mut open: Vec<String> = names.into_iter().collect();
        while let Some(name) = open.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let providers = self.providers.get(&name).map_or(&[][..], Vec::as_slice);
            for &number in self.named(&name).iter().chain(providers) {
                if found.insert(number) {
                    open.extend(self.dependencies(number).into_iter().flatten());
                }
            }
        }
        found
    }

    /// A minimal root by the simple method: essential and required packages and
    /// apt, with dependencies' first alternative (or what is already in). Gives
    /// names that nothing offers as an error.
    pub(crate) fn base(&self) -> Result<BTreeSet<usize>, Vec<String>> {
        let wanted = |number: &usize| {
            let stanza = self.stanza(*number);
            stanza.get("Essential") == Some("yes") || stanza.get("Priority") == Some("required")
        };
        let extra = BASE_EXTRA.iter().filter_map(|name| self.named(name).first().copied());
        let all = self.by_name.values().flatten().copied();
        self.simple_closure(all.filter(wanted).chain(extra))
    }

    /// The closure of `start` over first alternatives.
    pub(crate) fn simple_closure(
        &self,
        start: impl Iterator<Item = usize>,
    ) -> Result<BTreeSet<usize>, Vec<String>> {
        let mut chosen: BTreeSet<usize> = start.collect();
        let mut open: Vec<usize> = chosen.iter().copied().collect();
        let mut missing = Vec::new();
        while let Some(number) = open.pop() {
            for alternatives in self.dependencies(number) {
                if alternatives.iter().any(|name| self.is_in(&chosen, name)) {
                    continue;
                }
                match alternatives.iter().find_map(|name| self.first_offer(name)) {
                    Some(new) => {
                        chosen.insert(new);
                        open.push(new);
                    }
                    None => missing.push(alternatives.join(" | ")),
                }
            }
        }
        if missing.is_empty() { Ok(chosen) } else { Err(missing) }
    }

    /// The largest part of `set` whose dependencies are all inside it or in `below`.
    pub(crate) fn closed_part(
        &self,
        mut set: BTreeSet<usize>,
        below: &BTreeSet<usize>,
    ) -> BTreeSet<usize> {
        loop {
            let holds = |alternatives: &Vec<String>| {
                alternatives.iter().any(|name| self.is_in(&set, name) || self.is_in(below, name))
            };
            let kept: BTreeSet<usize> =
                set.iter().copied().filter(|n| self.dependencies(*n).iter().all(holds)).collect();
            if kept.len() == set.len() {
                return kept;
            }
            set = kept;
        }
    }

    fn is_in(&self, chosen: &BTreeSet<usize>, name: &str) -> bool {
        let providers = self.providers.get(name).map_or(&[][..], Vec::as_slice);
        self.named(name).iter().chain(providers).any(|number| chosen.contains(number))
    }

    fn first_offer(&self, name: &str) -> Option<usize> {
        let provided = || self.providers.get(name).and_then(|numbers| numbers.first());
        self.named(name).first().or_else(provided).copied()
    }

    fn dependencies(&self, number: usize) -> Vec<Vec<String>> {
        let stanza = self.stanza(number);
        let fields = ["Pre-Depends", "Depends"].into_iter().filter_map(|name| stanza.get(name));
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        fields.flat_map(|field| clauses(field).map(owned).collect::<Vec<_>>()).collect()
    }
}

/// Whether a text is a SHA-256 in hex: it becomes part of file names.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a path stays below the mirror's base.
pub(crate) fn is_pool_path(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && path.split('/').all(|part| !part.is_empty() && part != ".." && part != ".")
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Index {
        let hash = "0f".repeat(32);
        let package = |name: &str, more: &str| {
            format!(
                "Package: {name}\nVersion: 1:2.0-3\nArchitecture: all\nSHA256: {hash}\n\
                 Size: 10\nFilename: pool/main/{name}.deb\n{more}\n"
            )
        };
        let text = [
            package("init", "Essential: yes\nDepends: x | y, awk\n"),
            package("mawk", "Provides: awk (= 1), mawk-alias\n"),
            package("y", "Pre-Depends: z\n"),
            package("x", "Priority: optional\n"),
            package("z", ""),
            package("broken", "Depends: nowhere\n"),
        ];
        Index::parse(text.concat())
    }

    fn names(index: &Index, set: &BTreeSet<usize>) -> Vec<String> {
        set.iter().map(|n| index.stanza(*n).get("Package").unwrap().to_owned()).collect()
    }

    #[test]
    fn base_takes_first_alternatives_and_providers() {
        let index = sample();
        assert_eq!(index.len(), 6);
        assert_eq!(names(&index, &index.base().unwrap()), ["init", "mawk", "x"]);
        let broken = index.named("broken").iter().copied();
        assert_eq!(index.simple_closure(broken).unwrap_err(), ["nowhere"]);
    }

    #[test]
    fn reachable_takes_all_alternatives() {
        let index = sample();
        let all = index.reachable(["init".to_owned()]);
        assert_eq!(names(&index, &all), ["init", "mawk", "y", "x", "z"]);
    }

    #[test]
    fn closed_part_drops_what_lost_its_ground() {
        let index = sample();
        let number = |name: &str| index.named(name)[0];
        let set = BTreeSet::from([number("y"), number("mawk")]);
        let kept = index.closed_part(set.clone(), &BTreeSet::new());
        assert_eq!(names(&index, &kept), ["mawk"]);
        assert_eq!(index.closed_part(set.clone(), &BTreeSet::from([number("z")])), set);
    }

    #[test]
    fn pins_refuse_paths_that_leave_the_archive() {
        let index = sample();
        let pin = index.pin(index.at_version("mawk", "1:2.0-3").unwrap()).unwrap();
        assert_eq!((pin.size, pin.filename.as_str()), (10, "pool/main/mawk.deb"));
        for bad in ["/etc/x", "a/../b", "a//b", "", "a?b", "a b"] {
            assert!(!is_pool_path(bad), "{bad}");
        }
        assert!(is_pool_path("pool/main/g/g++/g++_1%3a2~rc1+b1_amd64.deb"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "((Package|Version|Depends|Provides): [a-z |,]{0,9}\n|\n){0,30}") {
            let index = Index::parse(text);
            let all = index.reachable(["a".to_owned()]);
            prop_assert!(all.len() <= index.len());
            let _ = index.base();
        }
    }
}
