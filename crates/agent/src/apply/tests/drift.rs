//! Looking at a node that was changed by hand, and putting it back.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use super::*;

/// Every path of the tree with kind, mode and content.
fn everything(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let meta = path.symlink_metadata().unwrap();
            let content = if meta.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if meta.is_file() {
                hex::encode(fs::read(&path).unwrap())
            } else {
                folders.push(path.clone());
                String::new()
            };
            let line = format!("{:o} {} {content}", meta.mode(), meta.uid());
            found.insert(path.display().to_string(), line);
        }
    }
    found
}

fn found(report: &DriftReport) -> Vec<String> {
    let line = |drift: &gridgate_protocol::drift::Drift| {
        let what: Vec<&str> = drift.differences.iter().map(|d| d.what.as_str()).collect();
        format!("{} {}: {}", drift.kind, drift.name, what.join(" "))
    };
    report.drifts.iter().map(line).collect()
}

fn package(name: &str, version: &str) -> LockedPackage {
    LockedPackage {
        name: name.into(),
        version: version.into(),
        architecture: "all".into(),
        sha256: format!("{name}{version}"),
        size: 3,
    }
}

fn status(packages: &[(&str, &str)]) -> String {
    let entry = |(name, version): &(&str, &str)| {
        format!("Package: {name}\nStatus: install ok installed\nVersion: {version}\n\n")
    };
    packages.iter().map(entry).collect()
}

fn hurt(node: &Node, profile: &NodeProfile) {
    fs::write(node.path("/etc/slurm/slurm.conf"), "ClusterName=cork\n").unwrap();
    fs::set_permissions(node.path("/etc/raw"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(node.path("/etc/slurm"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(node.path("/etc/munge/munge.key"), "mine").unwrap();
    fs::write(node.path("/etc/grid-security/hostkey.pem"), "no key").unwrap();
    fs::remove_file(node.path("/etc/slurm/link")).unwrap();
    let passwd = node.read("/etc/passwd").replace("/bin/bash", "/bin/false");
    fs::write(node.path("/etc/passwd"), passwd).unwrap();
    let wants = "/etc/systemd/system/multi-user.target.wants/slurmd.service";
    fs::remove_file(node.path(wants)).unwrap();
    node.machine.set_state("slurmd.service", "failed");
    node.machine.set_state("getty@tty1.service", "active");
    assert!(profile.users.iter().any(|user| user.name == "alice"));
}

#[test]
fn what_was_changed_by_hand_is_seen_without_touching_it_and_put_back() {
    let mut node = Node::new();
    let profile = full(&node);
    node.apply(&profile);
    node.machine.set_state("slurmd.service", "active");
    let first = node.look(&profile, None);
    assert_eq!(found(&first), Vec::<String>::new());
    assert!(first.unchanged > 8, "{first:?}");

    hurt(&node, &profile);
    let before = everything(node.root.path());
    node.asked();
    node.machine.calls();
    let report = node.look(&profile, None);
    assert_eq!(
        found(&report),
        [
            "user alice: passwd",
            "directory /etc/slurm: mode",
            "file /etc/slurm/slurm.conf: content",
            "file /etc/munge/munge.key: content",
            "file /etc/raw: mode",
            "link /etc/slurm/link: target",
            "certificate host: certificate",
            "unit slurmd.service: enabled state",
            "unit getty@tty1.service: state",
        ]
    );
    let text = report.drifts.iter().find(|drift| drift.name.ends_with("slurm.conf")).unwrap();
    let diff = text.diff.as_deref().unwrap();
    assert!(diff.contains("-ClusterName=dublin\n+ClusterName=cork\n"), "{diff}");
    let all = serde_json::to_string(&report).unwrap();
    assert!(!all.contains("mine") && !all.contains("no key"), "a secret is shown: {all}");
    assert_eq!(everything(node.root.path()), before, "looking changed something");
    assert_eq!(node.asked(), Vec::<String>::new());
    assert_eq!(node.machine.calls(), Vec::<String>::new());

    let outcome = node.apply_for(&profile, Moment::Running, Intent::PutBack, None);
    assert_eq!(failures(&outcome), Vec::<String>::new());
    assert_eq!(node.read("/etc/munge/munge.key"), "munge");
    node.machine.set_state("slurmd.service", "active");
    node.machine.set_state("getty@tty1.service", "inactive");
    assert_eq!(found(&node.look(&profile, None)), Vec::<String>::new());
}

#[test]
fn a_folder_that_is_gone_is_said_and_not_made() {
    let mut node = Node::new();
    let profile = full(&node);
    node.apply(&profile);
    fs::remove_dir_all(node.path("/etc/munge")).unwrap();
    symlink("/nowhere", node.path("/etc/munge.link")).unwrap();
    let report = node.look(&profile, None);
    assert!(found(&report).contains(&"file /etc/munge/munge.key: presence".to_owned()));
    assert!(!node.path("/etc/munge").exists());
}

#[test]
fn packages_of_another_version_missing_and_extra() {
    let mut node = Node::new();
    let mut profile = empty();
    profile.packages = vec!["tree".into()];
    node.source.packages = vec![package("bash", "5.2"), package("tree", "2.2")];
    let list = PackageList { packages: node.source.packages.clone() }.fingerprint();
    let installed = |text| fs::write(node.path("/var/lib/dpkg/status"), text).unwrap();
    installed(status(&[("bash", "5.2"), ("tree", "2.2")]));
    let outcome = node.apply_for(&profile, Moment::Running, Intent::Apply, Some(&list));
    assert_eq!((outcome.resources.len(), node.applied.locked.as_deref()), (0, Some(&*list)));
    assert_eq!(found(&node.look(&profile, Some(&list))), Vec::<String>::new());

    let text = status(&[("bash", "5.1"), ("nmap", "7")]);
    fs::write(node.path("/var/lib/dpkg/status"), text).unwrap();
    let report = node.look(&profile, Some(&list));
    let wanted = ["package bash: version", "package tree: presence", "package nmap: presence"];
    assert_eq!(found(&report), wanted);

    node.machine.calls();
    let outcome = node.apply_for(&profile, Moment::Running, Intent::PutBack, Some(&list));
    assert_eq!(names(&outcome), ["package bash", "package tree", "package nmap"]);
    let calls = node.machine.calls();
    assert!(calls[0].contains("--unpack") && calls[0].matches(".deb").count() == 2, "{calls:?}");
    assert!(calls.iter().any(|call| call.ends_with("--purge nmap")), "{calls:?}");
}

#[test]
fn another_list_of_packages_replaces_versions_and_what_the_list_drops() {
    let mut node = Node::new();
    let mut profile = empty();
    profile.packages = vec!["tree".into()];
    profile.units = vec![
        unit("slurmd.service", UnitState::Running, &[]),
        unit("home.mount", UnitState::Running, &[]),
        unit("console-getty.service", UnitState::Running, &[]),
    ];
    for unit in &profile.units {
        node.unit_file(&unit.name);
    }
    node.source.packages = vec![package("libold", "1"), package("tree", "2.2")];
    let list = |node: &Node| PackageList { packages: node.source.packages.clone() }.fingerprint();
    let text = status(&[("libold", "1"), ("tree", "2.2")]);
    fs::write(node.path("/var/lib/dpkg/status"), text).unwrap();
    let first = list(&node);
    node.apply_for(&profile, Moment::Running, Intent::Apply, Some(&first));
    for unit in &profile.units {
        node.machine.set_state(&unit.name, "active");
    }
    node.machine.calls();

    node.source.packages = vec![package("libnew", "1"), package("tree", "2.3")];
    let second = list(&node);
    assert_ne!(first, second);
    let outcome = node.apply_for(&profile, Moment::Running, Intent::Apply, Some(&second));
    assert_eq!(failures(&outcome), Vec::<String>::new());
    assert_eq!(node.applied.locked, Some(second));
    let calls = node.machine.calls();
    assert!(calls.iter().any(|call| call.ends_with("--purge libold")), "{calls:?}");
    let restart = "systemctl restart --no-block slurmd.service";
    assert!(calls.iter().any(|call| call == restart), "mounts and people stay: {calls:?}");
}
