//! What is due, from lists and journals.

use gridgate_protocol::agent_api::LockedPackage;

use super::*;

fn list(packages: &[(&str, &str)]) -> PackageList {
    let package = |(name, version): &(&str, &str)| LockedPackage {
        name: (*name).into(),
        version: (*version).into(),
        architecture: "all".into(),
        sha256: format!("{name}{version}"),
        size: 1,
    };
    PackageList { packages: packages.iter().map(package).collect() }
}

#[test]
fn changes_are_named_and_many_are_counted() {
    let from = list(&[("bash", "5.1"), ("libold", "1"), ("tree", "2")]);
    assert_eq!(changes(&from, &from), None);
    let to = list(&[("bash", "5.2"), ("libnew", "1"), ("tree", "2")]);
    assert_eq!(changes(&from, &to).as_deref(), Some("bash 5.1 → 5.2, +libnew 1, −libold"));
    let many = list(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1"), ("f", "1")]);
    let words = changes(&list(&[]), &many).unwrap_or_default();
    assert!(words.ends_with("+d 1, and 2 more"), "{words}");
}
