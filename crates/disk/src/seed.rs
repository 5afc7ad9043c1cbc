//! The seed: a tar archive from byte 0 of its partition, followed by zero blocks.
//!
//! It is written again before each launch, so that a write which was cut short is
//! made good before anything reads it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Cursor, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::io as fault;
use crate::table::{Partition, Table};
use crate::{DiskError, SEED};

/// Bytes of a tar block.
const BLOCK: u64 = 512;
/// Bytes that tar reads at once; an archive ends on a multiple of it.
const RECORD: u64 = 20 * BLOCK;
/// Longest name that a plain header holds.
const NAME_LENGTH: usize = 99;
/// Bytes compared and, where they differ, written at once.
const CHUNK: usize = 256 << 10;

/// One file of the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedEntry {
    /// Path inside the archive: relative, without `..`, at most 99 bytes.
    pub name: String,
    /// Permission bits, e.g. 0o600.
    pub mode: u32,
    /// Its content.
    pub source: SeedSource,
}

/// Where a seed entry's content comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeedSource {
    /// These bytes.
    Bytes(Vec<u8>),
    /// This file of the host.
    File(PathBuf),
}

/// What [`write_seed`] had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedChange {
    /// The disk held exactly this seed.
    Unchanged,
    /// Something was written.
    Written {
        /// Bytes of the chunks that differed and were written.
        bytes: u64,
    },
}

/// Puts `entries` as a tar archive at byte 0 of the disk's seed partition. What is
/// there already is compared and not written again. Owner and times in the archive
/// are 0, so equal entries make equal archives.
pub fn write_seed(disk: &Path, entries: &[SeedEntry]) -> Result<SeedChange, DiskError> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).open(disk).map_err(fault("open", disk))?;
    let partition = seed_partition(&file, disk)?;
    let opened = entries.iter().map(Opened::new).collect::<Result<Vec<_>, _>>()?;
    let needed = archive_length(&opened);
    if needed > partition.length {
        let available = partition.length;
        return Err(DiskError::SeedTooLarge { path: disk.to_owned(), needed, available });
    }
    let writer = Differing { file: &file, position: partition.start, written: 0 };
    let written = write_archive(opened, needed, writer, disk)?;
    if written == 0 {
        return Ok(SeedChange::Unchanged);
    }
    file.sync_data().map_err(fault("write to stable storage", disk))?;
    Ok(SeedChange::Written { bytes: written })
}

/// The same archive as a stream: what [`write_seed`] would put at byte 0 of the partition.
pub fn write_seed_archive(entries: &[SeedEntry], out: &mut dyn Write) -> Result<(), DiskError> {
    let opened = entries.iter().map(Opened::new).collect::<Result<Vec<_>, _>>()?;
    let needed = archive_length(&opened);
    let stream = Path::new("(a stream)");
    let mut out = Counting { out, written: 0 };
    let mut archive = tar::Builder::new(&mut out);
    append(&mut archive, opened, stream)?;
    archive.into_inner().map_err(fault("write the seed of", stream))?;
    let padding = usize::try_from(needed.saturating_sub(out.written)).unwrap_or(usize::MAX);
    out.write_all(&vec![0; padding]).map_err(fault("write the seed of", stream))
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    entries: Vec<Opened<'_>>,
    disk: &Path,
) -> Result<(), DiskError> {
    for mut entry in entries {
        let header = entry.header.clone();
        archive.append(&header, &mut entry).map_err(fault("write the seed of", disk))?;
        if entry.left > 0 {
            return Err(entry.entry.unusable("it became shorter while it was read"));
        }
    }
    Ok(())
}

/// Knows how much was written.
struct Counting<'a> {
    out: &'a mut dyn Write,
    written: u64,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn seed_partition(file: &File, disk: &Path) -> Result<Partition, DiskError> {
    let size = file.metadata().map_err(fault("ask for the size of", disk))?.len();
    let partitions = Table::read(file, size, disk)?.partitions(size, disk)?;
    let missing = || DiskError::NoPartition { path: disk.to_owned(), name: SEED.to_owned() };
    partitions.into_iter().find(|partition| partition.name == SEED).ok_or_else(missing)
}

/// Bytes of the whole archive, from the entries' lengths alone.
fn archive_length(entries: &[Opened<'_>]) -> u64 {
    let files: u64 = entries.iter().map(|entry| BLOCK + entry.length.next_multiple_of(BLOCK)).sum();
    (files + 2 * BLOCK).next_multiple_of(RECORD)
}

/// Writes the archive, zeros up to `length`, and tells how many bytes differed.
fn write_archive(
    entries: Vec<Opened<'_>>,
    length: u64,
    writer: Differing<'_>,
    disk: &Path,
) -> Result<u64, DiskError> {
    let start = writer.position;
    let mut archive = tar::Builder::new(BufWriter::with_capacity(CHUNK, writer));
    append(&mut archive, entries, disk)?;
    let mut writer = archive.into_inner().map_err(fault("write the seed of", disk))?;
    writer.flush().map_err(fault("write the seed of", disk))?;
    let end = start + length;
    let writer = writer.get_mut();
    let padding = usize::try_from(end.saturating_sub(writer.position)).unwrap_or(usize::MAX);
    writer.write_all(&vec![0; padding]).map_err(fault("write the seed of", disk))?;
    Ok(writer.written)
}

/// An entry whose content is ready to be read, with the length that was announced.
struct Opened<'a> {
    entry: &'a SeedEntry,
    header: tar::Header,
    content: Box<dyn Read + 'a>,
    length: u64,
    left: u64,
}

impl<'a> Opened<'a> {
    fn new(entry: &'a SeedEntry) -> Result<Self, DiskError> {
        let (content, length): (Box<dyn Read + 'a>, u64) = match &entry.source {
            SeedSource::Bytes(bytes) => (Box::new(Cursor::new(bytes)), bytes.len() as u64),
            SeedSource::File(path) => {
                let file = File::open(path).map_err(fault("open", path))?;
                let length = file.metadata().map_err(fault("ask for the size of", path))?.len();
                (Box::new(file), length)
            }
        };
        let header = entry.header(length)?;
        Ok(Self { entry, header, content, length, left: length })
    }
}

impl SeedEntry {
    fn header(&self, length: u64) -> Result<tar::Header, DiskError> {
        if self.name.is_empty() || self.name.len() > NAME_LENGTH {
            return Err(self.unusable(&format!("its length is not 1 to {NAME_LENGTH} bytes")));
        }
        let mut header = tar::Header::new_gnu();
        header.set_path(&self.name).map_err(|error| self.unusable(&error.to_string()))?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(self.mode & 0o7777);
        header.set_size(length);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        Ok(header)
    }

    fn unusable(&self, reason: &str) -> DiskError {
        DiskError::SeedEntry { name: self.name.clone(), reason: reason.to_owned() }
    }
}

impl Read for Opened<'_> {
    /// Never more than was announced, even if the file has grown.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.content.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Writes to the disk only what differs from what is there.
struct Differing<'a> {
    file: &'a File,
    position: u64,
    written: u64,
}

impl Write for Differing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(CHUNK)];
        let mut present = vec![0; bytes.len()];
        self.file.read_exact_at(&mut present, self.position)?;
        if present != bytes {
            self.file.write_all_at(bytes, self.position)?;
            self.written += bytes.len() as u64;
        }
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
