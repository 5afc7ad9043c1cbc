//! Packages made by hand.

use std::io::Write;
use std::path::PathBuf;

use super::*;

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        // Written by hand: the builder refuses the paths that are to be refused here.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A member of an `ar` archive: deb(5).
fn add(deb: &mut Vec<u8>, name: &str, content: &[u8]) {
    let size = content.len();
    writeln!(deb, "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`", 0, 0, 0, "100644").unwrap();
    deb.extend(content);
    deb.resize(deb.len().next_multiple_of(2), b'\n');
}

fn package(dir: &Path, files: &[(&str, &[u8])]) -> (PinnedPackage, PathBuf) {
    let mut deb = b"!<arch>\n".to_vec();
    let control = tar_of(&[("./control", b"Package: x\nVersion: 1\n\n")]);
    add(&mut deb, "debian-binary", b"2.0\n");
    add(&mut deb, "control.tar.xz", &xz(&control));
    add(&mut deb, "data.tar.xz", &xz(&tar_of(files)));
    let path = dir.join("x.deb");
    std::fs::write(&path, &deb).unwrap();
    let pin = PinnedPackage {
        name: "x".to_owned(),
        version: "1".to_owned(),
        architecture: "all".to_owned(),
        sha256: crate::hash::of_bytes(&deb),
        size: deb.len() as u64,
        filename: "pool/x.deb".to_owned(),
    };
    (pin, path)
}

#[test]
fn checks_and_unpacks() {
    let dir = tempfile::tempdir().unwrap();
    let (pin, deb) = package(dir.path(), &[("./a", b"one"), ("./b", b"two")]);
    assert_eq!(check(&pin, &deb).unwrap(), "Package: x\nVersion: 1\n");
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    unpack(&pin, &deb, &root, &|path| path != Path::new("./b")).unwrap();
    assert_eq!(std::fs::read(root.join("a")).unwrap(), b"one");
    assert!(!root.join("b").exists());
}

#[test]
fn refuses_what_was_altered_or_leaves_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let (mut pin, deb) = package(dir.path(), &[("../a", b"one")]);
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    assert!(unpack(&pin, &deb, &root, &|_| true).is_err());
    assert!(!dir.path().join("a").exists());
    pin.sha256 = "0".repeat(64);
    let error = check(&pin, &deb).unwrap_err();
    assert!(matches!(error, DepotError::Fetch(_)), "{error}");
}
