//! A suite's index: signed release file, package indexes by hash, merged.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::ARCHITECTURE;
use super::fetch::{Expected, FetchError, Fetcher};
use super::index::Index;
use super::keyring::Keyring;
use super::release::Release;
use super::version;
use crate::error::DepotError;
use crate::progress::{DepotEvent, Progress};

/// Where a suite's index comes from and goes to.
pub(crate) struct Suites<'a> {
    pub(crate) fetcher: &'a Fetcher,
    pub(crate) keyring: &'a Keyring,
    /// The depot's `index/`.
    pub(crate) dir: &'a Path,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) subject: &'a str,
}

impl Suites<'_> {
    /// The index of `suite`, with the newer versions of its update suites.
    pub(crate) fn index(&self, suite: &str, updates: Updates) -> Result<Index, DepotError> {
        let mut text = self.packages(suite)?;
        let mut more = Vec::new();
        if updates == Updates::Take {
            more.push(format!("{suite}-updates"));
            if self.fetcher.has_security() {
                more.push(format!("{suite}-security"));
            }
        }
        for suite in more {
            match self.packages(&suite) {
                Ok(updates) => {
                    text.push('\n');
                    text.push_str(&updates);
                }
                // A mirror need not have it.
                Err(DepotError::Fetch(FetchError::Status { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Index::parse(text).newest(version::compare))
    }

    /// The text of a suite's package index.
    fn packages(&self, suite: &str) -> Result<String, DepotError> {
        let release = self.release(suite)?;
        let plain = format!("main/binary-{ARCHITECTURE}/Packages.xz");
        let listed = release.file(&plain).ok_or_else(|| DepotError::Index {
            suite: suite.to_owned(),
            problem: format!("has no {plain}"),
        })?;
        let target = self.dir.join(format!("{}.xz", listed.sha256));
        let by_hash = format!("main/binary-{ARCHITECTURE}/by-hash/SHA256/{}", listed.sha256);
        let fetch = |name: &str| {
            let file = format!("{}/{name}", folder(suite));
            let expected = Expected { file: &file, sha256: &listed.sha256, size: listed.size };
            self.fetcher.fetch(expected, &target, &AtomicBool::new(false), &|_| ())
        };
        match fetch(&by_hash) {
            Err(FetchError::Status { .. }) => fetch(&plain)?,
            other => other?,
        }
        let bytes = fs::read(&target).map_err(DepotError::io("read", &target))?;
        let found = crate::hash::of_bytes(&bytes);
        if found != listed.sha256 {
            fs::remove_file(&target).map_err(DepotError::io("remove", &target))?;
            let expected = listed.sha256.clone();
            return Err(FetchError::WrongHash { file: plain, expected, found }.into());
        }
        let mut text = String::with_capacity(bytes.len() * 6);
        let mut reader = liblzma::read::XzDecoder::new(bytes.as_slice());
        reader.read_to_string(&mut text).map_err(DepotError::io("unpack", &target))?;
        Ok(text)
    }

    /// The suite's release file; without a network the one stored before.
    fn release(&self, suite: &str) -> Result<Release, DepotError> {
        let stored = self.dir.join(format!("{suite}.InRelease"));
        let bytes = match self.fetcher.read(&format!("{}/InRelease", folder(suite))) {
            Err(FetchError::Unreachable { reason, .. }) if stored.exists() => {
                self.warn(format!("no connection ({reason}): {suite} is taken as it was stored"));
                fs::read(&stored).map_err(DepotError::io("read", &stored))?
            }
            other => other?,
        };
        let refused = |source| DepotError::Signature { suite: suite.to_owned(), source };
        let message = String::from_utf8_lossy(&bytes);
        let now = jiff::Timestamp::now();
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let text = self.keyring.verify(&message, seconds).map_err(refused)?;
        let release = Release::parse(&text);
        if !release.is_for(suite) {
            let problem = "is signed for another suite".to_owned();
            return Err(DepotError::Index { suite: suite.to_owned(), problem });
        }
        if let Some(until) = release.valid_until.filter(|until| *until < now) {
            self.warn(format!(
                "the index of {suite} was valid until {until}: the mirror may be old"
            ));
        }
        crate::files::write_whole(&stored, &bytes)?;
        Ok(release)
    }

    fn warn(&self, message: String) {
        let subject = self.subject.to_owned();
        self.progress.event(DepotEvent::Warning { subject, message });
    }
}

/// Whether a suite's update suites are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Updates {
    /// Take newer versions from them.
    Take,
    /// The suite alone.
    Ignore,
}

fn folder(suite: &str) -> String {
    format!("dists/{suite}")
}
