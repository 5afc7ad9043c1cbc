//! Moves a sparse image's used blocks into a disk, holes staying holes.
//!
//! Sharing the blocks comes first; where the host's file system cannot, the kernel
//! copies each used range, and where it cannot either, they are read and written.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;

use crate::reflink;

/// How the image's blocks came onto the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The host's file system shares the blocks; nothing was copied.
    Reflink,
    /// Copied inside the kernel.
    CopyFileRange,
    /// Read and written.
    Copy,
}

/// Bytes between two reports of progress.
const STEP: u64 = 32 << 20;
/// Bytes of the buffer for reading and writing.
const BUFFER: u64 = 1 << 20;

/// A clone to be made.
pub(crate) struct Clone<'a> {
    pub(crate) image: &'a File,
    /// The image's size, bytes.
    pub(crate) length: u64,
    pub(crate) disk: &'a File,
    /// Where on the disk the image's first byte goes.
    pub(crate) offset: u64,
}

impl Clone<'_> {
    /// The image's used ranges.
    pub(crate) fn used(&self) -> io::Result<Vec<Range<u64>>> {
        let mut ranges = Vec::new();
        let mut position = 0;
        while position < self.length {
            let start = match seek(self.image, SeekFrom::Data(position)) {
                Err(Errno::NXIO) => break,
                other => other?,
            };
            let end = seek(self.image, SeekFrom::Hole(start))?.min(self.length);
            if start >= end {
                break;
            }
            ranges.push(start..end);
            position = end;
        }
        Ok(ranges)
    }

    /// Shares the image's blocks; `false` when these files cannot.
    pub(crate) fn share(&self) -> bool {
        match reflink::share(self.image, self.disk, self.offset) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "blocks cannot be shared, so they are copied");
                false
            }
        }
    }

    /// Copies the used ranges, saying after each step how many bytes were done.
    pub(crate) fn copy(
        &self,
        ranges: &[Range<u64>],
        done: &mut dyn FnMut(u64),
    ) -> io::Result<Method> {
        let mut method = Method::CopyFileRange;
        let mut total = 0;
        for range in ranges {
            let mut position = range.start;
            while position < range.end {
                let wanted = STEP.min(range.end - position);
                let copied = match method {
                    Method::CopyFileRange => self.copy_in_kernel(position, wanted)?,
                    _ => self.copy_through_buffer(position, wanted)?,
                };
                if copied == 0 {
                    method = Method::Copy;
                }
                position += copied;
                total += copied;
                done(total);
            }
        }
        Ok(method)
    }

    /// Bytes copied; 0 when the kernel cannot copy between these files.
    fn copy_in_kernel(&self, position: u64, wanted: u64) -> io::Result<u64> {
        let (mut from, mut to) = (position, self.offset + position);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        match copy_file_range(self.image, Some(&mut from), self.disk, Some(&mut to), wanted) {
            Ok(copied) => Ok(copied as u64),
            Err(Errno::INTR) => self.copy_in_kernel(position, wanted as u64),
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn copy_through_buffer(&self, position: u64, wanted: u64) -> io::Result<u64> {
        let mut buffer = vec![0; usize::try_from(wanted.min(BUFFER)).unwrap_or(usize::MAX)];
        let mut copied = 0;
        while copied < wanted {
            let part = (wanted - copied).min(BUFFER);
            let part = &mut buffer[..usize::try_from(part).unwrap_or(usize::MAX)];
            self.image.read_exact_at(part, position + copied)?;
            self.disk.write_all_at(part, self.offset + position + copied)?;
            copied += part.len() as u64;
        }
        Ok(copied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last resort is not reached on common file systems, so it is called directly.
    #[test]
    fn reading_and_writing_gives_the_same_bytes() -> io::Result<()> {
        let (image, disk) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let bytes: Vec<u8> = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect();
        image.write_all_at(&bytes, 0)?;
        let clone = Clone { image: &image, length: bytes.len() as u64, disk: &disk, offset: 4096 };
        assert_eq!(clone.copy_through_buffer(1, 3_000_000)?, 3_000_000);
        let mut read = vec![0; 3_000_000];
        disk.read_exact_at(&mut read, 4097)?;
        assert!(read == bytes[1..]);
        Ok(())
    }
}
