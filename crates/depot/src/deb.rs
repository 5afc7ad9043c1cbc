//! Package files of the depot: checked against their pins, then read by `gridgate-deb`.

use std::fs::File;
use std::path::Path;

use gridgate_deb::Deb;

use crate::archive::fetch::{self, Expected};
use crate::error::DepotError;
use crate::lock::PinnedPackage;

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
