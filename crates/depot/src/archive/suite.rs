//! A suite's index: signed release file, package indexes by hash, merged.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::ARCHITECTURE;
use super::fetch::{Expected, FetchError, Fetcher};
use super::index::Index;
use super::keyring::Keyring;
use super::release::Release;
use super::{stored, version};
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
        let listed = stored::packages(&release, suite)?;
        let target = stored::packages_path(self.dir, listed);
        let by_hash = format!("main/binary-{ARCHITECTURE}/by-hash/SHA256/{}", listed.sha256);
        let fetch = |name: &str| {
            let file = format!("{}/{name}", folder(suite));
            let expected = Expected { file: &file, sha256: &listed.sha256, size: listed.size };
            self.fetcher.fetch(expected, &target, &AtomicBool::new(false), &|_| ())
        };
        match fetch(&by_hash) {
            Err(FetchError::Status { .. }) => fetch(&stored::packages_name())?,
            other => other?,
        }
        let text = stored::text(self.dir, listed);
        if let Err(DepotError::Fetch(FetchError::WrongHash { .. })) = &text {
            // Torn or altered where it lay: the next run fetches it anew.
            fs::remove_file(&target).map_err(DepotError::io("remove", &target))?;
        }
        text
    }

    /// The suite's release file; without a network the one stored before.
    fn release(&self, suite: &str) -> Result<Release, DepotError> {
        let stored = stored::release_path(self.dir, suite);
        let bytes = match self.fetcher.read(&format!("{}/InRelease", folder(suite))) {
            Err(error @ (FetchError::Unreachable { .. } | FetchError::NoMirror(_)))
                if stored.exists() =>
            {
                self.warn(format!("{error}; {suite} is taken as it was stored"));
                fs::read(&stored).map_err(DepotError::io("read", &stored))?
            }
            other => other?,
        };
        let release = stored::verify(&bytes, suite, self.keyring)?;
        let now = jiff::Timestamp::now();
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
