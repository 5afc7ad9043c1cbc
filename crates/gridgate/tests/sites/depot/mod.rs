//! The depot in use, on a real site of one small machine: the node's apt is served from it, damage is found and
//! mended, what nobody needs goes, and the site is carried to a home that has no network at all. Needs root and
//! the Debian archive. One story; the chapters are named in the output.

mod travel;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::lab::{self, Lab};
use crate::traces;
use serde_json::Value;

#[test]
fn a_depot_serves_is_kept_whole_and_travels() {
    let export = tempfile::tempdir().expect("a folder");
    let file = export.path().join("site.gridgate");
    {
        let lab = Lab::new("depot", PROFILE);
        lab.chapter("a depot is filled, and no node touched", || fill(&lab));
        lab.chapter("up makes no image again", || up(&lab));
        lab.chapter("the node's apt installs from the depot", || apt(&lab));
        lab.chapter("damage is found, named and mended", || damage(&lab));
        lab.chapter("what nobody needs goes, the rest stays", || sweep(&lab));
        lab.chapter("update --plan and update", || update(&lab));
        lab.chapter("export", || travel::carried_out(&lab, &file));
        lab.chapter("destroy leaves nothing", || traces::none_after_destroy(&lab));
    }
    let lab = Lab::new("depot", PROFILE);
    lab.chapter("an altered export is refused", || travel::refused(&lab, &file));
    lab.chapter("a home without any network comes up from it", || travel::carried_in(&lab, &file));
    lab.chapter("destroy leaves nothing there", || traces::none_after_destroy(&lab));
}

const PROFILE: &str = r#"
[site]
name = "depot"
domain = "depot.test"

[network]
prefix = "198.51.100.0/24"

[roles.small]
extends = "base"

[nodes.one]
role = "small"
vmm = "uml"
memory = "320 MiB"
"#;

fn fill(lab: &Lab) {
    lab.text(&["depot", "fill", &lab.profile()]);
    let site = lab.home.path().join("sites/depot");
    assert!(site.join("site.lock").exists());
    assert!(!site.join("nodes").exists() && !site.join("ca").exists());
    assert!(packages(lab).len() > 100);
}

fn up(lab: &Lab) {
    let events = lab.events(&["--json", "up", "--no-check", &lab.profile()]);
    let made = events.iter().find(|event| event["finished"]["stage"] == "install");
    assert_eq!(made, None);
    assert_eq!(lab::node(&lab::done(&events)["status"], "one")["state"], "running");
}

/// All packages in the depot's store.
fn packages(lab: &Lab) -> BTreeSet<PathBuf> {
    let folders = fs::read_dir(lab.home.path().join("depot/packages")).expect("packages");
    let files = folders.flatten().flat_map(|folder| fs::read_dir(folder.path()).expect("a folder"));
    let is_package = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "deb");
    files.flatten().map(|file| file.path()).filter(is_package).collect()
}

fn in_node(lab: &Lab, script: &str) -> String {
    lab.text(&["exec", "one", "--", "bash", "-c", script])
}

/// Head of the package service's answer, in lower case.
fn head(lab: &Lab, request: &str, more: &str) -> String {
    let script = format!(
        "exec 3<>/dev/tcp/198.51.100.1/8141; printf '{request} HTTP/1.1\\r\\nHost: x\\r\\n\
         Connection: close\\r\\n{more}\\r\\n' >&3; tr -d '\\r\\0' <&3 | sed '/^$/q'"
    );
    in_node(lab, &script).to_lowercase()
}

fn apt(lab: &Lab) {
    let before = packages(lab);
    in_node(lab, "apt-get -q update && apt-get -q install -y tree");
    assert!(in_node(lab, "tree --version").starts_with("tree v"));
    let new: Vec<_> = packages(lab).difference(&before).cloned().collect();
    assert_eq!(new.len(), 1, "one package was fetched for the node: {new:?}");

    let release = head(lab, "HEAD /debian/dists/trixie/InRelease", "");
    assert!(release.starts_with("http/1.1 200"), "{release}");
    let tag = release.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag").trim();
    let again = format!("If-None-Match: {tag}\\r\\n");
    let same = head(lab, "GET /debian/dists/trixie/InRelease", &again);
    assert!(same.starts_with("http/1.1 304"), "{same}");
    let part = head(lab, "GET /debian/dists/trixie/InRelease", "Range: bytes=10-19\\r\\n");
    assert!(part.starts_with("http/1.1 206") && part.contains("bytes 10-19/"), "{part}");
    let absent = head(lab, "GET /debian/pool/main/n/nothing.deb", "");
    assert!(absent.starts_with("http/1.1 404"), "{absent}");

    // What lies damaged in the depot is fetched again before the node sees it.
    flip(&new[0]);
    in_node(lab, "apt-get clean && apt-get -q install -y --reinstall tree");
    assert_eq!(lab.run(&["depot", "verify"]).status.code(), Some(0));
}

/// Changes one byte in the middle of a file.
fn flip(path: &Path) {
    let file = fs::File::options().read(true).write(true).open(path).expect("a file");
    let at = file.metadata().expect("its size").len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[!byte[0]], at).expect("another byte");
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let report = events.find_map(|event| event.get("depot").cloned());
    report.unwrap_or_else(|| panic!("no report: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn folders(report: &Value) -> Vec<&str> {
    let items = report["items"].as_array().expect("items");
    items.iter().map(|item| item["folder"].as_str().expect("a folder")).collect()
}

fn damage(lab: &Lab) {
    let depot = lab.home.path().join("depot");
    let only = |folder: &str| {
        let mut entries = fs::read_dir(depot.join(folder)).expect(folder).flatten();
        entries.next().expect("something is in it").path()
    };
    let package = packages(lab).into_iter().next().expect("a package");
    flip(&package);
    flip(&only("roots").join("tree/usr/bin/dpkg"));
    flip(&only("images").join("image.ext4"));
    let found = lab.run(&["--json", "depot", "verify"]);
    assert_eq!(found.status.code(), Some(3));
    assert_eq!(folders(&report(&found)), ["images", "packages", "roots"]);

    let mended = lab.run(&["--json", "depot", "verify", "--mend"]);
    assert!(mended.status.success());
    let mended = report(&mended);
    let remark = |at: usize| mended["items"][at]["remark"].as_str().expect("a remark");
    assert!(remark(0).contains("made again when it is needed"), "{}", remark(0));
    assert!(package.exists() || remark(1).contains("no lock needs it"), "{}", remark(1));
    assert_eq!(lab.run(&["depot", "verify"]).status.code(), Some(0));
    // The node has a disk of its own: it runs on.
    let pids = lab.machine_pids();
    up(lab);
    assert_eq!(lab.machine_pids(), pids);
}

fn sweep(lab: &Lab) {
    let before = packages(lab);
    let stray =
        before.iter().next().expect("a package").with_file_name(format!("{}.deb", "0f".repeat(32)));
    fs::write(&stray, "nobody's").expect("a stray file");
    let planned = report(&lab.run(&["--json", "depot", "gc", "--dry-run"]));
    assert!(stray.exists(), "--dry-run removes nothing");
    let done = report(&lab.run(&["--json", "depot", "gc"]));
    assert_eq!(planned["items"], done["items"]);
    assert!(!stray.exists());
    let gone = before.difference(&packages(lab)).count();
    assert!(gone <= 1, "only what the node's own apt asked for goes besides: {gone}");
    let again = report(&lab.run(&["--json", "depot", "gc"]));
    assert_eq!(again["items"].as_array().map(Vec::len), Some(0));
    up(lab);
}

fn update(lab: &Lab) {
    let lock = lab.home.path().join("sites/depot/site.lock");
    let newest = fs::read_to_string(&lock).expect("a lock");
    // As if a package had been locked at a time when the archive had another version of it.
    let at = newest.find("name = \"base-files\"").expect("base-files is locked");
    let start = newest[at..].find("version = \"").expect("its version") + at + 11;
    let end = newest[start..].find('"').expect("the version's end") + start;
    let version = &newest[start..end];
    let stale = format!("{}13.0~old{}", &newest[..start], &newest[end..])
        .replace(&format!("\"base-files={version}\""), "\"base-files=13.0~old\"");
    fs::write(&lock, &stale).expect("the lock is written");

    let changes = |arguments: &[&str]| {
        let events = lab.events(arguments);
        events.iter().find_map(|event| event.get("update").cloned()).expect("a report")
    };
    let planned = changes(&["--json", "update", "--plan"]);
    assert_eq!(fs::read_to_string(&lock).expect("a lock"), stale, "--plan changes nothing");
    let change = &planned["changes"][0];
    assert_eq!(planned["changes"].as_array().map(Vec::len), Some(1), "{planned}");
    assert_eq!(
        (change["name"].as_str(), change["from"].as_str()),
        (Some("base-files"), Some("13.0~old"))
    );
    assert_eq!(change["to"], version);
    assert_eq!(change["nodes"], serde_json::json!(["one"]));

    let done = changes(&["--json", "update"]);
    assert_eq!(done["changes"], planned["changes"]);
    assert_eq!(fs::read_to_string(&lock).expect("a lock"), newest);
    let kept = done["kept"].as_str().expect("where the earlier lock is");
    assert_eq!(fs::read_to_string(kept).expect("the earlier lock"), stale);
    assert_eq!(changes(&["--json", "update"])["written"], false);
    fs::remove_file(kept).expect("the invented lock goes");
}
