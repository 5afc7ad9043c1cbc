//! Makes the ext4 image of a root tree, with the base root's own e2fsprogs.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::chamber::{Access, Chamber, ChamberError};
use crate::error::DepotError;

/// Name of the file that is made.
pub(crate) const IMAGE_FILE: &str = "image.ext4";

const BLOCK: u64 = 4096;

/// How a root's file system is made, by the depot and by a node that makes its own.
pub(crate) const ROOT: [&str; 14] = [
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b",
    "4096",
    "-I",
    "256",
    "-m",
    "1",
    "-L",
    "gridgate",
    "-O",
    "64bit,^orphan_file",
];

/// Extended options of the same (`-E`).
pub(crate) const ROOT_EXTENDED: &str =
    "root_owner=0:0,nodiscard,lazy_itable_init=1,lazy_journal_init=1";

/// Journal, in MiB: enough to be crash-safe, small enough to be copied with each node.
const JOURNAL_MIB: u64 = 8;

/// Room for inode tables, bitmaps, the table that allows growth, and first use.
const SLACK: u64 = 64 << 20;

/// Room for tables and indexes in a disk that is never written to.
const MODULES_SLACK: u64 = 16 << 20;

/// The size to which the file system can be grown while mounted, in blocks (1 TiB).
const GROWTH_BLOCKS: u64 = (1 << 40) / BLOCK;

/// How often what mke2fs has written so far is brought to disk.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// What a tree needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Contents {
    bytes: u64,
    files: u64,
}

/// Makes `<out>/image.ext4` of the tree `root`; `tools` is a root with mke2fs, `key`
/// (32 hex digits) becomes the file system's UUID.
pub(crate) fn make(
    program: &Path,
    subject: &str,
    tools: &Path,
    root: &Path,
    out: &Path,
    key: &str,
) -> Result<(), DepotError> {
    let mut contents = Contents::default();
    measure(root, &mut contents).map_err(DepotError::io("read", root))?;
    let size = (contents.bytes + contents.bytes / 4 + SLACK).next_multiple_of(1 << 20);
    // Later growth adds inodes in proportion: one per 16 KiB.
    let inodes = (contents.files + contents.files / 4 + 1024).max(size / (16 << 10));
    crate::files::need_space(out, "make the image", contents.bytes + SLACK)?;
    let image = out.join(IMAGE_FILE);
    let file = File::create(&image).map_err(DepotError::io("make", &image))?;
    file.set_len(size).map_err(DepotError::io("size", &image))?;
    let uuid = uuid(key);
    let script = format!(
        "mke2fs {} -N {inodes} -U {uuid} -J size={JOURNAL_MIB} \
         -E {ROOT_EXTENDED},hash_seed={uuid},resize={GROWTH_BLOCKS},assume_storage_prezeroed=1 \
         -d /mnt/root /mnt/out/{IMAGE_FILE}",
        ROOT.join(" "),
    );
    let chamber = Chamber::new(program, tools, Access::ReadOnly)
        .bind(root, "root", Access::ReadOnly)
        .bind(out, "out", Access::Write);
    let failed = |source: ChamberError| DepotError::Chamber { subject: subject.to_owned(), source };
    while_flushing(&file, || chamber.script(&script).map(drop).map_err(failed))
        .map_err(DepotError::io("write", &image))?
}

/// Does `work`, and meanwhile brings what it writes to a file to disk, so that less is left for the end.
fn while_flushing<T>(file: &File, work: impl FnOnce() -> T) -> io::Result<T> {
    let (ended, waits) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let flush = move || -> io::Result<()> {
            while waits.recv_timeout(FLUSH_EVERY) == Err(RecvTimeoutError::Timeout) {
                file.sync_data()?;
            }
            Ok(())
        };
        let flushing = scope.spawn(flush);
        let done = work();
        drop(ended);
        flushing.join().unwrap_or(Ok(())).map(|()| done)
    })
}

/// Makes `<folder>/<file>`: a read-only file system labelled `gridgate-modules` of the kernel
/// modules in `tree` (`lib/modules/<release>`), whose indexes are made first.
pub(crate) fn make_modules_disk(
    program: &Path,
    tools: &Path,
    folder: &Path,
    tree: &Path,
    release: &str,
    file: &str,
    key: &str,
) -> Result<(), DepotError> {
    let mut contents = Contents::default();
    measure(tree, &mut contents).map_err(DepotError::io("read", tree))?;
    let size = (contents.bytes + contents.bytes / 8 + MODULES_SLACK).next_multiple_of(1 << 20);
    crate::files::need_space(folder, "make the modules disk", size)?;
    let image = folder.join(file);
    File::create(&image)
        .and_then(|image| image.set_len(size))
        .map_err(DepotError::io("make", &image))?;
    let uuid = uuid(key);
    let script = format!(
        "depmod -b /mnt/out/tree {release}
         mke2fs -q -F -t ext4 -b {BLOCK} -N {} -m 0 -L gridgate-modules -U {uuid} -O ^has_journal \
         -E hash_seed={uuid},root_owner=0:0,nodiscard,assume_storage_prezeroed=1 \
         -d /mnt/out/tree/usr/lib/modules /mnt/out/{file}",
        contents.files + 256,
    );
    let chamber = Chamber::new(program, tools, Access::ReadOnly).bind(folder, "out", Access::Write);
    let failed = |source| DepotError::Chamber { subject: "linux".to_owned(), source };
    chamber.script(&script).map_err(failed)?;
    Ok(())
}

fn measure(folder: &Path, contents: &mut Contents) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        contents.files += 1;
        contents.bytes += meta.len().min(meta.blocks() * 512 + BLOCK).next_multiple_of(BLOCK);
        if meta.is_dir() {
            measure(&entry.path(), contents)?;
        }
    }
    Ok(())
}

/// A UUID of the version for names, from a key's digits.
fn uuid(key: &str) -> String {
    let mut digits: Vec<u8> = key.bytes().filter(u8::is_ascii_hexdigit).take(32).collect();
    digits.resize(32, b'0');
    digits[12] = b'8';
    digits[16] = b'a';
    let text = String::from_utf8_lossy(&digits).into_owned();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_of_keys() {
        let key = "0123456789abcdef0123456789abcdef";
        assert_eq!(uuid(key), "01234567-89ab-8def-a123-456789abcdef");
        assert_eq!(uuid("").len(), 36);
    }
}
