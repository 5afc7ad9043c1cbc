//! A kernel's module folder as an input of images.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::DepotError;

/// A module folder, measured.
#[derive(Clone, Debug)]
pub(crate) struct Modules {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The kernel's release: the folder's name.
    pub(crate) release: String,
    /// Hash over all names and contents.
    pub(crate) hash: String,
}

impl Modules {
    /// Reads a module folder.
    pub(crate) fn measure(path: &Path) -> Result<Modules, DepotError> {
        let release = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let simple = |b: u8| b.is_ascii_alphanumeric() || b"+-._~".contains(&b);
        if release.is_empty() || !release.bytes().all(simple) {
            let source = io::Error::other("its name is no kernel release");
            return Err(DepotError::io("use modules in", path)(source));
        }
        let mut hash = Sha256::new();
        add(path, &mut hash).map_err(DepotError::io("read", path))?;
        let hash = hex::encode(&hash.finalize()[..16]);
        Ok(Modules { path: path.to_owned(), release, hash })
    }
}

fn add(folder: &Path, hash: &mut Sha256) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_encoded_bytes());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            hash.update(b"d");
            add(&entry.path(), hash)?;
            hash.update(b"e");
        } else if kind.is_file() {
            let mut file = File::open(entry.path())?;
            hash.update(b"f");
            hash.update(file.metadata()?.len().to_le_bytes());
            io::copy(&mut file, hash)?;
        }
    }
    Ok(())
}
