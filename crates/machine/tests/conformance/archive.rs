//! Packages of Debian for the tests, unpacked but not installed, from the host's
//! own mirror into `target/fixtures`; fetched once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A kernel of this suite runs on today's CPUs; see the depot's reasons.
const PACKAGES: [&str; 4] = ["user-mode-linux", "libc6", "libgcc-s1", "busybox-static"];

/// The kernel that is current depends on it.
const CLOUD_KERNEL: &str = "linux-image-cloud-amd64";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A tree with all of [`PACKAGES`].
pub fn tree() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| once("machine-tree-1", "forky", |apt| apt.download(&PACKAGES)))
}

/// A tree with Debian's cloud kernel and its modules.
pub fn cloud_kernel() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| {
        once("machine-kernel-1", "trixie", |apt| {
            let text = apt.depends(CLOUD_KERNEL);
            let mut found = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
            apt.download(&[found.find(|name| name.starts_with("linux-image-")).unwrap()]);
        })
    })
}

/// Where a lab (`cargo xtask xen-lab`, `kvm-lab`) keeps a kernel, an initramfs, busybox, and QEMU for KVM; set only there.
pub fn lab_guest() -> Option<PathBuf> {
    std::env::var_os("GRIDGATE_LAB_GUEST").map(PathBuf::from)
}

/// A file for the lab's guests.
pub fn of_lab_guest(file: &str) -> PathBuf {
    lab_guest().expect("a lab's guest: GRIDGATE_LAB_GUEST").join(file)
}

/// A busybox that needs no library.
pub fn busybox() -> PathBuf {
    lab_guest().unwrap_or_else(|| tree().join("usr/bin")).join("busybox")
}

/// The tree of this name, made of the packages that `fetch` puts into `debs` of its folder.
fn once(name: &str, suite: &str, fetch: impl FnOnce(&Apt<'_>)) -> PathBuf {
    let fixtures = fixtures();
    let lock = File::create(fixtures.join("machine.lock")).unwrap();
    lock.lock().unwrap();
    let tree = fixtures.join(name);
    if !tree.exists() {
        let work = tempfile::tempdir_in(&fixtures).unwrap();
        fetch(&Apt::of(work.path(), suite));
        let new = work.path().join("tree");
        fs::create_dir(&new).unwrap();
        for package in fs::read_dir(work.path().join("debs")).unwrap() {
            run(Command::new("dpkg-deb").arg("-x").arg(package.unwrap().path()).arg(&new));
        }
        fs::rename(&new, &tree).unwrap();
    }
    tree
}

/// The folder for things that are made once.
pub fn fixtures() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fixtures");
    fs::create_dir_all(&folder).unwrap();
    folder.canonicalize().unwrap()
}

/// apt with folders of its own; signatures are checked as always.
struct Apt<'a> {
    work: &'a Path,
}

impl<'a> Apt<'a> {
    fn of(work: &'a Path, suite: &str) -> Self {
        for folder in ["lists/partial", "archives/partial", "sources", "debs"] {
            fs::create_dir_all(work.join(folder)).unwrap();
        }
        fs::write(work.join("status"), "").unwrap();
        let source = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror());
        fs::write(work.join("sources/debian.list"), source).unwrap();
        let here = work.display();
        let configuration = format!(
            "Dir::State \"{here}\";\nDir::State::lists \"{here}/lists\";\nDir::State::status \"{here}/status\";\n\
         Dir::Cache \"{here}\";\nDir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{here}/sources\";\n\
         Acquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n"
        );
        fs::write(work.join("apt.conf"), configuration).unwrap();
        let apt = Self { work };
        run(apt.command("apt-get").arg("update"));
        apt
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-q").env("APT_CONFIG", self.work.join("apt.conf")).env("LC_ALL", "C");
        command.current_dir(self.work.join("debs"));
        command
    }

    fn depends(&self, package: &str) -> String {
        let output = self.command("apt-cache").args(["depends", package]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn download(&self, packages: &[&str]) {
        run(self.command("apt-get").arg("download").args(packages));
    }
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
