//! Copies of whole disks.

mod support;

use std::os::unix::fs::MetadataExt;

use gridgate_disk::{DiskError, copy};
use support::{MIB, allocated, bytes, image};

#[test]
fn a_copy_has_the_same_bytes_and_the_same_holes() {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(folder.path(), 60 * MIB + 512, &[(0, 5_000), (40 * MIB + 7, 3 * MIB)]);
    let target = folder.path().join("before.img");
    let mut last = (0, 0);
    let copied = copy(&disk, &target, &mut |done, total| last = (done, total)).unwrap();
    assert_eq!(last, (copied.bytes, copied.bytes));
    assert_eq!(target.metadata().unwrap().len(), 60 * MIB + 512);
    assert!(bytes(&disk, 0, 60 * MIB + 512) == bytes(&target, 0, 60 * MIB + 512));
    assert!(allocated(&target) < 4 * MIB, "{} bytes are in use", allocated(&target));
    assert_eq!(target.metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn an_earlier_copy_is_never_written_over_and_a_missing_disk_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(folder.path(), MIB, &[(0, 10)]);
    let target = folder.path().join("before.img");
    std::fs::write(&target, "earlier").unwrap();
    let refused = copy(&disk, &target, &mut |_, _| {}).unwrap_err();
    assert!(matches!(refused, DiskError::Exists { .. }), "{refused}");
    assert_eq!(std::fs::read(&target).unwrap(), b"earlier");
    let missing = folder.path().join("missing.img");
    copy(&missing, &folder.path().join("none.img"), &mut |_, _| {}).unwrap_err();
    assert!(!folder.path().join("none.img").exists());
}
