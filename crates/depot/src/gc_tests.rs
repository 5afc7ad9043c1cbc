//! Sweeping a small depot made by hand.

use std::collections::BTreeMap;

use super::*;
use crate::lock::RoleLock;

fn pin(name: &str) -> PinnedPackage {
    PinnedPackage {
        name: name.to_owned(),
        version: "1".to_owned(),
        architecture: "all".to_owned(),
        sha256: crate::hash::of_bytes(name.as_bytes()),
        size: name.len() as u64,
        filename: format!("pool/{name}.deb"),
    }
}

fn lock(names: &[&str]) -> Lock {
    let packages: Vec<_> = names.iter().map(|name| pin(name)).collect();
    let role = RoleLock { requested: BTreeSet::new(), packages };
    Lock { roles: BTreeMap::from([("r".to_owned(), role)]), ..Lock::default() }
}

fn depot(dir: &Path) -> Store {
    let store = Store::open(dir).unwrap();
    for name in ["a", "b", "c", "held"] {
        fs::write(store.path(&pin(name).sha256), name).unwrap();
    }
    fs::write(store.folder("packages").join("00/x.deb.part"), "half").unwrap();
    let note = |packages: &[&str]| {
        let packages: Vec<_> = packages.iter().map(|name| pin(name)).collect();
        serde_json::json!({ "recipe": "1", "packages": packages }).to_string()
    };
    for (folder, packages) in [("one", &["a"][..]), ("two", &["a", "c"]), ("used", &["c"])] {
        let path = store.folder("vmm").join(folder);
        fs::create_dir_all(path.join("root/usr")).unwrap();
        fs::write(path.join("note.json"), note(packages)).unwrap();
    }
    fs::create_dir(store.folder("vmm").join("unknown")).unwrap();
    for key in ["wanted", "old"] {
        fs::create_dir(store.folder("images").join(key)).unwrap();
    }
    store
}

#[test]
fn removes_what_nobody_needs_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = depot(dir.path());
    let references = References {
        locks: vec![lock(&["a"]), lock(&["b"])],
        packages: BTreeSet::from([pin("held").sha256]),
        images: BTreeSet::from(["wanted".to_owned()]),
        in_use: vec![store.folder("vmm").join("used/root")],
    };
    let (planned, done) = {
        let whole = store.whole().unwrap();
        let planned = sweep(&store, &whole, &references, false).unwrap();
        (planned, sweep(&store, &whole, &references, true).unwrap())
    };
    assert_eq!(planned, done);
    let names: Vec<_> = done.items.iter().map(|item| (item.folder, item.name.as_str())).collect();
    let c = format!("{}.deb", pin("c").sha256);
    assert_eq!(
        names,
        [("images", "old"), ("packages", "x.deb.part"), ("packages", c.as_str()), ("vmm", "two")]
            .into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    for kept in ["a", "b", "held"] {
        assert!(store.package_file(&pin(kept).sha256).is_some(), "{kept}");
    }
    assert!(store.package_file(&pin("c").sha256).is_none());
    for kept in ["one", "used", "unknown"] {
        assert!(store.folder("vmm").join(kept).is_dir(), "{kept}");
    }
    let whole = store.whole().unwrap();
    assert_eq!(sweep(&store, &whole, &references, true).unwrap().items, []);
}

#[test]
fn nobody_sweeps_while_somebody_builds() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let work = store.work("images", crate::store::ScratchIn::Depot).unwrap();
    assert!(matches!(store.whole(), Err(DepotError::Busy)));
    drop(work);
    store.whole().unwrap();
}
