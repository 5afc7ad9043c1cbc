//! Indexes as they are stored: signed release files and the package indexes they vouch for.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::ARCHITECTURE;
use super::fetch::FetchError;
use super::keyring::Keyring;
use super::release::{Listed, Release};
use crate::error::DepotError;

/// Ending of a stored release file's name.
const RELEASE: &str = ".InRelease";

/// Where a suite's release file is stored in `dir`.
pub(crate) fn release_path(dir: &Path, suite: &str) -> PathBuf {
    dir.join(format!("{suite}{RELEASE}"))
}

/// The suites of which `dir` stores a release file, sorted.
pub(crate) fn suites(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut suites: Vec<String> =
        names.filter_map(|name| name.strip_suffix(RELEASE).map(str::to_owned)).collect();
    suites.retain(|suite| is_suite(suite));
    suites.sort();
    suites
}

/// Whether a text is a suite's name: it becomes part of file names.
pub(crate) fn is_suite(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
}

/// A release file, its signature checked: that of another suite does not pass.
pub(crate) fn verify(bytes: &[u8], suite: &str, keyring: &Keyring) -> Result<Release, DepotError> {
    let refused = |source| DepotError::Signature { suite: suite.to_owned(), source };
    let message = String::from_utf8_lossy(bytes);
    let seconds = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    let release = Release::parse(&keyring.verify(&message, seconds).map_err(refused)?);
    if release.is_for(suite) {
        return Ok(release);
    }
    let problem = "is signed for another suite".to_owned();
    Err(DepotError::Index { suite: suite.to_owned(), problem })
}

/// The name of the package index in release files.
pub(crate) fn packages_name() -> String {
    format!("main/binary-{ARCHITECTURE}/Packages.xz")
}

/// The package index that a release file vouches for.
pub(crate) fn packages<'r>(release: &'r Release, suite: &str) -> Result<&'r Listed, DepotError> {
    let name = packages_name();
    release.file(&name).ok_or_else(|| DepotError::Index {
        suite: suite.to_owned(),
        problem: format!("has no {name}"),
    })
}

/// Where a package index is stored.
pub(crate) fn packages_path(dir: &Path, listed: &Listed) -> PathBuf {
    dir.join(format!("{}.xz", listed.sha256))
}

/// The text of a stored package index, its hash checked.
pub(crate) fn text(dir: &Path, listed: &Listed) -> Result<String, DepotError> {
    unpack(&packages_path(dir, listed), listed)
}

/// The text of the package index in a file, its hash checked.
pub(crate) fn unpack(path: &Path, listed: &Listed) -> Result<String, DepotError> {
    let bytes = fs::read(path).map_err(DepotError::io("read", path))?;
    let found = crate::hash::of_bytes(&bytes);
    if found != listed.sha256 {
        let expected = listed.sha256.clone();
        return Err(FetchError::WrongHash { file: packages_name(), expected, found }.into());
    }
    let mut text = String::with_capacity(bytes.len() * 6);
    let mut reader = liblzma::read::XzDecoder::new(bytes.as_slice());
    reader.read_to_string(&mut text).map_err(DepotError::io("unpack", path))?;
    Ok(text)
}
