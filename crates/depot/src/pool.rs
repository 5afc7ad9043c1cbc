//! The depot as a Debian archive: stored signed indexes, and every package that they or a lock name.
//!
//! ```text
//! dists/SUITE/InRelease, …/Packages.xz ──stored?──→ file
//! pool/… ──lock, index──→ hash ──stored, checked once──→ file
//!                           └──else fetched, checked, then named──→ file
//! ```
//!
//! A file that several ask for at once is fetched once: who fetches holds its part locked, the others wait
//! for that and find it there. Nothing of a package is handed out before its hash was right.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::archive::control::paragraphs;
use crate::archive::fetch::{Expected, FetchError, Fetcher};
use crate::archive::index::is_sha256;
use crate::archive::keyring::Keyring;
use crate::archive::stored;
use crate::error::DepotError;
use crate::hash;
use crate::lock::Lock;
use crate::mirrors::Mirrors;
use crate::store::Store;

/// A file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolFile {
    /// Where it is.
    pub path: PathBuf,
    /// Tells this content from any other.
    pub tag: String,
}

/// What a package's file must be, by its path in the archive.
#[derive(Clone, Copy)]
struct Known {
    /// SHA-256.
    sha256: [u8; 32],
    /// Bytes.
    size: u64,
}

/// Package paths are kept as the first half of their SHA-256: an index has some 70,000 of them.
type Names = HashMap<[u8; 16], Known>;

/// A file as it was when it was checked.
type Stamp = (u64, u64, Option<SystemTime>);

/// The packages and indexes of a depot, for those who speak apt's language.
#[derive(Debug)]
pub struct Pool {
    store: Store,
    keyring: Keyring,
    names: Mutex<Option<(Vec<Stamp>, Arc<Names>)>>,
    checked: Mutex<HashMap<PathBuf, Stamp>>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.sha256))
    }
}

impl Pool {
    pub(crate) fn new(store: Store, keyring: Keyring) -> Pool {
        Pool { store, keyring, names: Mutex::default(), checked: Mutex::default() }
    }

    /// A file below `dists/`: release files and package indexes, as they were stored. None when the depot
    /// has no such file.
    pub fn index_file(&self, path: &str) -> Option<PoolFile> {
        let (suite, rest) = path.split_once('/').filter(|(suite, _)| stored::is_suite(suite))?;
        let dir = self.store.folder("index");
        let release = stored::release_path(&dir, suite);
        let bytes = fs::read(&release).ok()?;
        if rest == "InRelease" {
            return Some(PoolFile { path: release, tag: hash::of_bytes(&bytes) });
        }
        let checked = stored::verify(&bytes, suite, &self.keyring).ok()?;
        let listed = stored::packages(&checked, suite).ok()?;
        let name = stored::packages_name();
        let folder = name.strip_suffix("Packages.xz")?;
        let wanted = rest == name || rest == format!("{folder}by-hash/SHA256/{}", listed.sha256);
        let path = stored::packages_path(&dir, listed);
        (wanted && path.is_file()).then(|| PoolFile { path, tag: listed.sha256.clone() })
    }

    /// A package by its path below the archive's base (`pool/…`): from the depot, else from the mirror. None
    /// when neither `lock` nor a stored index names it. Blocks while it is fetched.
    pub fn package(
        &self,
        path: &str,
        lock: Option<&Lock>,
        mirrors: &Mirrors,
    ) -> Result<Option<PoolFile>, DepotError> {
        let locked = lock.into_iter().flat_map(Lock::packages).find(|p| p.filename == path);
        let (sha256, size) = match locked {
            Some(package) => (package.sha256.clone(), package.size),
            None => match self.names()?.get(&key(path)) {
                Some(known) => (hex::encode(known.sha256), known.size),
                None => return Ok(None),
            },
        };
        let target = self.store.path(&sha256);
        if !self.is_whole(&target, &sha256)? {
            let fetcher = Fetcher::new(mirrors, 1)?;
            crate::files::need_space(&self.store.folder("packages"), "fetch a package", size)?;
            let expected = Expected { file: path, sha256: &sha256, size };
            fetcher.fetch(expected, &target, &AtomicBool::new(false), &|_| ())?;
        }
        Ok(Some(PoolFile { path: target, tag: sha256 }))
    }

    /// Whether a stored package is what its name says. Hashed once; a damaged one is removed.
    fn is_whole(&self, path: &std::path::Path, sha256: &str) -> Result<bool, DepotError> {
        let Some(stamp) = stamp(path) else { return Ok(false) };
        let checked = || self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked().get(path) == Some(&stamp) {
            return Ok(true);
        }
        let (_, found) = hash::of_file(path).map_err(DepotError::io("read", path))?;
        if found == sha256 {
            checked().insert(path.to_owned(), stamp);
            return Ok(true);
        }
        tracing::warn!(path = %path.display(), found, "a damaged package is removed");
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(DepotError::io("remove", path)(error))
            }
            _ => Ok(false),
        }
    }

    /// The packages that the stored indexes name; read again when a release file was replaced.
    fn names(&self) -> Result<Arc<Names>, DepotError> {
        let dir = self.store.folder("index");
        let suites = stored::suites(&dir);
        let stamps: Vec<Stamp> =
            suites.iter().filter_map(|suite| stamp(&stored::release_path(&dir, suite))).collect();
        let mut kept = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, names)) = kept.as_ref()
            && *of == stamps
        {
            return Ok(names.clone());
        }
        let mut names = Names::new();
        for suite in &suites {
            let path = stored::release_path(&dir, suite);
            let bytes = fs::read(&path).map_err(DepotError::io("read", &path))?;
            let release = stored::verify(&bytes, suite, &self.keyring)?;
            let text = stored::text(&dir, stored::packages(&release, suite)?)?;
            names.extend(paragraphs(&text).filter_map(|paragraph| {
                let sha256 = paragraph.get("SHA256").filter(|text| is_sha256(text))?;
                let mut known =
                    Known { sha256: [0; 32], size: paragraph.get("Size")?.parse().ok()? };
                hex::decode_to_slice(sha256, &mut known.sha256).ok()?;
                Some((key(paragraph.get("Filename")?), known))
            }));
        }
        let names = Arc::new(names);
        *kept = Some((stamps, names.clone()));
        Ok(names)
    }
}

/// Whether an error means that the archive cannot be asked now, rather than that something is wrong.
pub fn is_out_of_reach(error: &DepotError) -> bool {
    matches!(error, DepotError::Fetch(FetchError::Unreachable { .. } | FetchError::NoMirror(_)))
}

fn key(path: &str) -> [u8; 16] {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(path.as_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}

fn stamp(path: &std::path::Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.modified().ok()))
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
