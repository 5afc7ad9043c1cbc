//! The kernel's own view of a disk, through a loop device. Needs root.

mod support;

use std::process::Command;

use gridgate_disk::{SEED, SWAP, SeedEntry, SeedSource, create, grow, write_seed};
use support::loop_device::LoopDevice;
use support::{MIB, bytes, image, plan};

#[test]
fn the_kernel_finds_every_partition_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), 30 * MIB, &[(0, 70_000), (11 * MIB, 70_000)]);
    let plan = plan(folder.path(), image.clone());
    create(&plan, &mut |_, _| {}).unwrap();
    let entries = [SeedEntry {
        name: "identity.json".into(),
        mode: 0o600,
        source: SeedSource::Bytes(b"{}".to_vec()),
    }];
    write_seed(&plan.path, &entries).unwrap();

    let device = LoopDevice::new(&plan.path);
    let expected = [
        (1, "gridgate-seed".to_owned(), 4 * MIB),
        (2, "gridgate-swap".to_owned(), 8 * MIB),
        (3, "gridgate-data-scratch".to_owned(), 4 * MIB),
        (4, "gridgate-root".to_owned(), 110 * MIB),
    ];
    assert_eq!(device.partitions(), expected);
    let number = |name: &str| expected.iter().find(|(_, seen, _)| seen == name).unwrap().0;
    assert!(bytes(&device.partition_device(4), 0, 30 * MIB) == bytes(&image, 0, 30 * MIB));
    let swap = bytes(&device.partition_device(number(SWAP)), 0, 4096);
    assert_eq!(&swap[4086..], b"SWAPSPACE2");
    let seed = device.partition_device(number(SEED));
    let listing = Command::new("tar").arg("-tf").arg(&seed).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listing.stdout), "identity.json\n");
    blkid_agrees(&device, number(SWAP));
}

/// Only an extra: not every host has it.
fn blkid_agrees(device: &LoopDevice, swap: u32) {
    let mut blkid = Command::new("blkid");
    let Ok(output) = blkid.arg("-p").arg(device.partition_device(swap)).output() else { return };
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["LABEL=\"gridgate-swap\"", "TYPE=\"swap\"", "PART_ENTRY_NAME=\"gridgate-swap\""] {
        assert!(output.contains(part), "{part}: {output}");
    }
}

#[test]
fn the_kernel_sees_a_grown_root() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), image(folder.path(), MIB, &[(0, 5000)]));
    create(&plan, &mut |_, _| {}).unwrap();
    grow(&plan.path, 1024 * MIB).unwrap();
    let device = LoopDevice::new(&plan.path);
    assert_eq!(device.partitions()[3], (4, "gridgate-root".to_owned(), 1006 * MIB));
}
