//! A role image cut into pieces of used blocks, compressed: what an installing node streams.
//!
//! ```text
//! image.ext4 ─used blocks→ pieces of at most 4 MiB ─zstd, one thread per core→ pieces/<n>.zst
//!                                                        └─ all there, on disk ─→ pieces.json
//! ```
//! Made once per image, at first use. Killed on the way, the next call keeps every piece that still is what the
//! image says. A piece that is no longer what the manifest says is cut from the image again when it is read.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{FlockOperation, SeekFrom, flock, seek};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::build::cores;
use crate::depot::Depot;
use crate::error::DepotError;
use crate::image::RoleImage;
use crate::progress::{DepotEvent, Progress, Stage, Unit};
use crate::stage::Timer;
use crate::{files, hash, inputs};

/// Longest piece, bytes of the image.
const LONGEST: u64 = 4 << 20;

/// A hole shorter than this is sent as zeros, which cost next to nothing: fewer pieces are fewer requests.
const SHORT_HOLE: u64 = 256 << 10;

/// Compression level: above it, time grows faster than size shrinks.
const LEVEL: i32 = 3;

/// Form of the manifest; another one is made anew.
const FORM: u32 = 1;

const MANIFEST: &str = "pieces.json";

/// One piece of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePiece {
    /// Where in the file system it begins, bytes.
    pub offset: u64,
    /// Its length there, bytes; at most 4 MiB.
    pub length: u32,
    /// Its length as stored, bytes.
    pub stored: u32,
    /// SHA-256 of what is stored, hex.
    pub sha256: String,
}

/// An image in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePieces {
    /// The image's key.
    pub key: String,
    /// The image's apparent size, bytes.
    pub size: u64,
    /// Ascending; what none covers is zeros.
    pub pieces: Vec<ImagePiece>,
    folder: PathBuf,
}

/// How a piece was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceFound {
    /// As the manifest says.
    Whole,
    /// Damaged or missing; cut from the image again.
    Mended,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    form: u32,
    size: u64,
    pieces: Vec<ImagePiece>,
}

impl Depot {
    /// Cuts an image into pieces, or finds them. Another process's or thread's work on the same image is waited for.
    pub fn image_pieces(
        &self,
        image: &RoleImage,
        progress: &dyn Progress,
    ) -> Result<ImagePieces, DepotError> {
        if let Some(found) = self.kept_pieces(&image.key) {
            return Ok(found);
        }
        let folder = inputs::folder(self.store(), &image.key);
        let path = folder.join("pieces.lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(DepotError::io("open", &path))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(DepotError::io("lock", &path))?;
        if let Some(found) = self.kept_pieces(&image.key) {
            return Ok(found);
        }
        cut(&folder, image, progress)
    }

    /// The pieces of an image, if they have been cut.
    pub fn kept_pieces(&self, key: &str) -> Option<ImagePieces> {
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let folder = inputs::folder(self.store(), key);
        let manifest: Manifest =
            serde_json::from_slice(&fs::read(folder.join(MANIFEST)).ok()?).ok()?;
        let Manifest { form, size, pieces } = manifest;
        (form == FORM).then(|| ImagePieces { key: key.to_owned(), size, pieces, folder })
    }
}

impl ImagePieces {
    /// One piece as stored, checked against the manifest. A damaged one is mended from the image; when the image
    /// itself gives another piece, the error names both.
    pub fn read(&self, number: usize) -> Result<(Vec<u8>, PieceFound), DepotError> {
        let path = piece_path(&self.folder, number);
        let Some(piece) = self.pieces.get(number) else {
            let source = io::Error::from(io::ErrorKind::NotFound);
            return Err(DepotError::io("read", &path)(source));
        };
        match fs::read(&path) {
            Ok(bytes) if hash::of_bytes(&bytes) == piece.sha256 => {
                return Ok((bytes, PieceFound::Whole));
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(DepotError::io("read", &path)(e));
            }
            _ => {}
        }
        let image = Cutter::open(&self.folder)?;
        let bytes = image.compress(piece.offset..piece.offset + u64::from(piece.length))?;
        if hash::of_bytes(&bytes) != piece.sha256 {
            let source = io::Error::other(format!(
                "piece {number} of it is damaged, and the image no longer gives the same piece; remove {} and bring \
                 the site up again, which builds it anew",
                self.folder.display()
            ));
            return Err(DepotError::io("mend", &path)(source));
        }
        files::write_whole(&path, &bytes)?;
        Ok((bytes, PieceFound::Mended))
    }

    /// Bytes of all pieces in the image, and as stored.
    pub fn bytes(&self) -> (u64, u64) {
        let plain = self.pieces.iter().map(|piece| u64::from(piece.length)).sum();
        (plain, self.pieces.iter().map(|piece| u64::from(piece.stored)).sum())
    }
}

fn piece_path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("pieces/{number:05}.zst"))
}

fn cut(
    folder: &Path,
    image: &RoleImage,
    progress: &dyn Progress,
) -> Result<ImagePieces, DepotError> {
    let cutter = Cutter::open(folder)?;
    let size = cutter.size;
    let ranges = cutter.ranges()?;
    let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    files::make_dir(&folder.join("pieces"))?;
    files::need_space(folder, "keep the image in pieces", total / 2)?;
    let timer = Timer::start(progress, &image.role, Stage::Pieces, format!("{} MiB", total >> 20));
    let done = Mutex::new(0);
    let said = |length: u64| {
        let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *done += length;
        let (subject, stage, unit) = (image.role.clone(), Stage::Pieces, Unit::Bytes);
        progress.event(DepotEvent::StageProgress { subject, stage, done: *done, total, unit });
    };
    let pieces = cut_all(folder, &cutter, &ranges, &said)?;
    files::sync_all(folder)?;
    let manifest = Manifest { form: FORM, size, pieces };
    let text = serde_json::to_vec(&manifest).unwrap_or_default();
    files::write_whole(&folder.join(MANIFEST), &text)?;
    timer.finish(progress);
    let (key, folder) = (image.key.clone(), folder.to_owned());
    Ok(ImagePieces { key, size, pieces: manifest.pieces, folder })
}

/// All pieces, as many at a time as there are cores.
fn cut_all(
    folder: &Path,
    cutter: &Cutter,
    ranges: &[Range<u64>],
    said: &(dyn Fn(u64) + Sync),
) -> Result<Vec<ImagePiece>, DepotError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut made = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(range) = ranges.get(number) else { return Ok(made) };
            match one(&piece_path(folder, number), cutter, range.clone()) {
                Ok(piece) => made.push(piece),
                Err(error) => {
                    // The others finish what they are at and begin nothing new.
                    next.store(ranges.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
            said(range.end - range.start);
        }
    };
    let outcomes: Vec<Result<Vec<ImagePiece>, DepotError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores()).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|t| t.join().unwrap_or(Err(DepotError::Stopped))).collect()
    });
    let mut pieces = Vec::with_capacity(ranges.len());
    for outcome in outcomes {
        pieces.extend(outcome?);
    }
    pieces.sort_by_key(|piece| piece.offset);
    Ok(pieces)
}

/// One piece; one that an interrupted run left is kept when it holds what the image does.
fn one(path: &Path, cutter: &Cutter, range: Range<u64>) -> Result<ImagePiece, DepotError> {
    let length = u32::try_from(range.end - range.start).unwrap_or(u32::MAX);
    let piece = |bytes: &[u8]| ImagePiece {
        offset: range.start,
        length,
        stored: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        sha256: hash::of_bytes(bytes),
    };
    if let Ok(left) = fs::read(path)
        && let Ok(plain) = zstd::bulk::decompress(&left, LONGEST as usize)
        && plain == cutter.plain(range.clone())?
    {
        return Ok(piece(&left));
    }
    let bytes = cutter.compress(range.clone())?;
    // Flushed with all others at the end; until then no manifest speaks of it.
    let new = path.with_extension(format!("new-{}", files::unique()));
    let write = || {
        fs::write(&new, &bytes)?;
        fs::rename(&new, path)
    };
    write().map_err(DepotError::io("write", path))?;
    Ok(piece(&bytes))
}

/// An image that is read.
struct Cutter {
    file: File,
    path: PathBuf,
    size: u64,
}

impl Cutter {
    fn open(folder: &Path) -> Result<Cutter, DepotError> {
        let path = folder.join(crate::ext4::IMAGE_FILE);
        let file = File::open(&path).map_err(DepotError::io("open", &path))?;
        let size = file.metadata().map_err(DepotError::io("look at", &path))?.len();
        Ok(Cutter { file, path, size })
    }

    /// Where the pieces are: used ranges, joined over short holes, cut at the longest length.
    fn ranges(&self) -> Result<Vec<Range<u64>>, DepotError> {
        let used = used(&self.file, self.size).map_err(DepotError::io("look at", &self.path))?;
        Ok(split(&used))
    }

    fn plain(&self, range: Range<u64>) -> Result<Vec<u8>, DepotError> {
        let mut plain = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
        self.file
            .read_exact_at(&mut plain, range.start)
            .map_err(DepotError::io("read", &self.path))?;
        Ok(plain)
    }

    fn compress(&self, range: Range<u64>) -> Result<Vec<u8>, DepotError> {
        zstd::bulk::compress(&self.plain(range)?, LEVEL)
            .map_err(DepotError::io("compress", &self.path))
    }
}

fn used(file: &File, size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut position = 0;
    while position < size {
        let start = match seek(file, SeekFrom::Data(position)) {
            Err(Errno::NXIO) => break,
            other => other?,
        };
        let end = seek(file, SeekFrom::Hole(start))?.min(size);
        if start >= end {
            break;
        }
        ranges.push(start..end);
        position = end;
    }
    Ok(ranges)
}

fn split(used: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in used {
        match joined.last_mut() {
            Some(last) if range.start - last.end < SHORT_HOLE => last.end = range.end,
            _ => joined.push(range.clone()),
        }
    }
    let mut pieces = Vec::new();
    for range in joined {
        let mut start = range.start;
        while start < range.end {
            // Cut where the image's offset is a multiple, so that pieces are aligned for the disk.
            let end = ((start / LONGEST + 1) * LONGEST).min(range.end);
            pieces.push(start..end);
            start = end;
        }
    }
    pieces
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
