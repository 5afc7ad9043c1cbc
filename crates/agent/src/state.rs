//! What the agent remembers on the node's disk: which profile was applied and
//! what it made itself, so that a later profile can take it back. Two files in
//! the state folder (0700), each written anew and renamed: `applied.json` and
//! `profile.json`, both 0600. They hold hashes of secrets, never secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gridgate_protocol::node_profile::{NodeProfile, UnitState};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What was applied last.
pub(crate) const APPLIED: &str = "applied.json";
const PROFILE: &str = "profile.json";

/// Bigger than any profile that the server accepts to publish.
const LIMIT: u64 = 64 * 1024 * 1024;

/// Why the state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("cannot write the agent's state to {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write the agent's state as JSON: {source}")]
    Encode { source: serde_json::Error },
}

/// Whether something was there before the agent first wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// The agent made it and removes it when the profile drops it.
    Agent,
    /// It was there (from a package); it stays.
    Image,
}

/// A file, link or certificate that the agent keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Hash of what it should be.
    pub fingerprint: String,
    /// Who made it first.
    pub origin: Origin,
}

/// A certificate that was issued to this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Issued {
    /// Hash of what was asked for and of the CA.
    pub request: String,
    /// When, seconds since 1970.
    pub at: i64,
}

/// The agent's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Applied {
    /// Last version applied without a failure.
    pub version: Option<String>,
    /// Last version that was tried.
    pub attempted: String,
    /// Files, by path.
    pub files: BTreeMap<String, Mark>,
    /// Links, by path.
    pub links: BTreeMap<String, Mark>,
    /// Certificates, by name.
    pub certificates: BTreeMap<String, Issued>,
    /// Supplementary groups given, by user.
    pub members: BTreeMap<String, Vec<String>>,
    /// Units and the state they were put in.
    pub units: BTreeMap<String, UnitState>,
    /// Fingerprint of the paths a unit depends on when it was last (re)started.
    pub restarted: BTreeMap<String, String>,
    /// Commands that succeeded, with the fingerprint of what triggers them.
    pub commands: BTreeMap<String, String>,
    /// Names of `NodeProfile::packages` that are known to be installed.
    pub packages: Vec<String>,
    /// Fingerprint of the locked list that is installed.
    pub locked: Option<String>,
    /// Names in the list that is installed: what a later list drops of them is removed.
    pub listed: BTreeSet<String>,
    /// Packages that the agent itself installed.
    pub installed: BTreeSet<String>,
}

/// The state folder.
#[derive(Clone, Debug)]
pub(crate) struct StateFolder {
    path: PathBuf,
}

impl StateFolder {
    /// Opens the folder, making it when it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| StateError::Write { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned() })
    }

    /// A file or folder in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What was applied; none when nothing was yet, or when it cannot be read
    /// (then everything is compared again, which is always right).
    pub(crate) fn applied(&self) -> Option<Applied> {
        self.load(APPLIED)
    }

    /// The profile that goes with [`Self::applied`].
    pub(crate) fn profile(&self) -> Option<NodeProfile> {
        self.load(PROFILE)
    }

    /// Remembers an application. `applied.json` comes last: it vouches for the other.
    pub(crate) fn save(&self, applied: &Applied, profile: &NodeProfile) -> Result<(), StateError> {
        self.store(PROFILE, profile)?;
        self.store(APPLIED, applied)
    }

    fn load<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.path.join(name);
        let mut text = Vec::new();
        match fs::File::open(&path).and_then(|file| file.take(LIMIT).read_to_end(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read the agent's state");
                return None;
            }
        }
        serde_json::from_slice(&text)
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "unreadable state"))
            .ok()
    }

    fn store(&self, name: &str, value: &impl Serialize) -> Result<(), StateError> {
        let text = serde_json::to_vec(value).map_err(|source| StateError::Encode { source })?;
        let path = self.path.join(name);
        let new = self.path.join(format!("{name}.new"));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| StateError::Write { path: path.clone(), source })
    }
}
