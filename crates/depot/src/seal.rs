//! Seals: hashes of what the depot made itself, so that damage is found later.
//!
//! A folder of the depot that is kept (a root, an image, a kernel) has a file `seal`: for each
//! sealed name in it one SHA-256. That of a file does not depend on which of its zeros are holes;
//! that of a tree covers names, kinds, modes, owners, link targets and contents, and no times.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::SeekFrom;
use sha2::{Digest, Sha256};

use crate::error::DepotError;
use crate::files;

/// The seal's own name.
const SEAL: &str = "seal";

/// Files are hashed in pieces of this size; those of zeros alone are passed over.
const PIECE: u64 = 1 << 20;

/// What a seal says of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is as it was made.
    Whole,
    /// Something in it was changed or is gone.
    Damaged,
    /// It was made without a seal.
    Unsealed,
}

/// Seals `names` (files or trees) in a folder.
pub(crate) fn close(folder: &Path, names: &[&str]) -> Result<(), DepotError> {
    let mut sums = BTreeMap::new();
    for name in names {
        let path = folder.join(name);
        let sum = sum(&path).map_err(DepotError::io("read", &path))?;
        sums.insert((*name).to_owned(), sum);
    }
    let text = serde_json::to_vec_pretty(&sums).unwrap_or_default();
    files::write_whole(&folder.join(SEAL), &text)
}

/// Seals everything that is in a folder.
pub(crate) fn close_all(folder: &Path) -> Result<(), DepotError> {
    let fail = || DepotError::io::<io::Error>("read", folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail())? {
        names.push(entry.map_err(fail())?.file_name().to_string_lossy().into_owned());
    }
    close(folder, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Compares a folder with its seal.
pub(crate) fn state(folder: &Path) -> Result<State, DepotError> {
    let path = folder.join(SEAL);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Unsealed),
        other => other.map_err(DepotError::io("read", &path))?,
    };
    let Ok(sums) = serde_json::from_slice::<BTreeMap<String, String>>(&bytes) else {
        return Ok(State::Damaged);
    };
    for (name, sealed) in sums {
        // What cannot be read is damaged: a folder in a file's place, a bad disk block.
        if sum(&folder.join(name)).ok().as_ref() != Some(&sealed) {
            return Ok(State::Damaged);
        }
    }
    Ok(State::Whole)
}

/// The hash of a file or tree.
fn sum(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    add(path, &fs::symlink_metadata(path)?, &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

fn add(path: &Path, meta: &fs::Metadata, hash: &mut Sha256) -> io::Result<()> {
    for number in [meta.mode(), meta.uid(), meta.gid()] {
        hash.update(number.to_le_bytes());
    }
    let kind = meta.file_type();
    if kind.is_dir() {
        let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        hash.update((entries.len() as u64).to_le_bytes());
        for entry in entries {
            text(entry.file_name().as_encoded_bytes(), hash);
            add(&entry.path(), &entry.metadata()?, hash)?;
        }
    } else if kind.is_symlink() {
        text(fs::read_link(path)?.as_os_str().as_encoded_bytes(), hash);
    } else if kind.is_file() {
        hash.update(meta.len().to_le_bytes());
        content(&File::open(path)?, meta.len(), hash)?;
    } else {
        hash.update(meta.rdev().to_le_bytes());
    }
    Ok(())
}

fn text(bytes: &[u8], hash: &mut Sha256) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// Pieces that hold anything but zeros, each with its number. Holes are not read.
fn content(file: &File, length: u64, hash: &mut Sha256) -> io::Result<()> {
    let mut piece = vec![0; usize::try_from(PIECE.min(length)).unwrap_or(0)];
    let mut at = 0;
    while at < length {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole to the end.
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        at = data / PIECE * PIECE;
        let size = usize::try_from(PIECE.min(length - at)).unwrap_or(0);
        file.read_exact_at(&mut piece[..size], at)?;
        if piece[..size].iter().any(|byte| *byte != 0) {
            hash.update((at / PIECE).to_le_bytes());
            hash.update(&piece[..size]);
        }
        at += PIECE;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn finds_every_kind_of_damage() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let tree = folder.join("tree");
        fs::create_dir_all(tree.join("a")).unwrap();
        fs::write(tree.join("a/b"), b"text").unwrap();
        symlink("a/b", tree.join("c")).unwrap();
        assert_eq!(state(folder).unwrap(), State::Unsealed);
        close(folder, &["tree"]).unwrap();
        assert_eq!(state(folder).unwrap(), State::Whole);

        let damaged = || assert_eq!(state(folder).unwrap(), State::Damaged);
        fs::write(tree.join("a/b"), b"texT").unwrap();
        damaged();
        fs::write(tree.join("a/b"), b"text").unwrap();
        fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o600)).unwrap();
        damaged();
        fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::remove_file(tree.join("c")).unwrap();
        symlink("a", tree.join("c")).unwrap();
        damaged();
        fs::remove_file(tree.join("c")).unwrap();
        damaged();
        symlink("a/b", tree.join("c")).unwrap();
        assert_eq!(state(folder).unwrap(), State::Whole);
        fs::write(folder.join("seal"), b"{").unwrap();
        damaged();
    }

    #[test]
    fn holes_and_zeros_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (sparse, full) = (dir.path().join("sparse"), dir.path().join("full"));
        let mut bytes = vec![0; 5 << 20];
        bytes[3 << 20] = 7;
        fs::write(&full, &bytes).unwrap();
        let file = File::create(&sparse).unwrap();
        file.set_len(5 << 20).unwrap();
        file.write_all_at(&[7], 3 << 20).unwrap();
        assert_eq!(sum(&sparse).unwrap(), sum(&full).unwrap());
        bytes[(5 << 20) - 1] = 1;
        fs::write(&full, &bytes).unwrap();
        assert_ne!(sum(&sparse).unwrap(), sum(&full).unwrap());
    }
}
