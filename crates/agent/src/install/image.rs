//! Method image: the role image's pieces, fetched, checked, unpacked and written, each by a thread of its own, so
//! that the network, the processor and the disk work at the same time.
//!
//! ```text
//! fetch ─(4)─▶ check SHA-256, unpack ─(4)─▶ write ─▶ every 512 MiB: flush, report
//! ```

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use gridgate_protocol::install_api::{ImageManifest, InstallFailure, Piece, Stage};
use sha2::{Digest, Sha256};

use super::disk::Part;
use super::progress::Progress;
use super::{again, never};
use crate::client::install::InstallClient;
use crate::client::until_reachable;

/// Pieces between two threads: each may take 4 MiB of the node's memory.
const AHEAD: usize = 4;

/// A piece that is not what the manifest says is asked for this often.
const TRIES: u32 = 3;

/// Longest piece that is believed, bytes.
const LONGEST: u32 = 4 << 20;

/// What is written is flushed, and reported as safe, after so many bytes.
const FLUSH: u64 = 512 << 20;

/// Blocks of all file systems and disks in use; pieces begin and end at a multiple of it.
const BLOCK: u64 = 512;

/// Puts the image onto the root's partition, which has the first `there` of its pieces already.
pub(super) fn install(
    client: &InstallClient,
    there: u32,
    root: &Part,
    progress: &Progress,
) -> Result<(), InstallFailure> {
    progress.doing("asking for the image's pieces");
    let manifest = until_reachable(|| client.manifest()).map_err(|e| again(Stage::Fetch, e))?;
    check(&manifest, root)?;
    let first = (there as usize).min(manifest.pieces.len());
    if first == 0 {
        progress.doing("emptying what the image leaves empty");
        for (start, length) in holes(&manifest) {
            root.zero(start, length).map_err(|e| {
                again(Stage::FileSystems, format!("empty {}: {e}", root.block.device))
            })?;
        }
    }
    progress.begin(Stage::Fetch, "");
    stream(client, &manifest, first, root, progress)
}

/// Nothing is believed of a manifest that would write outside the partition.
fn check(manifest: &ImageManifest, root: &Part) -> Result<(), InstallFailure> {
    if manifest.size > root.block.bytes {
        return Err(never(
            Stage::FileSystems,
            format!(
                "the image has {} MiB, the partition {} only {}",
                manifest.size >> 20,
                root.block.device,
                root.block.bytes >> 20
            ),
        ));
    }
    let mut end = 0;
    for (number, piece) in manifest.pieces.iter().enumerate() {
        let length = u64::from(piece.length);
        let sound = piece.offset >= end
            && piece.length <= LONGEST
            && (piece.offset | length) % BLOCK == 0
            && piece.offset + length <= manifest.size;
        if !sound {
            return Err(never(Stage::FileSystems, format!("piece {number} of the image is askew")));
        }
        end = piece.offset + length;
    }
    Ok(())
}

/// Start and length of all that no piece covers.
fn holes(manifest: &ImageManifest) -> Vec<(u64, u64)> {
    let mut holes = Vec::new();
    let mut at = 0;
    for piece in &manifest.pieces {
        if piece.offset > at {
            holes.push((at, piece.offset - at));
        }
        at = piece.offset + u64::from(piece.length);
    }
    if manifest.size / BLOCK * BLOCK > at {
        holes.push((at, manifest.size / BLOCK * BLOCK - at));
    }
    holes
}

fn stream(
    client: &InstallClient,
    manifest: &ImageManifest,
    first: usize,
    root: &Part,
    progress: &Progress,
) -> Result<(), InstallFailure> {
    let (fetched, to_unpack) = sync_channel(AHEAD);
    let (unpacked, to_write) = sync_channel(AHEAD);
    let pieces = &manifest.pieces;
    thread::scope(|scope| {
        let fetch = scope.spawn(move || fetch(client, pieces, first, &fetched));
        let unpack = scope.spawn(move || unpack(client, pieces, &to_unpack, &unpacked));
        let written = write(pieces, first, &to_write, root, progress);
        // A thread that stops early lets go of its channel, and the others end too: the first cause counts.
        drop(to_write);
        let early = || again(Stage::Fetch, "a worker of the installer ended early");
        let fetched = fetch.join().unwrap_or_else(|_| Err(early()));
        let unpacked = unpack.join().unwrap_or_else(|_| Err(early()));
        written.and(unpacked).and(fetched)
    })
}

/// A piece on its way.
struct Parcel {
    number: usize,
    bytes: Vec<u8>,
}

fn fetch(
    client: &InstallClient,
    pieces: &[Piece],
    first: usize,
    to: &SyncSender<Parcel>,
) -> Result<(), InstallFailure> {
    for (number, piece) in pieces.iter().enumerate().skip(first) {
        let bytes = get(client, number, piece)?;
        if to.send(Parcel { number, bytes }).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn get(client: &InstallClient, number: usize, piece: &Piece) -> Result<Vec<u8>, InstallFailure> {
    until_reachable(|| client.piece(number, piece)).map_err(|e| again(Stage::Fetch, e))
}

fn unpack(
    client: &InstallClient,
    pieces: &[Piece],
    from: &Receiver<Parcel>,
    to: &SyncSender<Parcel>,
) -> Result<(), InstallFailure> {
    let mut unpacker = zstd::bulk::Decompressor::new().map_err(|e| again(Stage::Fetch, e))?;
    while let Ok(Parcel { number, mut bytes }) = from.recv() {
        let piece = &pieces[number];
        let mut tries = 1;
        while hex::encode(Sha256::digest(&bytes)) != piece.sha256 {
            if tries == TRIES {
                let what = format!("piece {number} of the image was damaged {TRIES} times");
                return Err(again(Stage::Fetch, what));
            }
            tracing::warn!(number, "a piece of the image is damaged and is fetched again");
            tries += 1;
            bytes = get(client, number, piece)?;
        }
        let length = piece.length as usize;
        let plain = unpacker.decompress(&bytes, length).map_err(|e| {
            never(Stage::Fetch, format!("piece {number} of the image cannot be unpacked: {e}"))
        })?;
        if plain.len() != length {
            return Err(never(
                Stage::Fetch,
                format!("piece {number} has not the length it claims"),
            ));
        }
        if to.send(Parcel { number, bytes: plain }).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn write(
    pieces: &[Piece],
    first: usize,
    from: &Receiver<Parcel>,
    root: &Part,
    progress: &Progress,
) -> Result<(), InstallFailure> {
    let fault = |e: io::Error| again(Stage::Fetch, format!("write to {}: {e}", root.block.device));
    let size = |pieces: &[Piece]| pieces.iter().map(|piece| u64::from(piece.length)).sum::<u64>();
    let total = size(pieces);
    let mut done = size(&pieces[..first]);
    let count = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
    let mut unsafe_bytes = 0;
    let mut next = first;
    while let Ok(Parcel { number, bytes }) = from.recv() {
        root.file.write_all_at(&bytes, pieces[number].offset).map_err(fault)?;
        let length = bytes.len() as u64;
        next = number + 1;
        done += length;
        unsafe_bytes += length;
        let number = u32::try_from(next).unwrap_or(u32::MAX);
        progress.go_on(Some((done, total)), Some((number, count)));
        if unsafe_bytes >= FLUSH {
            root.file.sync_data().map_err(fault)?;
            progress.flushed(number);
            unsafe_bytes = 0;
        }
        progress.check()?;
    }
    if next < pieces.len() {
        // Another thread knows why.
        return Ok(());
    }
    root.file.sync_data().map_err(fault)?;
    progress.flushed(count);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, length: u32) -> Piece {
        Piece { offset, length, stored: 1, sha256: String::new() }
    }

    #[test]
    fn holes_are_what_no_piece_covers() {
        let pieces = vec![piece(4096, 4096), piece(8192, 4096), piece(20480, 512)];
        let manifest = ImageManifest { key: String::new(), size: 40960, pieces };
        assert_eq!(holes(&manifest), [(0, 4096), (12288, 8192), (20992, 19968)]);
    }
}
