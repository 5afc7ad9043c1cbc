//! What is written down of a node's update, so that it can be gone on with after a kill at any point, and gone
//! back from.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use gridgate_protocol::agent_api::PublishedProfile;
use gridgate_protocol::drift::EarlierDisk;
use gridgate_protocol::site_api::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, caused};
use crate::home::{NodeDir, write_atomic};
use crate::images::Installed;

/// Where an update is; see the diagram in the module above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The disk is being kept; it is still as before.
    Saving,
    /// The earlier disk is complete; the node goes over to the new packages.
    Applying,
    /// The earlier disk is being put back.
    Restoring,
    /// The node is healthy with the new packages; the earlier disk is kept.
    Updated,
    /// The node is what it was before, and stays so until something else is wanted of it.
    Held,
}

/// What a node was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    /// Its packages.
    pub installed: Installed,
    /// Its profile.
    pub published: Option<PublishedProfile>,
}

/// What a node was to become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Fingerprint of the package list.
    pub packages: String,
    /// Version of the profile.
    pub profile: String,
}

/// The journal of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Where the update is.
    pub state: State,
    /// What the node was.
    pub from: Earlier,
    /// What it was to become.
    pub to: Target,
    /// When the update began, RFC 3339.
    pub at: String,
    /// Why it was or is rolled back.
    pub why: Option<String>,
    /// Whether that was asked for: then nothing has failed.
    #[serde(default)]
    pub by_hand: bool,
}

impl Journal {
    /// A node's journal, if it has one.
    ///
    /// # Errors
    /// When there is one that cannot be read: going on without it could lose the way back.
    pub fn load(dir: &NodeDir) -> Result<Option<Journal>, Failure> {
        let path = dir.update();
        let fault = |e: &dyn std::error::Error| {
            caused(ErrorKind::Host, format!("{} cannot be read", path.display()), e)
        };
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| fault(&e)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(fault(&e)),
        }
    }

    /// Writes it down, in this state.
    pub fn enter(&mut self, state: State, dir: &NodeDir) -> Result<(), Failure> {
        self.state = state;
        let json = serde_json::to_vec(self).map_err(io::Error::other);
        json.and_then(|json| write_atomic(&dir.update(), &json)).map_err(|e| {
            caused(ErrorKind::Host, "the journal of an update could not be written", &e)
        })
    }

    /// Fingerprint of the package list that the node had.
    pub fn earlier_packages(&self) -> String {
        self.from.installed.list.fingerprint()
    }

    /// Whether it was interrupted.
    pub fn unfinished(&self) -> bool {
        matches!(self.state, State::Saving | State::Applying | State::Restoring)
    }

    /// The disk that a rollback would put back.
    pub fn earlier_disk(&self, dir: &NodeDir) -> Option<EarlierDisk> {
        let packages = self.earlier_packages();
        let meta = fs::metadata(dir.earlier_disk(&packages)).ok()?;
        let kept = matches!(self.state, State::Applying | State::Updated);
        kept.then(|| EarlierDisk { packages, at: self.at.clone(), used: meta.blocks() * 512 })
    }

    /// The profile that a node is held at: the one that goes with its earlier packages.
    pub fn held_profile(&self) -> Option<&PublishedProfile> {
        let back = matches!(self.state, State::Restoring | State::Held);
        self.from.published.as_ref().filter(|_| back)
    }
}

/// Removes every earlier disk of a node but the one of these packages.
pub fn remove_disks_but(dir: &NodeDir, kept: Option<&str>) -> io::Result<()> {
    let kept = kept.map(|packages| dir.earlier_disk(packages));
    let folder = dir.disk();
    let Some(folder) = folder.parent() else { return Ok(()) };
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let earlier = name.starts_with("before-") && name.ends_with(".img");
        if earlier && Some(&path) != kept.as_ref() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
