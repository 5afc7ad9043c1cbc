//! Files from the archive's mirror, checked by size and hash, resumable.
//!
//! ```text
//! (none) ─request→ <name>.part ─complete→ checked ─rename→ <name>
//!                      └─ interrupted: the next request continues at its end (Range)
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Proxy};

use super::resolver::Remembering;

use crate::mirrors::Mirrors;

/// How often a broken connection is taken up again for one file.
const CONNECTIONS_PER_FILE: u32 = 4;

/// The largest file that is read into memory.
const MEMORY_LIMIT: u64 = 64 << 20;

/// Why a file could not be had. Files are named by their path in the archive.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No answer from the mirror, or the connection broke.
    #[error(
        "{file}: the mirror cannot be reached or broke off ({reason}); what arrived is kept, run again to continue"
    )]
    Unreachable {
        /// Path in the archive.
        file: String,
        /// What the network said.
        reason: String,
    },
    /// The mirror has no such file, or refuses it.
    #[error("{file}: the mirror answers with status {status}")]
    Status {
        /// Path in the archive.
        file: String,
        /// HTTP status.
        status: u16,
    },
    /// The file is longer or shorter than the signed index says.
    #[error("{file}: {found} bytes where the signed index says {expected}")]
    WrongSize {
        /// Path in the archive.
        file: String,
        /// Size by the index.
        expected: u64,
        /// Size found.
        found: u64,
    },
    /// The file's hash is not what the signed index says.
    #[error("{file}: SHA-256 is {found} where the signed index says {expected}")]
    WrongHash {
        /// Path in the archive.
        file: String,
        /// Hash by the index.
        expected: String,
        /// Hash found.
        found: String,
    },
    /// The file cannot be written.
    #[error("{file}: cannot be stored: {source}")]
    Store {
        /// Path in the archive.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// It is not stored, and nothing says where the archive is.
    #[error(
        "{0}: it is not in the depot, and no mirror is known; name one with --mirror http://HOST/debian"
    )]
    NoMirror(String),
    /// The proxy's address is not one.
    #[error("the proxy {0:?} is not an http:// address")]
    Proxy(String),
    /// The build was given up meanwhile.
    #[error("{0}: stopped")]
    Stopped(String),
}

/// What a file must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    /// Path below the mirror's base.
    pub(crate) file: &'a str,
    /// SHA-256, hex, lower case.
    pub(crate) sha256: &'a str,
    /// Size in bytes.
    pub(crate) size: u64,
}

/// Fetches from one mirror, over connections that are kept open.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    agent: Agent,
    debian: String,
    security: Option<String>,
}

impl Fetcher {
    /// A fetcher for `mirrors`.
    pub(crate) fn new(mirrors: &Mirrors, connections: usize) -> Result<Fetcher, FetchError> {
        let proxy = match mirrors.proxy.as_deref() {
            Some(text) => Some(Proxy::new(text).map_err(|_| FetchError::Proxy(text.to_owned()))?),
            None => None,
        };
        let bases =
            [Some(mirrors.debian.as_str()), mirrors.security.as_deref(), mirrors.proxy.as_deref()];
        let secure = bases.into_iter().flatten().any(|base| base.starts_with("https:"));
        let config = Agent::config_builder()
            .proxy(proxy)
            .http_status_as_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("gridgate/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(connections)
            .max_idle_connections_per_host(connections)
            .input_buffer_size(256 << 10)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)));
        let config = if secure { config.tls_config(tls()) } else { config };
        Ok(Fetcher {
            agent: Agent::with_parts(
                config.build(),
                DefaultConnector::default(),
                Remembering::default(),
            ),
            debian: mirrors.debian.trim_end_matches('/').to_owned(),
            security: mirrors.security.as_deref().map(|s| s.trim_end_matches('/').to_owned()),
        })
    }

    /// Whether a security archive is known.
    pub(crate) fn has_security(&self) -> bool {
        self.security.is_some()
    }

    /// A small file without a known hash (a signed one).
    pub(crate) fn read(&self, file: &str) -> Result<Vec<u8>, FetchError> {
        let (status, mut body) = self.request(file, 0)?;
        if status != 200 {
            return Err(FetchError::Status { file: file.to_owned(), status });
        }
        let mut bytes = Vec::new();
        let read = body.as_reader().take(MEMORY_LIMIT).read_to_end(&mut bytes);
        read.map_err(|error| unreachable(file, &error))?;
        Ok(bytes)
    }

    /// Fetches a file to `target` unless it is there; `stop` ends it early, `arrived`
    /// hears of every piece.
    pub(crate) fn fetch(
        &self,
        expected: Expected<'_>,
        target: &Path,
        stop: &AtomicBool,
        arrived: &dyn Fn(u64),
    ) -> Result<(), FetchError> {
        let store = |source| FetchError::Store { file: expected.file.to_owned(), source };
        if fs::metadata(target).is_ok_and(|m| m.len() == expected.size) {
            return Ok(());
        }
        if self.base(expected.file).is_empty() {
            return Err(FetchError::NoMirror(expected.file.to_owned()));
        }
        let part = part_path(target);
        let mut file = loop {
            let options = OpenOptions::new().read(true).append(true).create(true).open(&part);
            let file = options.map_err(store)?;
            flock(&file, FlockOperation::LockExclusive).map_err(|e| store(e.into()))?;
            let own = is_same(&file, &part);
            // Whoever held it before finished it; a part that was begun since is of no use.
            if fs::metadata(target).is_ok_and(|m| m.len() == expected.size) {
                return if own { fs::remove_file(&part).map_err(store) } else { Ok(()) };
            }
            if own {
                break file;
            }
        };
        self.complete(expected, &mut file, stop, arrived)?;
        match check(expected, &mut file).map_err(store)? {
            Ok(()) => fs::rename(&part, target).map_err(store),
            Err(error) => {
                // Nothing of it can be trusted: the next run begins anew.
                fs::remove_file(&part).map_err(store)?;
                Err(error)
            }
        }
    }

    fn complete(
        &self,
        expected: Expected<'_>,
        file: &mut File,
        stop: &AtomicBool,
        arrived: &dyn Fn(u64),
    ) -> Result<(), FetchError> {
        let store = |source| FetchError::Store { file: expected.file.to_owned(), source };
        let mut connections = 0;
        loop {
            let have = file.metadata().map_err(store)?.len();
            if have == expected.size {
                return Ok(());
            }
            if have > expected.size {
                file.set_len(0).map_err(store)?;
                continue;
            }
            connections += 1;
            match self.continue_at(have, expected, file, stop, arrived) {
                Err(FetchError::Unreachable { .. }) if connections < CONNECTIONS_PER_FILE => {}
                other => return other,
            }
        }
    }

    fn continue_at(
        &self,
        offset: u64,
        expected: Expected<'_>,
        file: &mut File,
        stop: &AtomicBool,
        arrived: &dyn Fn(u64),
    ) -> Result<(), FetchError> {
        let name = || expected.file.to_owned();
        let store = |source| FetchError::Store { file: name(), source };
        let (status, mut body) = self.request(expected.file, offset)?;
        let mut have = match status {
            206 => offset,
            200 => 0,
            // The kept part reaches beyond what the mirror has.
            416 if offset > 0 => {
                file.set_len(0).map_err(store)?;
                return Err(unreachable(expected.file, &"the kept part does not fit"));
            }
            status => return Err(FetchError::Status { file: name(), status }),
        };
        file.set_len(have).map_err(store)?;
        let mut reader = body.as_reader();
        let mut buffer = vec![0; 256 << 10];
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(FetchError::Stopped(name()));
            }
            let count = reader.read(&mut buffer).map_err(|e| unreachable(expected.file, &e))?;
            if count == 0 {
                break;
            }
            have += count as u64;
            if have > expected.size {
                file.set_len(0).map_err(store)?;
                let expected = expected.size;
                return Err(FetchError::WrongSize { file: name(), expected, found: have });
            }
            file.write_all(&buffer[..count]).map_err(store)?;
            arrived(count as u64);
        }
        if have < expected.size && body_was_whole(status) {
            file.set_len(0).map_err(store)?;
            let expected = expected.size;
            return Err(FetchError::WrongSize { file: name(), expected, found: have });
        }
        Ok(())
    }

    fn base(&self, file: &str) -> &str {
        match &self.security {
            Some(security) if is_security(file) => security,
            _ => &self.debian,
        }
    }

    fn request(&self, file: &str, offset: u64) -> Result<(u16, ureq::Body), FetchError> {
        let base = self.base(file);
        if base.is_empty() {
            return Err(FetchError::NoMirror(file.to_owned()));
        }
        let mut request = self.agent.get(format!("{base}/{}", encode(file)));
        if offset > 0 {
            request = request.header("Range", format!("bytes={offset}-"));
        }
        let response = request.call().map_err(|error| unreachable(file, &error))?;
        Ok((response.status().as_u16(), response.into_body()))
    }
}

/// A whole answer that ended in good order and is too short will not grow.
fn body_was_whole(status: u16) -> bool {
    status == 200
}

fn is_security(file: &str) -> bool {
    file.starts_with("pool/updates/") || file.contains("-security/")
}

/// Characters that pool paths may hold and that an address must not.
fn encode(file: &str) -> String {
    file.replace('%', "%25").replace('+', "%2B").replace('"', "%22")
}

fn unreachable(file: &str, reason: &dyn std::fmt::Display) -> FetchError {
    FetchError::Unreachable { file: file.to_owned(), reason: reason.to_string() }
}

fn part_path(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => a.ino() == b.ino() && a.dev() == b.dev(),
        _ => false,
    }
}

/// Checks size and hash of an open file.
pub(crate) fn check(expected: Expected<'_>, file: &mut File) -> io::Result<Result<(), FetchError>> {
    let name = expected.file.to_owned();
    let found = file.metadata()?.len();
    if found != expected.size {
        return Ok(Err(FetchError::WrongSize { file: name, expected: expected.size, found }));
    }
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    let found = hex::encode(hash.finalize());
    if found == expected.sha256 {
        return Ok(Ok(()));
    }
    let expected = expected.sha256.to_owned();
    Ok(Err(FetchError::WrongHash { file: name, expected, found }))
}

fn tls() -> TlsConfig {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate of this host cannot be read");
    }
    let roots: Vec<_> =
        found.certs.iter().map(|c| Certificate::from_der(c.as_ref()).to_owned()).collect();
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build()
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
