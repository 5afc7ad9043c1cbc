//! The seed partition, read back by the host's own tar.

mod support;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gridgate_disk::{
    DiskError, SEED, SeedChange, SeedEntry, SeedSource, create, inspect, write_seed,
};
use support::{MIB, bytes, image, plan};

fn disk(folder: &Path) -> PathBuf {
    let plan = plan(folder, image(folder, MIB, &[(0, 5000)]));
    create(&plan, &mut |_, _| {}).unwrap();
    plan.path
}

fn entry(name: &str, mode: u32, content: &[u8]) -> SeedEntry {
    SeedEntry { name: name.into(), mode, source: SeedSource::Bytes(content.to_vec()) }
}

/// Unpacks the seed as a node does: the archive from the partition's first byte.
fn unpack(disk: &Path, folder: &Path) {
    let seed = inspect(disk).unwrap().partitions.into_iter().find(|p| p.name == SEED).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    let mut tar = Command::new("tar")
        .args(["-xpf", "-", "-C"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = tar.stdin.take().unwrap();
    // tar stops reading at the end of the archive, so the rest may find a closed pipe.
    let _ = input.write_all(&bytes(disk, seed.start, seed.length));
    drop(input);
    let output = tar.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn tar_reads_the_seed_back_and_a_second_writing_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let program = folder.path().join("program");
    let content: Vec<u8> = (0..1_500_001_u32).map(|n| (n % 241) as u8).collect();
    std::fs::write(&program, &content).unwrap();
    let mut entries = vec![
        entry("identity.json", 0o600, b"{\"node\":\"ce\"}"),
        SeedEntry { name: "gridgate".into(), mode: 0o755, source: SeedSource::File(program) },
    ];

    let SeedChange::Written { bytes } = write_seed(&disk, &entries).unwrap() else { panic!() };
    assert!(bytes >= 1_500_001);
    let unpacked = folder.path().join("unpacked");
    unpack(&disk, &unpacked);
    assert_eq!(std::fs::read(unpacked.join("identity.json")).unwrap(), b"{\"node\":\"ce\"}");
    assert!(std::fs::read(unpacked.join("gridgate")).unwrap() == content);
    let mode = |name: &str| unpacked.join(name).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("identity.json"), mode("gridgate")), (0o600, 0o755));

    assert_eq!(write_seed(&disk, &entries).unwrap(), SeedChange::Unchanged);
    entries[0] = entry("identity.json", 0o600, b"{\"node\":\"se\"}");
    let SeedChange::Written { bytes } = write_seed(&disk, &entries).unwrap() else { panic!() };
    assert!(bytes <= 256 * 1024, "only the part that changed: {bytes}");
}

#[test]
fn a_shorter_seed_hides_the_longer_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let long = vec![7; 700_000];
    write_seed(&disk, &[entry("a", 0o600, &long), entry("b", 0o600, &long)]).unwrap();
    write_seed(&disk, &[entry("c", 0o600, b"short")]).unwrap();
    let unpacked = folder.path().join("unpacked");
    unpack(&disk, &unpacked);
    let names: Vec<_> =
        std::fs::read_dir(&unpacked).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["c"]);
}

#[test]
fn a_seed_that_does_not_fit_or_has_bad_names_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let before = bytes(&disk, 0, 128 * MIB);
    let much = vec![1; 4 * MIB as usize];
    let error = write_seed(&disk, &[entry("a", 0o600, &much)]).unwrap_err();
    let DiskError::SeedTooLarge { needed, available, .. } = error else { panic!("{error}") };
    assert!(needed > available && available == 4 * MIB);
    for name in ["/etc/passwd", "../a", "", &"x".repeat(100)] {
        let entries = [entry("good", 0o600, b"x"), entry(name, 0o600, b"x")];
        let error = write_seed(&disk, &entries).unwrap_err();
        assert!(matches!(error, DiskError::SeedEntry { .. }), "{name}: {error}");
    }
    assert!(bytes(&disk, 0, 128 * MIB) == before);
}

#[test]
fn a_seed_that_fills_its_partition_stays_inside_it() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let record = 20 * 512;
    let most = 4 * MIB / record * record - 3 * 512;
    let before = bytes(&disk, 5 * MIB, MIB);
    write_seed(&disk, &[entry("a", 0o600, &vec![1; most as usize])]).unwrap();
    assert!(bytes(&disk, 5 * MIB, MIB) == before, "the swap space behind it");
    let error = write_seed(&disk, &[entry("a", 0o600, &vec![1; most as usize + 1])]).unwrap_err();
    assert!(matches!(error, DiskError::SeedTooLarge { .. }), "{error}");
}

#[test]
fn a_disk_without_a_seed_partition_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(folder.path(), image(folder.path(), MIB, &[]));
    plan.seed = 0;
    create(&plan, &mut |_, _| {}).unwrap();
    let error = write_seed(&plan.path, &[entry("a", 0o600, b"")]).unwrap_err();
    assert!(matches!(error, DiskError::NoPartition { .. }), "{error}");
}

#[test]
fn damage_in_a_seed_is_made_good() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let entries = [entry("a", 0o600, &[9; 3000])];
    write_seed(&disk, &entries).unwrap();
    let whole = bytes(&disk, 0, 5 * MIB);
    let file = OpenOptions::new().write(true).open(&disk).unwrap();
    file.write_all_at(&[1], MIB + 700).unwrap();
    assert!(matches!(write_seed(&disk, &entries), Ok(SeedChange::Written { .. })));
    assert!(bytes(&disk, 0, 5 * MIB) == whole);
}
