//! Whole disks: what they hold, what is refused, what stays when something fails.

mod support;

use std::os::unix::fs::MetadataExt;

use gridgate_disk::{DiskError, PartitionKind, ROOT, SWAP, create, grow, inspect};
use proptest::prelude::*;
use support::{MIB, allocated, bytes, image, plan};

#[test]
fn a_disk_has_its_partitions_the_image_and_a_swap_header() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), 40 * MIB, &[(0, 100_000), (20 * MIB + 3, MIB)]);
    let mut plan = plan(folder.path(), image.clone());
    plan.owner = (65_001, 65_002);
    let mut reports = Vec::new();
    let created = create(&plan, &mut |done, total| reports.push((done, total))).unwrap();

    let info = inspect(&plan.path).unwrap();
    assert_eq!(info.partitions, created.partitions);
    let seen: Vec<_> = info
        .partitions
        .iter()
        .map(|p| (p.name.as_str(), p.start / MIB, p.length, p.kind))
        .collect();
    assert_eq!(
        seen,
        [
            ("gridgate-seed", 1, 4 * MIB, PartitionKind::Reserved),
            ("gridgate-swap", 5, 8 * MIB, PartitionKind::Swap),
            ("gridgate-data-scratch", 13, 4 * MIB, PartitionKind::Linux),
            ("gridgate-root", 17, 110 * MIB, PartitionKind::Linux),
        ]
    );
    assert!(bytes(&image, 0, 40 * MIB) == bytes(&plan.path, 17 * MIB, 40 * MIB));
    assert!(info.allocated < 2 * MIB, "{} bytes are in use", info.allocated);

    let swap = bytes(&plan.path, 5 * MIB, 4096);
    assert_eq!(&swap[4086..], b"SWAPSPACE2");
    assert_eq!(swap[1024..1032], [1, 0, 0, 0, 0xff, 0x07, 0, 0], "version 1, last page 2047");
    assert_eq!(&swap[1052..1068], b"gridgate-swap\0\0\0");

    let metadata = plan.path.metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), plan.owner);
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert_eq!(reports.first(), Some(&(0, created.bytes_copied)));
    assert_eq!(reports.last(), Some(&(created.bytes_copied, created.bytes_copied)));
}

#[test]
fn a_disk_too_small_for_its_image_is_refused_with_both_sizes_and_the_least_one_works() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), 40 * MIB + 1, &[]);
    let mut plan = plan(folder.path(), image);
    plan.size = 50 * MIB;
    let error = create(&plan, &mut |_, _| {}).unwrap_err();
    let DiskError::TooSmall { size, image, needed, .. } = error else { panic!("{error}") };
    assert_eq!((size, image), (50 * MIB, 40 * MIB + 1));
    assert!(!plan.path.exists());

    plan.size = needed - MIB;
    assert!(create(&plan, &mut |_, _| {}).is_err());
    plan.size = needed;
    create(&plan, &mut |_, _| {}).unwrap();
}

#[test]
fn a_disk_that_exists_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), image(folder.path(), MIB, &[]));
    std::fs::write(&plan.path, b"precious").unwrap();
    let error = create(&plan, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, DiskError::Exists { .. }), "{error}");
    assert_eq!(std::fs::read(&plan.path).unwrap(), b"precious");
}

#[test]
fn one_that_appears_meanwhile_is_left_too_and_nothing_else_stays() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), image(folder.path(), MIB, &[(0, 5000)]));
    let error =
        create(&plan, &mut |_, _| std::fs::write(&plan.path, b"precious").unwrap()).unwrap_err();
    assert!(matches!(error, DiskError::Exists { .. }), "{error}");
    assert_eq!(std::fs::read(&plan.path).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "image and other disk");
}

#[test]
fn names_and_sizes_that_cannot_work_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = plan(folder.path(), image(folder.path(), MIB, &[]));
    for name in ["", "UPPER", "a_b", "12345678901234567890123"] {
        let mut plan = good.clone();
        plan.data[0].name = name.into();
        assert!(matches!(create(&plan, &mut |_, _| {}), Err(DiskError::Plan { .. })), "{name}");
    }
    let mut twice = good.clone();
    twice.data.push(twice.data[0].clone());
    assert!(matches!(create(&twice, &mut |_, _| {}), Err(DiskError::Plan { .. })));
    let mut huge = good.clone();
    huge.swap = u64::MAX;
    assert!(matches!(create(&huge, &mut |_, _| {}), Err(DiskError::Plan { .. })));
    assert!(!good.path.exists());
}

#[test]
fn a_plain_disk_is_only_a_root() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(folder.path(), image(folder.path(), MIB, &[]));
    (plan.swap, plan.seed, plan.data) = (0, 0, Vec::new());
    let created = create(&plan, &mut |_, _| {}).unwrap();
    let names: Vec<_> = created.partitions.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, [ROOT]);
}

#[test]
fn growing_enlarges_the_root_alone_and_keeps_all_content() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), 40 * MIB, &[(0, 100_000), (39 * MIB, MIB)]);
    let plan = plan(folder.path(), image.clone());
    let before = create(&plan, &mut |_, _| {}).unwrap().partitions;

    grow(&plan.path, 300 * MIB + 77).unwrap();
    let after = inspect(&plan.path).unwrap();
    assert_eq!(after.size, 300 * MIB);
    assert_eq!(after.partitions[..3], before[..3]);
    assert_eq!(after.partitions[3].start, before[3].start);
    assert_eq!(after.partitions[3].length, 282 * MIB);
    assert!(bytes(&image, 0, 40 * MIB) == bytes(&plan.path, 17 * MIB, 40 * MIB));
    let rest = bytes(&plan.path, 57 * MIB, 242 * MIB);
    assert!(rest.iter().all(|byte| *byte == 0), "the old backup table is gone");

    grow(&plan.path, 300 * MIB).unwrap();
    assert_eq!(inspect(&plan.path).unwrap(), after, "nothing to do");
    let error = grow(&plan.path, 200 * MIB).unwrap_err();
    assert!(matches!(error, DiskError::Shrink { .. }), "{error}");
    assert_eq!(inspect(&plan.path).unwrap(), after);
}

#[test]
fn growing_again_finishes_what_was_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), image(folder.path(), MIB, &[(0, 5000)]));
    create(&plan, &mut |_, _| {}).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&plan.path).unwrap();
    file.set_len(200 * MIB).unwrap();
    let names = |info: gridgate_disk::DiskInfo| info.partitions.len();
    assert_eq!(inspect(&plan.path).map(names).unwrap(), 4, "readable in between");
    grow(&plan.path, 200 * MIB).unwrap();
    assert_eq!(inspect(&plan.path).unwrap().partitions[3].length, 182 * MIB);
}

#[test]
fn a_damaged_first_table_is_replaced_by_the_backup() {
    use std::os::unix::fs::FileExt;
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), image(folder.path(), MIB, &[(0, 5000)]));
    let created = create(&plan, &mut |_, _| {}).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&plan.path).unwrap();
    file.write_all_at(&[0xff; 1024], 512).unwrap();
    assert_eq!(inspect(&plan.path).unwrap().partitions, created.partitions);
    grow(&plan.path, 256 * MIB).unwrap();
    file.write_all_at(&[0xff; 512], 256 * MIB - 512).unwrap();
    assert_eq!(inspect(&plan.path).unwrap().partitions.len(), 4, "the first copy is whole again");
    file.write_all_at(&[0xff; 512], 512).unwrap();
    let error = inspect(&plan.path).unwrap_err().to_string();
    assert!(error.contains("first copy") && error.contains("backup"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_sparse_image_arrives_bit_by_bit_and_takes_no_more_room(
        size in 1_u64..24 * MIB,
        ranges in proptest::collection::vec((0_u64..24 * MIB, 1_u64..600_000), 0..12),
        swap in 0_u64..3 * MIB,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let ranges: Vec<_> = ranges.into_iter().filter(|(start, _)| *start < size).collect();
        let image = image(folder.path(), size, &ranges);
        let mut plan = plan(folder.path(), image.clone());
        plan.swap = swap;
        let created = create(&plan, &mut |_, _| {}).unwrap();
        let root = created.partitions.iter().find(|p| p.name == ROOT).unwrap();
        prop_assert!(root.length >= size);
        prop_assert!(bytes(&image, 0, size) == bytes(&plan.path, root.start, size));
        prop_assert_eq!(created.partitions.iter().any(|p| p.name == SWAP), swap > 0);
        let (source, disk) = (allocated(&image), allocated(&plan.path));
        prop_assert!(disk <= source + 256 * 1024, "{disk} bytes for {source}");
    }

    #[test]
    fn no_table_however_mangled_brings_the_reader_down(
        hits in proptest::collection::vec((0_usize..34 * 512, any::<u8>()), 1..40),
        backup in any::<bool>(),
    ) {
        use std::os::unix::fs::FileExt;
        let folder = tempfile::tempdir().unwrap();
        let mut plan = plan(folder.path(), image(folder.path(), MIB, &[]));
        plan.size = 32 * MIB;
        create(&plan, &mut |_, _| {}).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&plan.path).unwrap();
        for (at, byte) in hits {
            file.write_all_at(&[byte], at as u64).unwrap();
            if backup {
                file.write_all_at(&[byte], 32 * MIB - 34 * 512 + at as u64).unwrap();
            }
        }
        if let Ok(info) = inspect(&plan.path) {
            prop_assert!(info.partitions.iter().all(|p| p.start + p.length <= info.size));
        }
        let _ = grow(&plan.path, 40 * MIB);
    }
}
