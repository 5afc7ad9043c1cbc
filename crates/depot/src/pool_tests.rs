//! A depot of a small archive of our own, and a mirror that counts what it is asked for.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::archive::own::{Own, content, pin};
use crate::lock::RoleLock;

const DATE: &str = "Sat, 12 Sep 2026 07:55:41 UTC";

fn pool(dir: &TempDir) -> (Pool, Own) {
    let own = Own::new();
    let store = Store::open(dir.path()).unwrap();
    own.suite("trixie", DATE, &[pin("a", "1")]).store(&store.folder("index"), "trixie");
    (Pool::new(store, own.keyring()), own)
}

/// Serves package `a` to everybody and counts.
fn mirror() -> (Mirrors, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let debian = format!("http://{}/debian", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let reader = BufReader::new(stream.try_clone().unwrap());
            let lines = reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            let _ = lines.count();
            count.fetch_add(1, Ordering::Relaxed);
            let body = content("a", "1");
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    (Mirrors { debian, ..Mirrors::default() }, asked)
}

#[test]
fn serves_the_indexes_that_are_stored_and_no_other_file() {
    let dir = tempfile::tempdir().unwrap();
    let (pool, _) = pool(&dir);
    let release = pool.index_file("trixie/InRelease").unwrap();
    assert!(release.path.ends_with("index/trixie.InRelease"));
    let packages = pool.index_file(&format!("trixie/{}", stored::packages_name())).unwrap();
    let folder = stored::packages_name().replace("Packages.xz", "");
    let by_hash = format!("trixie/{folder}by-hash/SHA256/{}", packages.tag);
    assert_eq!(pool.index_file(&by_hash), Some(packages));
    for absent in [
        "forky/InRelease",
        "../InRelease",
        "trixie/Release",
        "trixie/../trixie/InRelease",
        "trixie",
    ] {
        assert_eq!(pool.index_file(absent), None, "{absent}");
    }
}

#[test]
fn many_ask_and_the_mirror_is_asked_once() {
    let dir = tempfile::tempdir().unwrap();
    let (pool, _) = pool(&dir);
    let (mirrors, asked) = mirror();
    let path = pin("a", "1").filename;
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let file = pool.package(&path, None, &mirrors).unwrap().unwrap();
                assert_eq!(fs::read(file.path).unwrap(), content("a", "1"));
            });
        }
    });
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(pool.package("pool/main/b.deb", None, &mirrors).unwrap(), None);
}

#[test]
fn damage_is_never_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let (pool, _) = pool(&dir);
    let package = pin("a", "1");
    let stored = pool.store.path(&package.sha256);
    fs::write(&stored, b"a X").unwrap();
    let error = pool.package(&package.filename, None, &Mirrors::default()).unwrap_err();
    assert!(is_out_of_reach(&error) && !stored.exists(), "{error}");
    let (mirrors, asked) = mirror();
    fs::write(&stored, b"a X").unwrap();
    pool.package(&package.filename, None, &mirrors).unwrap().unwrap();
    assert_eq!(fs::read(&stored).unwrap(), content("a", "1"));
    // Whole and known to be: neither the mirror nor the hash is asked again.
    pool.package(&package.filename, None, &Mirrors::default()).unwrap().unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn a_lock_names_what_the_index_has_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (pool, _) = pool(&dir);
    let old = pin("a", "0");
    fs::write(pool.store.path(&old.sha256), content("a", "0")).unwrap();
    let role = RoleLock { packages: vec![old.clone()], ..RoleLock::default() };
    let lock = Lock { roles: [("r".to_owned(), role)].into(), ..Lock::default() };
    let none = Mirrors::default();
    assert_eq!(pool.package(&old.filename, None, &none).unwrap(), None);
    let file = pool.package(&old.filename, Some(&lock), &none).unwrap().unwrap();
    assert_eq!(file.tag, old.sha256);
}
