//! Packages made by hand.

use proptest::prelude::*;

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

fn package(dir: &Path, files: &[(&str, &[u8])]) -> (PinnedPackage, PathBuf) {
    let mut deb = io::Cursor::new(AR_MAGIC.to_vec());
    deb.seek(SeekFrom::End(0)).unwrap();
    let control = tar_of(&[("./control", b"Package: x\nVersion: 1\n\n")]);
    add(&mut deb, "debian-binary", &mut &b"2.0\n"[..]).unwrap();
    add(&mut deb, "control.tar.xz", &mut xz(&control).as_slice()).unwrap();
    add(&mut deb, "data.tar.xz", &mut xz(&tar_of(files)).as_slice()).unwrap();
    let path = dir.join("x.deb");
    std::fs::write(&path, deb.get_ref()).unwrap();
    let pin = PinnedPackage {
        name: "x".to_owned(),
        version: "1".to_owned(),
        architecture: "all".to_owned(),
        sha256: crate::hash::of_bytes(deb.get_ref()),
        size: deb.get_ref().len() as u64,
        filename: "pool/x.deb".to_owned(),
    };
    (pin, path)
}

#[test]
fn flattens_and_unpacks() {
    let dir = tempfile::tempdir().unwrap();
    let (pin, deb) = package(dir.path(), &[("./a", b"one"), ("./b", b"two")]);
    let flat = flatten(&pin, &deb, &dir.path().join("flat.deb")).unwrap();
    assert_eq!(flat.control, "Package: x\nVersion: 1\n");
    let bytes = std::fs::read(&flat.path).unwrap();
    assert_eq!((flat.size, flat.sha256), (bytes.len() as u64, crate::hash::of_bytes(&bytes)));
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    unpack(&pin, &flat.path, &root, &|path| path != Path::new("./b")).unwrap();
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
    let error = flatten(&pin, &deb, &dir.path().join("flat.deb")).unwrap_err();
    assert!(matches!(error, DepotError::Fetch(_)), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(AR_MAGIC).unwrap();
        file.write_all(&bytes).unwrap();
        let _ = members(&mut file);
    }
}
