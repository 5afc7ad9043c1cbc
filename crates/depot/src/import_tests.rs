//! Depots of a small archive of our own, carried from one to another, and archives that lie.

use tempfile::TempDir;

use super::*;
use crate::archive::own::{Own, content, pin};
use crate::export::{Export, LOCK};
use crate::lock::{PinnedPackage, RoleLock};
use crate::progress::Silent;

const DATE: &str = "Sat, 12 Sep 2026 07:55:41 UTC";

/// The files of an archive.
type Entries = Vec<(String, Vec<u8>)>;

/// A lie.
type Change<'a> = &'a dyn Fn(&mut Entries);

#[path = "travel_faults.rs"]
mod faults;

struct Lab {
    own: Own,
    dir: TempDir,
    lock: Lock,
}

impl Lab {
    /// A depot with two packages, one of which Debian's index has in a newer version only.
    fn new() -> Lab {
        Lab::of(tempfile::tempdir().unwrap(), Vec::new())
    }

    /// The same in this folder, with more packages of such content.
    fn of(dir: TempDir, more: Vec<Vec<u8>>) -> Lab {
        let mut lab = Lab { own: Own::new(), dir, lock: lock() };
        let store = lab.store("from");
        for package in lab.lock.packages() {
            let bytes = content(&package.name, &package.version);
            fs::write(store.path(&package.sha256), bytes).unwrap();
        }
        for (number, bytes) in more.into_iter().enumerate() {
            let (sha256, size) = (crate::hash::of_bytes(&bytes), bytes.len() as u64);
            fs::write(store.path(&sha256), bytes).unwrap();
            let package = PinnedPackage { sha256, size, ..pin(&format!("more{number}"), "1") };
            lab.lock.roles.get_mut("r").unwrap().packages.push(package);
        }
        let indexed = [pin("a", "1"), pin("b", "2")];
        lab.own.suite("trixie", DATE, &indexed).store(&store.folder("index"), "trixie");
        lab
    }

    fn store(&self, name: &str) -> Store {
        Store::open(&self.dir.path().join(name)).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("file.tar")
    }

    fn export(&self) -> Result<crate::export::Exported, DepotError> {
        self.export_to(&self.file(), &Silent)
    }

    fn export_to(
        &self,
        target: &Path,
        progress: &dyn Progress,
    ) -> Result<crate::export::Exported, DepotError> {
        let (store, keyring) = (self.store("from"), self.own.keyring());
        let profile = Some(&b"{}"[..]);
        let export =
            Export { store: &store, keyring: &keyring, site: "cork", lock: &self.lock, profile };
        export.write(target, progress)
    }

    fn import(&self, to: &Store) -> Result<Imported, DepotError> {
        self.import_with(to, &Silent)
    }

    fn import_with(&self, to: &Store, progress: &dyn Progress) -> Result<Imported, DepotError> {
        import(to, &self.file(), &self.own.keyring(), progress)
    }

    /// Writes the archive again with its entries changed.
    fn rewrite(&self, change: impl Fn(&mut Entries)) {
        let mut archive = tar::Archive::new(File::open(self.file()).unwrap());
        let mut entries = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            entries.push((entry.path().unwrap().display().to_string(), bytes));
        }
        change(&mut entries);
        let mut builder = tar::Builder::new(File::create(self.file()).unwrap());
        for (path, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            // Past `append_data`, which refuses what we want to have refused on the other side.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, bytes.as_slice()).unwrap();
        }
        builder.finish().unwrap();
    }

    /// The archive is refused, for a reason that has these words, and leaves nothing.
    fn refused(&self, words: &str) {
        let to = self.store("to");
        let error = self.import(&to).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(crate::gc::packages(&to).unwrap().is_empty(), "{words}");
        assert!(stored::suites(&to.folder("index")).is_empty(), "{words}");
        assert_eq!(fs::read_dir(to.folder("temp")).unwrap().count(), 0, "{words}");
    }
}

fn lock() -> Lock {
    let packages = vec![pin("a", "1"), pin("b", "1")];
    let role = RoleLock { requested: BTreeSet::new(), packages };
    let roles = BTreeMap::from([("r".to_owned(), role)]);
    Lock { suite: "trixie".to_owned(), roles, ..Lock::default() }
}

/// Changes the manifest as a careful liar would: hashes and sizes fit.
fn relist(
    entries: &mut [(String, Vec<u8>)],
    path: &str,
    change: impl Fn(&mut String, &mut Vec<u8>),
) {
    let at = entries.iter().position(|(name, _)| name == path).unwrap();
    let (mut name, mut bytes) = entries[at].clone();
    change(&mut name, &mut bytes);
    let mut manifest: Manifest = serde_json::from_slice(&entries[0].1).unwrap();
    let entry = manifest.files.iter_mut().find(|entry| entry.path == path).unwrap();
    *entry = Entry {
        path: name.clone(),
        size: bytes.len() as u64,
        sha256: crate::hash::of_bytes(&bytes),
    };
    entries[0].1 = serde_json::to_vec(&manifest).unwrap();
    entries[at] = (name, bytes);
}

#[test]
fn carries_a_depot_over() {
    let lab = Lab::new();
    assert_eq!(lab.export().unwrap().packages, 2);
    let to = lab.store("to");
    let imported = lab.import(&to).unwrap();
    assert_eq!((imported.site.as_str(), imported.new_packages, imported.vouched), ("cork", 2, 1));
    assert_eq!(imported.by_lock_only, ["b 1"]);
    assert_eq!(imported.lock, lab.lock);
    assert_eq!(imported.profile.as_deref(), Some(&b"{}"[..]));
    assert!(lab.lock.packages().into_iter().all(|package: &PinnedPackage| to.has(package)));
    assert_eq!(stored::suites(&to.folder("index")), ["trixie"]);
    assert_eq!(lab.import(&to).unwrap().new_packages, 0);
}

#[test]
fn refuses_archives_that_lie() {
    let lab = Lab::new();
    let package = format!("packages/{}.deb", pin("a", "1").sha256);
    let changes: [(&str, Change<'_>); 9] = [
        ("was altered", &|entries| {
            entries.iter_mut().find(|(name, _)| *name == package).unwrap().1[0] ^= 1;
        }),
        ("with another hash", &|entries| relist(entries, &package, |_, bytes| bytes.push(b'!'))),
        ("does not belong", &|entries| {
            relist(entries, &package, |name, _| *name = "../../etc/passwd".to_owned());
        }),
        ("is not listed", &|entries| {
            entries.push(("../x".to_owned(), Vec::new()));
        }),
        ("twice", &|entries| {
            let again = entries[1].clone();
            entries.push(again);
        }),
        ("is listed and missing", &|entries| {
            entries.pop();
        }),
        ("its first file is not", &|entries| {
            entries.remove(0);
        }),
        ("release file of trixie is refused", &|entries| {
            relist(entries, "index/trixie.InRelease", |_, bytes| {
                *bytes = String::from_utf8_lossy(bytes).replace("2026", "2027").into_bytes();
            });
        }),
        ("is not in its lock", &|entries| {
            relist(entries, LOCK, |_, bytes| {
                let lock = Lock { suite: "trixie".to_owned(), ..Lock::default() };
                *bytes = lock.to_text().into_bytes();
            });
        }),
    ];
    for (words, change) in changes {
        lab.export().unwrap();
        lab.rewrite(change);
        lab.refused(words);
    }
    fs::write(lab.file(), b"nothing of the kind").unwrap();
    lab.refused("it is");
}

#[test]
fn does_not_go_back_to_an_older_index() {
    let lab = Lab::new();
    lab.export().unwrap();
    let to = lab.store("to");
    let newer = lab.own.suite("trixie", "Sun, 13 Sep 2026 07:55:41 UTC", &[pin("a", "3")]);
    newer.store(&to.folder("index"), "trixie");
    lab.import(&to).unwrap();
    let kept = fs::read(stored::release_path(&to.folder("index"), "trixie")).unwrap();
    assert_eq!(kept, newer.release);
}

#[test]
fn damage_and_gaps_are_found_while_exporting() {
    let lab = Lab::new();
    let store = lab.store("from");
    let path = store.path(&pin("a", "1").sha256);
    fs::write(&path, b"a X").unwrap();
    assert!(lab.export().unwrap_err().to_string().contains("SHA-256"));
    fs::remove_file(&path).unwrap();
    let error = lab.export().unwrap_err().to_string();
    assert!(error.contains("lacks 1 packages of the lock, a 1"), "{error}");
    assert!(!lab.file().exists() && fs::read_dir(lab.dir.path()).unwrap().count() == 1);
}
