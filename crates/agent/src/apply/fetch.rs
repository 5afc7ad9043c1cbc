//! What an application needs of the install server. A server that is not there
//! is waited for; only an answer that will not get better is a failure.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use gridgate_protocol::agent_api::{LockedPackage, PackageList};
use sha2::{Digest, Sha256};

use super::ApplyError;
use crate::client::{Client, until_reachable};

/// Where secrets, certificates and packages come from.
pub(crate) trait Source: Send + Sync {
    /// A secret's bytes.
    fn secret(&self, name: &str) -> Result<Vec<u8>, ApplyError>;
    /// Has a request signed; both are PEM.
    fn certificate(&self, name: &str, request: &str) -> Result<String, ApplyError>;
    /// The node's locked packages.
    fn packages(&self) -> Result<PackageList, ApplyError>;
    /// Fetches a package to `path`, whole and checked or not at all.
    fn package(&self, package: &LockedPackage, path: &Path) -> Result<(), ApplyError>;
}

impl Source for Client {
    fn secret(&self, name: &str) -> Result<Vec<u8>, ApplyError> {
        Ok(until_reachable(|| self.secret(name))?)
    }

    fn certificate(&self, name: &str, request: &str) -> Result<String, ApplyError> {
        Ok(until_reachable(|| self.certificate(name, request))?)
    }

    fn packages(&self) -> Result<PackageList, ApplyError> {
        Ok(until_reachable(|| self.packages())?)
    }

    fn package(&self, package: &LockedPackage, path: &Path) -> Result<(), ApplyError> {
        let io = |source| ApplyError::Io { path: path.to_owned(), source };
        let part = path.with_extension("part");
        let tries = 3;
        for attempt in 1..=tries {
            let mut checked = Hashing {
                file: BufWriter::with_capacity(64 * 1024, fs::File::create(&part).map_err(io)?),
                hash: Sha256::new(),
                written: 0,
            };
            let copied =
                until_reachable(|| self.package(&package.sha256, package.size, &mut checked))?;
            checked.flush().map_err(io)?;
            let found = hex::encode(checked.hash.finalize());
            let whole = copied.is_ok() && checked.written == package.size;
            if whole && found.eq_ignore_ascii_case(&package.sha256) {
                return fs::rename(&part, path).map_err(io);
            }
            tracing::warn!(package = package.name, attempt, ?copied, "a package came damaged");
        }
        Err(ApplyError::Package {
            name: package.name.clone(),
            reason: format!("came damaged {tries} times (wanted sha256 {})", package.sha256),
        })
    }
}

/// Writes and hashes at once.
struct Hashing {
    file: BufWriter<fs::File>,
    hash: Sha256,
    written: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
