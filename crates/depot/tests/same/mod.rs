//! Two ways of installing packages end in the same tree: apt's own, and the depot's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use gridgate_depot::{Depot, Lock, Mirrors, RoleImageRequest, Silent};

/// Packages with everything that could make a difference: pre-dependencies, diversions, alternatives, conffiles,
/// triggers, users made by scripts, set-id programs, modules that are compiled.
const PACKAGES: [&str; 12] = [
    "systemd-sysv",
    "udev",
    "dbus",
    "openssh-server",
    "ca-certificates",
    "perl-doc",
    "tcsh",
    "vim-tiny",
    "kmod",
    "python3-yaml",
    "python3-pyparsing",
    "fontconfig",
];

/// What differs by nature, or is apt's own: beginnings of paths.
const BY_NATURE: [&str; 4] = [
    // A random number.
    "./var/lib/dbus/machine-id",
    // Names the second in which each folder was made.
    "./var/cache/fontconfig/",
    // apt asks all packages' questions once before it begins, which leaves traces here.
    "./var/cache/debconf/",
    "./var/lib/apt/extended_states",
];

/// Builds the same image both ways and compares them, file by file.
pub fn both_ways_end_the_same(mirrors: &Mirrors, look: &dyn Fn(&Path, &Path, &str) -> String) {
    let dir = tempfile::tempdir().unwrap();
    let depot = Depot::open(dir.path()).unwrap();
    let request = RoleImageRequest {
        role: "same".to_owned(),
        packages: PACKAGES.iter().map(|name| (*name).to_owned()).collect(),
        ..RoleImageRequest::default()
    };
    let mut lock: Option<Lock> = None;
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let mut build = |depot: &Depot| {
        let built =
            depot.role_images(mirrors, std::slice::from_ref(&request), lock.as_ref(), &Silent);
        let built = built.unwrap_or_else(|error| panic!("{error}"));
        let image = &built.images[0];
        assert!(!image.reused);
        let folder = image.path.parent().unwrap();
        let found = listed(&look(dir.path(), folder, LIST), began);
        fs::remove_dir_all(folder).unwrap();
        lock = Some(built.lock);
        found
    };
    let quick = build(&depot);
    let ordinary = build(&depot.with_apt_alone());
    let names: BTreeSet<&String> = quick.keys().chain(ordinary.keys()).collect();
    let by_nature = |name: &str| BY_NATURE.iter().any(|start| name.starts_with(start));
    let differing: Vec<String> = names
        .into_iter()
        .filter(|name| !by_nature(name) && quick.get(*name) != ordinary.get(*name))
        .map(|name| format!("{name}: {:?}, apt: {:?}", quick.get(name), ordinary.get(name)))
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    let compiled = quick.keys().filter(|name| name.ends_with(".pyc")).count();
    assert!(quick.len() > 5000 && compiled > 200, "{} files, {compiled} compiled", quick.len());
    let timed = quick.values().filter(|what| what.contains("time ")).count();
    assert!(timed > 3000, "times of {timed} files were compared");
    println!("{} files, {compiled} of them compiled, are the same as apt's", quick.len());
}

/// Prints every name in an image with kind, mode, owner, target; then every file's time and its content's hash, dpkg's
/// triggers being sorted, which it keeps in no order.
const LIST: &str = "mkdir /tmp/tree && cd /tmp/tree && debugfs -R 'rdump / .' /mnt/image/image.ext4 2>/tmp/said && \
    sort -o var/lib/dpkg/triggers/File var/lib/dpkg/triggers/File && \
    find . -printf '%y %m %U:%G %l\\t%p\\n' && find . -type f -printf 'time %T@\\t%p\\n' && find . -type f -exec sha256sum {} +";

/// All of it by name; times only of what is older than `began`: all else was made by scripts.
fn listed(text: &str, began: f64) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for line in text.lines() {
        let (what, name) = line.split_once('\t').or_else(|| line.split_once("  ")).unwrap();
        let time = what.strip_prefix("time ").map(|time| time.parse::<f64>().unwrap());
        if time.is_some_and(|time| time >= began) {
            continue;
        }
        *found.entry(name.to_owned()).or_default() += what;
    }
    found
}
