//! A kernel's module folder: made small, and as an input of images.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::elf;
use crate::error::DepotError;

/// Makes every module in `folder` one that is loaded without more ado: not compressed,
/// and without debugging data, which is three quarters of the size.
pub(crate) fn strip(folder: &Path) -> Result<(), DepotError> {
    for entry in fs::read_dir(folder).map_err(DepotError::io("read", folder))? {
        let path = entry.map_err(DepotError::io("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            strip(&path)?;
        } else if let Some(plain) = name.strip_suffix(".xz").filter(|name| name.ends_with(".ko")) {
            let packed = fs::read(&path).map_err(DepotError::io("read", &path))?;
            let mut bytes = Vec::with_capacity(packed.len() * 5);
            liblzma::read::XzDecoder::new(packed.as_slice())
                .read_to_end(&mut bytes)
                .map_err(DepotError::io("unpack", &path))?;
            let target = path.with_file_name(plain);
            fs::write(&target, elf::without_debug(&bytes).unwrap_or(bytes))
                .map_err(DepotError::io("write", &target))?;
            fs::remove_file(&path).map_err(DepotError::io("remove", &path))?;
        } else if name.ends_with(".ko") {
            let bytes = fs::read(&path).map_err(DepotError::io("read", &path))?;
            // What is not understood stays as it is.
            if let Some(smaller) = elf::without_debug(&bytes) {
                fs::write(&path, smaller).map_err(DepotError::io("write", &path))?;
            }
        }
    }
    Ok(())
}

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
