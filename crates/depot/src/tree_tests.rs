//! Copies of trees with everything in them.

use std::fs::File;

use super::*;

#[test]
fn copies_what_a_root_can_hold() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("a"), dir.path().join("b"));
    fs::create_dir_all(source.join("d")).unwrap();
    fs::write(source.join("d/file"), b"content").unwrap();
    fs::set_permissions(source.join("d/file"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(source.join("d"), fs::Permissions::from_mode(0o2750)).unwrap();
    fs::hard_link(source.join("d/file"), source.join("name")).unwrap();
    symlink("/nowhere", source.join("link")).unwrap();
    mknodat(CWD, source.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000, 5);
    File::options().write(true).open(source.join("name")).unwrap().set_modified(old).unwrap();

    copy(&source, &target).unwrap();
    let meta = |path: &str| fs::symlink_metadata(target.join(path)).unwrap();
    assert_eq!(fs::read(target.join("name")).unwrap(), b"content");
    assert_eq!(meta("name").ino(), meta("d/file").ino());
    assert_eq!(meta("name").mode() & 0o7777, 0o4711);
    assert_eq!(meta("d").mode() & 0o7777, 0o2750);
    assert_eq!(meta("name").modified().unwrap(), old);
    assert_eq!(fs::read_link(target.join("link")).unwrap(), Path::new("/nowhere"));
    assert!(meta("fifo").file_type().is_fifo());
    assert!(copy(&source, &target).is_err(), "never writes into what is there");
}
