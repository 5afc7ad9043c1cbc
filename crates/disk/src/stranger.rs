//! What a disk holds that no node put there, for words before it goes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::device::read_partitions;

/// Start of the name of every partition of a node.
const OURS: &str = "gridgate-";

/// The boot record's partitions: where the first stands, how long each is, where its type stands in it.
const ENTRIES: std::ops::Range<usize> = 446..510;
const ENTRY: usize = 16;
const KIND: usize = 4;

/// Type of the one partition by which a GPT keeps tools without GPT away.
const PROTECTIVE: u8 = 0xee;

/// Partitions of the disk in `file` that are no node's: their names in a GPT, else the types of an MBR's.
#[must_use]
pub fn strangers(file: &File, path: &Path) -> Vec<String> {
    match read_partitions(file, path) {
        Some(partitions) => {
            let names = partitions.into_iter().map(|partition| partition.name);
            let strange = names.filter(|name| !name.starts_with(OURS));
            strange
                .map(|name| if name.is_empty() { "one without a name".to_owned() } else { name })
                .collect()
        }
        None => boot_record(file).unwrap_or_default(),
    }
}

fn boot_record(file: &File) -> Option<Vec<String>> {
    let mut sector = [0; 512];
    file.read_exact_at(&mut sector, 0).ok()?;
    if sector[ENTRIES.end..] != [0x55, 0xaa] {
        return None;
    }
    let kinds = sector[ENTRIES].chunks(ENTRY).map(|entry| entry[KIND]);
    let used = kinds.filter(|kind| *kind != 0 && *kind != PROTECTIVE);
    Some(used.map(|kind| format!("MBR type {kind:02x}")).collect())
}
