//! Images in pieces: what they hold, what an interruption leaves, what damage does.

use std::os::unix::fs::FileExt;

use super::*;
use crate::progress::Silent;

const MIB: u64 = 1 << 20;

/// A depot with one image of 40 MiB: data at its start, in the middle and at its end.
fn depot() -> (tempfile::TempDir, Depot, RoleImage) {
    let dir = tempfile::tempdir().unwrap();
    let depot = Depot::open(dir.path()).unwrap();
    let key = "0123456789abcdef0123456789abcdef";
    let folder = inputs::folder(depot.store(), key);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(crate::ext4::IMAGE_FILE);
    let file = File::create(&path).unwrap();
    file.set_len(40 * MIB).unwrap();
    for (start, length) in [(0, 9 * MIB), (20 * MIB, 4096), (40 * MIB - 8192, 8192)] {
        let bytes: Vec<u8> = (0..length).map(|n| ((start + n) * 7 % 253) as u8).collect();
        file.write_all_at(&bytes, start).unwrap();
    }
    let image = RoleImage {
        role: "ui".to_owned(),
        key: key.to_owned(),
        path,
        size: 40 * MIB,
        used: 0,
        packages: Vec::new(),
        reused: true,
    };
    (dir, depot, image)
}

/// The image, put together from its pieces.
fn joined(pieces: &ImagePieces) -> Vec<u8> {
    let mut whole = vec![0; usize::try_from(pieces.size).unwrap()];
    for (number, piece) in pieces.pieces.iter().enumerate() {
        let (stored, _) = pieces.read(number).unwrap();
        assert_eq!(stored.len(), piece.stored as usize);
        let plain = zstd::bulk::decompress(&stored, 4 << 20).unwrap();
        assert_eq!(plain.len(), piece.length as usize);
        let start = usize::try_from(piece.offset).unwrap();
        whole[start..start + plain.len()].copy_from_slice(&plain);
    }
    whole
}

#[test]
fn pieces_are_the_image_and_leave_out_its_holes() {
    let (_dir, depot, image) = depot();
    assert_eq!(depot.kept_pieces(&image.key), None);
    let pieces = depot.image_pieces(&image, &Silent).unwrap();
    assert!(joined(&pieces) == fs::read(&image.path).unwrap());
    assert!(pieces.bytes().0 < 11 * MIB, "{:?}", pieces.bytes());
    assert!(pieces.pieces.iter().all(|piece| u64::from(piece.length) <= LONGEST));
    assert_eq!(depot.kept_pieces(&image.key), Some(pieces));
}

#[test]
fn what_an_interruption_left_is_kept_if_it_is_whole() {
    let (_dir, depot, image) = depot();
    let first = depot.image_pieces(&image, &Silent).unwrap();
    // As after a power cut: no manifest, one piece empty, one untouched.
    fs::remove_file(first.folder.join(MANIFEST)).unwrap();
    fs::write(piece_path(&first.folder, 0), b"").unwrap();
    let kept = || fs::metadata(piece_path(&first.folder, 1)).unwrap().modified().unwrap();
    let before = kept();
    assert_eq!(depot.image_pieces(&image, &Silent).unwrap(), first);
    assert_eq!(kept(), before);
    assert!(joined(&first) == fs::read(&image.path).unwrap());
}

#[test]
fn a_damaged_piece_is_cut_again_and_a_damaged_image_is_named() {
    let (_dir, depot, image) = depot();
    let pieces = depot.image_pieces(&image, &Silent).unwrap();
    let path = piece_path(&pieces.folder, 2);
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[10] ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert_eq!(pieces.read(2).unwrap(), (whole.clone(), PieceFound::Mended));
    assert_eq!(pieces.read(2).unwrap(), (whole, PieceFound::Whole));
    fs::remove_file(&path).unwrap();
    assert_eq!(pieces.read(2).unwrap().1, PieceFound::Mended);
    let file = File::options().write(true).open(&image.path).unwrap();
    file.write_all_at(b"another", pieces.pieces[2].offset).unwrap();
    fs::write(&path, &damaged).unwrap();
    let error = pieces.read(2).unwrap_err().to_string();
    assert!(error.contains("00002.zst") && error.contains("piece 2"), "{error}");
}

#[test]
fn ranges_are_joined_over_short_holes_and_cut_at_multiples() {
    let used = [0..4096, 8192..12288, MIB..9 * MIB, 20 * MIB..20 * MIB + 1];
    let want = [0..12288, MIB..4 * MIB, 4 * MIB..8 * MIB, 8 * MIB..9 * MIB, 20 * MIB..20 * MIB + 1];
    assert_eq!(split(&used), want);
    assert_eq!(split(&[]), []);
}
