//! An export and an import that are killed in the middle, or find no room. The work is done by this same program, started
//! again with one test and a folder: a process of its own can be killed, and have a small disk of its own. Needs root.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;

/// Names the folder to whoever plays a part.
const FOLDER: &str = "GRIDGATE_TEST_TRAVEL";

/// Said when a part is in the middle of its work.
const HALFWAY: &str = "halfway";

/// Bytes of a large package: more than lies between two words of progress.
const LARGE: usize = 9 << 20;

/// Two large packages make it long enough to have a middle.
fn lab(folder: &Path) -> Lab {
    let mut dir = TempDir::with_prefix_in("lab-", folder).unwrap();
    dir.disable_cleanup(true);
    let large = |byte: u8| vec![byte; LARGE];
    Lab::of(dir, vec![large(1), large(2)])
}

/// Does something in the middle, once: when something was done and not all is.
struct Midway<F>(std::sync::Mutex<Option<F>>);

impl<F: FnOnce()> Midway<F> {
    fn new(act: F) -> Midway<F> {
        Midway(std::sync::Mutex::new(Some(act)))
    }
}

impl<F: FnOnce() + Send> Progress for Midway<F> {
    fn event(&self, event: DepotEvent) {
        if let DepotEvent::StageProgress { done, total, .. } = event
            && done > LARGE as u64
            && done < total
            && let Some(act) = self.0.lock().unwrap().take()
        {
            act();
        }
    }
}

/// Says so, and waits to be killed.
fn wait_to_be_killed() {
    let mut out = std::io::stdout();
    writeln!(out, "{HALFWAY}").unwrap();
    out.flush().unwrap();
    loop {
        std::thread::park();
    }
}

fn this_test(name: &str) -> Vec<String> {
    let path = format!("import::tests::faults::{name}");
    vec!["--exact".into(), path, "--nocapture".into(), "--test-threads=1".into()]
}

/// Has the test of this name play its part in `folder`, and kills it in the middle.
fn killed_halfway(name: &str, folder: &Path) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(this_test(name)).env(FOLDER, folder).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(HALFWAY)), "{name} ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Has the test of this name play its part on a disk of `mib` MiB.
fn on_a_disk_of(mib: u32, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size={mib}m none \"$0\" && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "sh", "-c", &script]);
    command.arg(folder.path()).arg(env::current_exe().unwrap()).args(this_test(name));
    let output = command.env(FOLDER, folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

/// The folder of whoever plays a part.
fn part() -> Option<PathBuf> {
    env::var_os(FOLDER).map(PathBuf::from)
}

fn listed(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The depot that takes in holds nothing.
fn is_empty(store: &Store) -> bool {
    crate::gc::packages(store).unwrap().is_empty() && listed(&store.folder("index")).is_empty()
}

/// Takes all of the disk.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let bytes = vec![0; 1 << 16];
    let full = std::iter::repeat_with(|| file.write_all(&bytes)).find_map(Result::err).unwrap();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn an_export_that_was_killed_leaves_nothing_under_its_name() {
    if let Some(folder) = part() {
        let target = folder.join("site.gridgate");
        lab(&folder).export_to(&target, &Midway::new(wait_to_be_killed)).unwrap();
        return;
    }
    let (out, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    killed_halfway("an_export_that_was_killed_leaves_nothing_under_its_name", out.path());
    let target = out.path().join("site.gridgate");
    let half = out.path().join(".site.gridgate.new");
    assert!(!target.exists());
    assert!(fs::metadata(&half).unwrap().len() >= 8 << 20, "it was in the middle");
    // The next one goes through and clears up.
    assert_eq!(lab(scratch.path()).export_to(&target, &Silent).unwrap().packages, 4);
    assert!(target.exists() && !half.exists());
}

#[test]
fn an_import_that_was_killed_leaves_nothing_under_final_names() {
    if let Some(folder) = part() {
        let lab = lab(&folder);
        lab.export().unwrap();
        let to = Store::open(&folder.join("to")).unwrap();
        lab.import_with(&to, &Midway::new(wait_to_be_killed)).unwrap();
        return;
    }
    let (folder, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    killed_halfway("an_import_that_was_killed_leaves_nothing_under_final_names", folder.path());
    let to = Store::open(&folder.path().join("to")).unwrap();
    assert!(is_empty(&to));
    assert_eq!(listed(&to.folder("temp")), ["import"], "it was in the middle");
    let lab = lab(scratch.path());
    lab.export().unwrap();
    assert_eq!(lab.import(&to).unwrap().new_packages, 4);
    assert!(listed(&to.folder("temp")).is_empty());
}

#[test]
fn an_export_onto_a_full_disk_says_so_and_leaves_nothing() {
    let Some(folder) = part() else {
        return on_a_disk_of(30, "an_export_onto_a_full_disk_says_so_and_leaves_nothing");
    };
    let scratch = tempfile::tempdir().unwrap();
    let (lab, target) = (lab(scratch.path()), folder.join("site.gridgate"));
    let filler = folder.join("filler");
    // It fills while the export is written.
    let error = lab.export_to(&target, &Midway::new(|| fill(&filler))).unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("No space left"), "{error}");
    assert!(error.contains(&folder.display().to_string()), "{error}");
    assert_eq!(listed(&folder), ["filler"]);
    // It is full from the first.
    fill(&filler);
    let error = lab.export_to(&target, &Silent).unwrap_err().to_string();
    assert!(error.contains("not enough disk space"), "{error}");
    assert!(error.contains("write the export: needs 19 MiB, 0 MiB are free"), "{error}");
    assert_eq!(listed(&folder), ["filler"]);
    fs::remove_file(&filler).unwrap();
    assert_eq!(lab.export_to(&target, &Silent).unwrap().packages, 4);
}

#[test]
fn an_import_into_a_full_disk_says_so_and_takes_nothing() {
    let Some(folder) = part() else {
        return on_a_disk_of(30, "an_import_into_a_full_disk_says_so_and_takes_nothing");
    };
    let scratch = tempfile::tempdir().unwrap();
    let lab = lab(scratch.path());
    lab.export().unwrap();
    let to = Store::open(&folder.join("to")).unwrap();
    let filler = folder.join("filler");
    let error = lab.import_with(&to, &Midway::new(|| fill(&filler))).unwrap_err().to_string();
    assert!(error.contains("cannot unpack") && error.contains("No space left"), "{error}");
    assert!(is_empty(&to) && listed(&to.folder("temp")).is_empty());
    fill(&filler);
    let error = lab.import(&to).unwrap_err().to_string();
    assert!(error.contains("take the export in: needs 19 MiB, 0 MiB are free"), "{error}");
    assert!(is_empty(&to) && listed(&to.folder("temp")).is_empty());
    fs::remove_file(&filler).unwrap();
    assert_eq!(lab.import(&to).unwrap().new_packages, 4);
}
