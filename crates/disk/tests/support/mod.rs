//! Images and plans for the tests.
#![allow(dead_code, reason = "no test file uses all of it")]

pub mod loop_device;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use gridgate_disk::{DataPartition, DiskPlan};

pub const MIB: u64 = 1 << 20;

/// A sparse file with bytes that tell where they stand in each of `ranges` (start, length).
pub fn image(folder: &Path, size: u64, ranges: &[(u64, u64)]) -> PathBuf {
    let path = folder.join("role.img");
    let file = File::create(&path).unwrap();
    file.set_len(size).unwrap();
    for &(start, length) in ranges {
        let end = (start + length).min(size);
        let bytes: Vec<u8> = (start..end).map(|at| (at / 7 % 255 + 1) as u8).collect();
        file.write_all_at(&bytes, start).unwrap();
    }
    file.sync_all().unwrap();
    path
}

pub fn plan(folder: &Path, root_image: PathBuf) -> DiskPlan {
    DiskPlan {
        path: folder.join("disk.img"),
        size: 128 * MIB,
        root_image,
        swap: 8 * MIB,
        seed: 4 * MIB,
        data: vec![DataPartition { name: "scratch".into(), size: 3 * MIB + 5 }],
        owner: (0, 0),
    }
}

/// The bytes of a range of a file.
pub fn bytes(path: &Path, start: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    File::open(path).unwrap().read_exact_at(&mut bytes, start).unwrap();
    bytes
}

/// Bytes that a file takes on the host.
pub fn allocated(path: &Path) -> u64 {
    path.metadata().unwrap().blocks() * 512
}
