//! What roles have in common, and whether a root holds what it should.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::archive::control::paragraphs;
use crate::archive::index::Index;
use crate::error::DepotError;
use crate::lock::PinnedPackage;

/// How many differences an error names.
const NAMED: usize = 5;

/// The packages of every set that are not in the base.
pub(crate) fn shared(sets: &[&[PinnedPackage]], base: &[PinnedPackage]) -> Vec<PinnedPackage> {
    let base: BTreeSet<&PinnedPackage> = base.iter().collect();
    let mut counts: BTreeMap<&PinnedPackage, usize> = BTreeMap::new();
    for package in sets.iter().copied().flatten().filter(|package| !base.contains(package)) {
        *counts.entry(package).or_default() += 1;
    }
    let everywhere = counts.into_iter().filter(|(_, count)| *count == sets.len());
    everywhere.map(|(package, _)| package.clone()).collect()
}

/// The largest part of packages, given with their control paragraphs, that can be installed on a base with this dpkg status
/// without any other package.
pub(crate) fn closed(
    packages: Vec<(PinnedPackage, String)>,
    base_status: &str,
) -> Vec<PinnedPackage> {
    let controls: String = packages.iter().map(|(_, control)| control.clone() + "\n").collect();
    let index = Index::parse(format!("{controls}\n{base_status}"));
    let (mut own, mut below) = (BTreeSet::new(), BTreeSet::new());
    let names: BTreeSet<&str> = packages.iter().map(|(pin, _)| pin.name.as_str()).collect();
    for number in index.numbers() {
        let name = index.stanza(number).get("Package").unwrap_or_default();
        let set = if names.contains(name) { &mut own } else { &mut below };
        set.insert(number);
    }
    let kept = index.closed_part(own, &below);
    let name = |number: &usize| index.stanza(*number).get("Package").unwrap_or_default().to_owned();
    let kept: BTreeSet<String> = kept.iter().map(name).collect();
    packages.into_iter().map(|(pin, _)| pin).filter(|pin| kept.contains(&pin.name)).collect()
}

/// Refuses a root whose dpkg does not have exactly these packages installed.
pub(crate) fn verify(subject: &str, root: &Path, pins: &[PinnedPackage]) -> Result<(), DepotError> {
    let path = root.join("var/lib/dpkg/status");
    let status = fs::read_to_string(&path).map_err(DepotError::io("read", &path))?;
    let mut found = BTreeMap::new();
    let mut problems = Vec::new();
    for paragraph in paragraphs(&status) {
        let field = |name| paragraph.get(name).unwrap_or_default();
        if field("Status") == "install ok installed" {
            found.insert(field("Package"), field("Version"));
        } else {
            problems.push(format!("{} is \"{}\"", field("Package"), field("Status")));
        }
    }
    for pin in pins {
        match found.remove(pin.name.as_str()) {
            Some(version) if version == pin.version => {}
            Some(version) => {
                problems.push(format!("{} is {version}, pinned {}", pin.name, pin.version));
            }
            None => problems.push(format!("{} is missing", pin.name)),
        }
    }
    problems.extend(found.into_keys().map(|name| format!("{name} was not pinned")));
    if problems.is_empty() {
        return Ok(());
    }
    let more = problems.len().saturating_sub(NAMED);
    problems.truncate(NAMED);
    let mut problem = problems.join("; ");
    if more > 0 {
        problem += &format!("; and {more} more");
    }
    Err(DepotError::NotAsPinned { subject: subject.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(name: &str) -> PinnedPackage {
        let text = name.to_owned();
        PinnedPackage {
            name: text.clone(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            sha256: crate::hash::of_bytes(name.as_bytes()),
            size: 1,
            filename: text,
        }
    }

    fn depending(name: &str, depends: &str) -> (PinnedPackage, String) {
        (pin(name), format!("Package: {name}\nVersion: 1\nDepends: {depends}\n"))
    }

    #[test]
    fn shares_what_all_have_but_the_base() {
        let sets = [vec![pin("a"), pin("b"), pin("base")], vec![pin("base"), pin("b")]];
        let sets: Vec<&[PinnedPackage]> = sets.iter().map(Vec::as_slice).collect();
        assert_eq!(shared(&sets, &[pin("base")]), [pin("b")]);
    }

    #[test]
    fn closes_over_the_base() {
        let packages =
            [("a", "base"), ("b", "c | x"), ("d", "a"), ("e", "b")].map(|(n, d)| depending(n, d));
        let kept =
            closed(packages.into(), "Package: base\nStatus: install ok installed\nVersion: 1\n");
        let names: Vec<&str> = kept.iter().map(|pin| pin.name.as_str()).collect();
        assert_eq!(names, ["a", "d"]);
    }

    #[test]
    fn names_what_differs() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("var/lib/dpkg");
        fs::create_dir_all(&dir).unwrap();
        let text = "Package: a\nStatus: install ok installed\nVersion: 1\n\n\
            Package: z\nStatus: install ok installed\nVersion: 1\n";
        fs::write(dir.join("status"), text).unwrap();
        assert!(verify("x", root.path(), &[pin("a"), pin("z")]).is_ok());
        let error = verify("x", root.path(), &[pin("a"), pin("b")]).unwrap_err().to_string();
        assert!(error.contains("b is missing") && error.contains("z was not pinned"), "{error}");
    }
}
