//! Image against packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::stages::{Hunted, PACKAGES};
use crate::lab::Lab;

/// What a node has: kind, mode, owner, group, path and target of everything; every file's hash; packages; services.
const INVENTORY: &str = r#"
cd /
all() {
    find . -xdev \( -path ./srv/store -o -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./tmp \) \
        -prune -o "$@"
}
export LC_ALL=C
all -printf 'entry %p %y %m %u %g %l\n' | sort
all -type f -print0 | xargs -0 sha256sum | sed 's/^\([0-9a-f]*\)  \(.*\)/content \2 \1/' | sort
dpkg-query -W -f 'package ${Package} ${Version} ${Architecture} ${Status}\n' | sort
systemctl list-units --plain --no-legend --no-pager --full --type=service,socket,timer,mount |
    awk '{ print "unit", $1, $2, $3, $4 }' | sort
"#;

/// What differs by nature between two installations, also of one method: paths, or their beginnings where they
/// end in `/`. Told in docs/install-server.md.
const BY_NATURE: [&str; 4] = [
    // The machine's identity, made at its first boot.
    "./etc/machine-id",
    // Its keys, made at its first boot.
    "./etc/ssh/ssh_host_",
    // What it has written down since, in a folder named after its identity.
    "./var/log/journal/",
    "./var/lib/systemd/random-seed",
];

/// Writes the inventory where a reinstall leaves it.
fn take_stock(lab: &Lab, name: &str) {
    let script = format!("( {INVENTORY} ) >/srv/store/{name}");
    lab.text(&["exec", "one", "--", "sh", "-ec", &script]);
}

pub fn same_system(lab: &Lab) {
    // It was installed by image just now.
    take_stock(lab, "image");
    let stored = damage_a_package(lab);
    let hunted = Hunted { lab, node: "one", stages: &PACKAGES };
    let record = hunted.to_the_end(&["--json", "install", "one", "--method", "packages"], |_| ());
    assert_eq!(record["method"], "packages");
    assert!(fs::metadata(stored).expect("the package").len() > 6, "it was fetched again");
    take_stock(lab, "packages");
    let counted = "wc -l </srv/store/image; grep -c ^package /srv/store/image";
    let counted = lab.text(&["exec", "one", "--", "sh", "-c", counted]);
    let counted: Vec<u32> = counted.lines().map(|n| n.trim().parse().expect("a number")).collect();
    assert!(counted[0] > 5000 && counted[1] > 100, "the inventory has everything: {counted:?}");
    let compare = "diff --label image --label packages -U0 /srv/store/image /srv/store/packages";
    let difference = lab.run(&["exec", "one", "--", "sh", "-c", compare]);
    let text = String::from_utf8_lossy(&difference.stdout).into_owned();
    let other: Vec<&str> = text.lines().filter(|line| !is_by_nature(line)).collect();
    assert!(other.is_empty(), "not the same system:\n{}", other.join("\n"));
    assert!(text.contains("./etc/machine-id"), "each node has its own identity:\n{text}");
}

/// Whether a line of the difference is about something that differs by nature, or about none.
fn is_by_nature(line: &str) -> bool {
    let Some(said) = line.strip_prefix(['-', '+']) else { return line.starts_with("@@") };
    let path = said.split(' ').nth(1).unwrap_or_default();
    said.starts_with("-- image")
        || said.starts_with("++ packages")
        || BY_NATURE.iter().any(|known| path.starts_with(known))
}

/// Damages a package of the node in the depot; gives its file.
fn damage_a_package(lab: &Lab) -> PathBuf {
    let text = fs::read_to_string(lock(lab)).expect("the lock");
    let file = stored(lab, &field(locked(&text), "sha256"));
    fs::write(&file, b"damage").expect("damage");
    file
}

fn lock(lab: &Lab) -> PathBuf {
    lab.home.path().join(format!("sites/{}/site.lock", lab.site))
}

/// The lock's entry of a package of the node.
fn locked(lock: &str) -> &str {
    let entry = lock.split("[[package]]").find(|one| one.contains("name = \"tree\""));
    entry.expect("the package is locked")
}

fn field(entry: &str, name: &str) -> String {
    let line = entry.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
    line.expect("a field").trim_matches('"').to_owned()
}

fn stored(lab: &Lab, sha256: &str) -> PathBuf {
    lab.home.path().join(format!("depot/packages/{}/{sha256}.deb", &sha256[..2]))
}

/// A package of the lock with a script that fails, put into the depot under its own hash.
pub fn failing_script(lab: &Lab, node: &str) {
    let lock = lock(lab);
    let text = fs::read_to_string(&lock).expect("the lock");
    let entry = locked(&text);
    let broken = broken_package(&stored(lab, &field(entry, "sha256")), lab.home.path());
    let bytes = fs::read(&broken).expect("the package");
    let sha256 = hex::encode(Sha256::digest(&bytes));
    fs::create_dir_all(stored(lab, &sha256).parent().expect("a folder")).expect("the folder");
    fs::rename(&broken, stored(lab, &sha256)).expect("the package is stored");
    let changed = entry
        .replace(&field(entry, "sha256"), &sha256)
        .replace(&format!("size = {}", field(entry, "size")), &format!("size = {}", bytes.len()));
    fs::write(&lock, text.replace(entry, &changed)).expect("the lock is written");

    let output = lab.run(&["install", node, "--method", "packages"]);
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = words(&output.stdout) + &words(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("the package tree could not be installed"), "{said}");
    let record = super::last(lab, node);
    let failure = &record["outcome"]["failed"];
    assert_eq!((&failure["package"], &failure["stage"]), (&"tree".into(), &"unpack".into()));
    let log = lab.text(&["install-log", node]);
    assert!(log.contains("no leaves today"), "the script's own words are kept: {log}");
    fs::write(&lock, text).expect("the lock is as it was");
}

/// The package at `path` with a script that fails before it is unpacked.
fn broken_package(path: &Path, folder: &Path) -> PathBuf {
    let tree = folder.join("broken");
    let deb = folder.join("broken.deb");
    let run = |arguments: &[&str]| {
        let status = Command::new("dpkg-deb").args(arguments).status().expect("dpkg-deb starts");
        assert!(status.success(), "dpkg-deb {arguments:?}");
    };
    run(&["--raw-extract", &path.display().to_string(), &tree.display().to_string()]);
    let script = tree.join("DEBIAN/preinst");
    fs::write(&script, "#!/bin/sh\necho no leaves today >&2\nexit 3\n").expect("the script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).expect("its mode");
    run(&["--build", &tree.display().to_string(), &deb.display().to_string()]);
    fs::remove_dir_all(&tree).expect("the tree goes");
    deb
}
