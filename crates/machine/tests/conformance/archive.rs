//! Packages of Debian for the tests, unpacked but not installed, from the host's
//! own mirror into `target/fixtures`; fetched once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A kernel of this suite runs on today's CPUs; see the depot's reasons.
const SUITE: &str = "forky";
const PACKAGES: [&str; 4] = ["user-mode-linux", "libc6", "libgcc-s1", "busybox-static"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A tree with all of [`PACKAGES`].
pub fn tree() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| {
        let fixtures = fixtures();
        let lock = File::create(fixtures.join("machine.lock")).unwrap();
        lock.lock().unwrap();
        let tree = fixtures.join("machine-tree-1");
        if !tree.exists() {
            let work = tempfile::tempdir_in(&fixtures).unwrap();
            fetch(work.path());
            let new = work.path().join("tree");
            fs::create_dir(&new).unwrap();
            for package in fs::read_dir(work.path().join("debs")).unwrap() {
                run(Command::new("dpkg-deb").arg("-x").arg(package.unwrap().path()).arg(&new));
            }
            fs::rename(&new, &tree).unwrap();
        }
        tree
    })
}

/// Where the Xen lab keeps a kernel, an initramfs and busybox; set only there.
pub fn xen_guest() -> Option<PathBuf> {
    std::env::var_os("GRIDGATE_XEN_GUEST").map(PathBuf::from)
}

/// A busybox that needs no library.
pub fn busybox() -> PathBuf {
    xen_guest().unwrap_or_else(|| tree().join("usr/bin")).join("busybox")
}

/// The folder for things that are made once.
pub fn fixtures() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fixtures");
    fs::create_dir_all(&folder).unwrap();
    folder.canonicalize().unwrap()
}

/// apt with folders of its own; signatures are checked as always.
fn fetch(work: &Path) {
    for folder in ["lists/partial", "archives/partial", "sources", "debs"] {
        fs::create_dir_all(work.join(folder)).unwrap();
    }
    fs::write(work.join("status"), "").unwrap();
    let source = format!("deb [signed-by={KEYRING}] {} {SUITE} main\n", mirror());
    fs::write(work.join("sources/debian.list"), source).unwrap();
    let here = work.display();
    let configuration = format!(
        "Dir::State \"{here}\";\nDir::State::lists \"{here}/lists\";\nDir::State::status \"{here}/status\";\n\
         Dir::Cache \"{here}\";\nDir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{here}/sources\";\n\
         Acquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n"
    );
    fs::write(work.join("apt.conf"), configuration).unwrap();
    let apt = |words: &[&str]| {
        run(Command::new("apt-get")
            .args(["-q"])
            .args(words)
            .env("APT_CONFIG", work.join("apt.conf"))
            .current_dir(work.join("debs")));
    };
    apt(&["update"]);
    apt(&[&["download"], &PACKAGES[..]].concat());
}

/// The first Debian mirror in the host's own configuration.
fn mirror() -> String {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(parts) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(parts.map(|part| part.unwrap().path()));
    }
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"))
        .expect("a Debian mirror in the host's apt sources")
}

pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {words}", output.status);
}
