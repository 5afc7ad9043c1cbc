//! Package files of the depot: checked against their pins, then read by `gridgate-deb`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use gridgate_deb::Deb;

use crate::archive::fetch::{self, Expected};
use crate::error::DepotError;
use crate::lock::PinnedPackage;

/// The same package with its parts unpacked from their compression, so that dpkg
/// need not do it (several times, one package after the other).
#[derive(Clone, Debug)]
pub(crate) struct Flat {
    /// The new `.deb`.
    pub(crate) path: PathBuf,
    /// The package's control paragraph, ending with a line end.
    pub(crate) control: String,
}

fn malformed(pin: &PinnedPackage, problem: impl std::fmt::Display) -> DepotError {
    DepotError::Package { name: pin.name.clone(), problem: problem.to_string() }
}

/// Checks a package against its pin, and gives its control paragraph.
pub(crate) fn check(pin: &PinnedPackage, source: &Path) -> Result<String, DepotError> {
    let mut file = File::open(source).map_err(DepotError::io("open", source))?;
    let expected = Expected { file: &pin.filename, sha256: &pin.sha256, size: pin.size };
    fetch::check(expected, &mut file).map_err(DepotError::io("read", source))??;
    Deb::new(file).and_then(|deb| deb.control()).map_err(|e| malformed(pin, e))
}

/// Writes `source`, which was [checked](check), uncompressed to `target`.
pub(crate) fn flatten(
    pin: &PinnedPackage,
    source: &Path,
    target: &Path,
) -> Result<Flat, DepotError> {
    let file = File::open(source).map_err(DepotError::io("open", source))?;
    let new = File::create_new(target).map_err(DepotError::io("make", target))?;
    let mut new = io::BufWriter::with_capacity(1 << 20, new);
    let flattened = Deb::new(file).and_then(|deb| deb.flatten(&mut new));
    let control = flattened.map_err(|e| malformed(pin, e))?;
    Ok(Flat { path: target.to_owned(), control })
}

/// Unpacks a package's files below `root`, but for those that `wanted` refuses.
pub(crate) fn unpack(
    pin: &PinnedPackage,
    deb: &Path,
    root: &Path,
    wanted: &dyn Fn(&Path) -> bool,
) -> Result<(), DepotError> {
    let file = File::open(deb).map_err(DepotError::io("open", deb))?;
    let unpacked = Deb::new(file).and_then(|deb| deb.unpack(root, wanted));
    unpacked.map_err(|e| malformed(pin, e))
}

/// A package's control paragraph.
pub(crate) fn control(pin: &PinnedPackage, deb: &Path) -> Result<String, DepotError> {
    let file = File::open(deb).map_err(DepotError::io("open", deb))?;
    Deb::new(file).and_then(|deb| deb.control()).map_err(|e| malformed(pin, e))
}

#[cfg(test)]
#[path = "deb_tests.rs"]
mod tests;
