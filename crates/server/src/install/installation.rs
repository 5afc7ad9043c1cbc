//! The installations of a site's nodes: who may install, how far it is, kept on disk so that an installation
//! outlives the daemon.
//!
//! ```text
//!            open ──launch──▶ one-time token ──begin──▶ session ──done──▶ installed ──healthy──▶ over
//!             ▲                   ▲      (spent by one boot)  │                │
//!             └── next number     └─ machine killed: relaunch ┘                └─ failed: open again by --resume
//! ```
//! Tokens are 32 random bytes; only their SHA-256 is kept. A one-time token is spent by the boot that began with
//! it: the same boot may ask again (an answer can be lost), another one is told who holds the installation.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gridgate_protocol::install_api::{
    Begin, InstallOutcome, InstallRecord, Order, Progress, Stage, StageReport,
};
use gridgate_protocol::site_api::ErrorKind;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::record;
use crate::failure::{Failure, caused};
use crate::home::{SiteDir, write_atomic};
use crate::images::Installed;

/// All nodes of a site that install themselves or have done so.
pub struct Installations {
    dir: SiteDir,
    nodes: Mutex<BTreeMap<String, Known>>,
    changes: watch::Sender<u64>,
}

struct Known {
    kept: Installation,
    record: InstallRecord,
    heard: Instant,
    /// When the record was last written.
    written: Option<Instant>,
}

/// `config/installation.json` (0600).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Installation {
    /// What the node is told; session and clock are filled in when it begins.
    pub order: Order,
    /// What the node has when it is installed.
    pub installed: Installed,
    /// Where it is.
    pub phase: Phase,
    one_time: Option<String>,
    session: Option<Session>,
    /// Hashes of sessions that were given up.
    given_up: Vec<String>,
}

/// How far an installation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The disk is not what it shall be.
    Open,
    /// The installer said that it is done.
    Installed,
    /// The node runs from its disk.
    Over,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Session {
    token: String,
    /// The one-time token that began it.
    one_time: String,
    /// The boot that began it.
    boot: String,
    since: String,
    /// Milliseconds from the installation's begin to the session's.
    at_ms: u64,
}

/// Why an installer is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nobody holds this token.
    Unknown,
    /// Another boot began with it.
    Held(String),
    /// This installation was given up.
    GivenUp,
    /// The state could not be kept.
    Fault(String),
}

/// What is known of an installation, at one moment.
#[derive(Clone, Debug)]
pub struct Look {
    /// Where it is.
    pub phase: Phase,
    /// Its record.
    pub record: InstallRecord,
    /// Whether an installer has begun.
    pub begun: bool,
    /// Since the installer was last heard, or was launched.
    pub silent_ms: u64,
}

impl Installations {
    /// Those that are kept in the site's folder; one that cannot be read is told and left out.
    pub fn load(dir: &SiteDir) -> Installations {
        let mut nodes = BTreeMap::new();
        for name in crate::stop::names(dir) {
            let node = dir.node(&name);
            let Ok(bytes) = std::fs::read(node.installation()) else { continue };
            let kept = serde_json::from_slice::<Installation>(&bytes).ok();
            let record = kept.as_ref().and_then(|kept| record::read(&node, kept.order.number));
            let (Some(kept), Some(record)) = (kept, record) else {
                tracing::error!(node = name, "the state of its installation is damaged");
                continue;
            };
            nodes.insert(name, Known { kept, record, heard: Instant::now(), written: None });
        }
        let changes = watch::Sender::new(0);
        Installations { dir: dir.clone(), nodes: Mutex::new(nodes), changes }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes on every change of any node.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How an installation is.
    pub fn look(&self, node: &str) -> Option<Look> {
        let nodes = self.nodes();
        let known = nodes.get(node)?;
        Some(Look {
            phase: known.kept.phase,
            record: known.record.clone(),
            begun: known.kept.session.is_some(),
            silent_ms: u64::try_from(known.heard.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// The installation of a node whose disk is not complete.
    pub fn incomplete(&self, node: &str) -> Option<InstallRecord> {
        self.look(node).filter(|look| look.phase == Phase::Open).map(|look| look.record)
    }

    /// What is kept of a node's installation.
    pub fn kept(&self, node: &str) -> Option<Installation> {
        Some(self.nodes().get(node)?.kept.clone())
    }

    /// Begins a new installation; an older one that did not end is given up.
    pub fn open(
        &self,
        order: Order,
        installed: Installed,
        record: InstallRecord,
    ) -> Result<(), Failure> {
        let node = record.node.clone();
        let mut nodes = self.nodes();
        let mut given_up = Vec::new();
        if let Some(old) = nodes.get_mut(&node) {
            given_up.extend(old.kept.session.take().map(|session| session.token));
            if old.record.outcome == InstallOutcome::UnderWay {
                let next = format!("given up for installation {}", record.number);
                record::fail(&mut old.record, &next);
                record::write(&self.dir.node(&node), &old.record)?;
            }
        }
        let phase = Phase::Open;
        let kept =
            Installation { order, installed, phase, one_time: None, session: None, given_up };
        let known = Known { kept, record, heard: Instant::now(), written: None };
        self.keep(&node, &known)?;
        record::write(&self.dir.node(&node), &known.record)?;
        nodes.insert(node, known);
        Ok(())
    }

    /// Makes a one-time token for a launch; an earlier one is worth nothing from now on.
    pub fn new_token(&self, node: &str) -> Result<String, Failure> {
        let token = random_token()?;
        self.change(node, |known| {
            let session = known.kept.session.take().map(|session| session.token);
            known.kept.given_up.extend(session);
            known.kept.one_time = Some(hash(&token));
            known.kept.phase = Phase::Open;
            // A launch that ended before it had partitions to speak of leaves what is known from before.
            let resume = record::resume(&known.record);
            known.kept.order.resume = resume.or(known.kept.order.resume.take());
            known.record.launches += 1;
            known.record.outcome = InstallOutcome::UnderWay;
            known.record.ended = None;
            known.heard = Instant::now();
        })?;
        Ok(token)
    }

    /// An installer begins.
    pub fn begin(&self, token: &str, begin: &Begin) -> Result<Order, Refused> {
        let hashed = hash(token);
        let node = self.holder(&hashed, begin)?;
        let session = random_token().map_err(|failure| Refused::Fault(failure.what))?;
        let now = jiff::Timestamp::now();
        let mut order = None;
        let changed = self.change(&node, |known| {
            record::begins(&mut known.record, begin, now);
            known.kept.one_time = None;
            known.kept.session = Some(Session {
                token: hash(&session),
                one_time: hashed.clone(),
                boot: begin.boot_id.clone(),
                since: now.to_string(),
                at_ms: record::since_begin(&known.record, now),
            });
            known.heard = Instant::now();
            let clock = now.as_second();
            order = Some(Order { session: session.clone(), clock, ..known.kept.order.clone() });
        });
        changed.map_err(|failure| Refused::Fault(failure.what))?;
        order.ok_or(Refused::Unknown)
    }

    /// The node that a one-time token is bound to, spent or not.
    pub fn bound_to(&self, token: &str) -> Option<String> {
        let hashed = hash(token);
        let nodes = self.nodes();
        let bound = |kept: &Installation| {
            kept.one_time.as_ref() == Some(&hashed)
                || kept.session.as_ref().is_some_and(|session| session.one_time == hashed)
        };
        nodes.iter().find(|(_, known)| bound(&known.kept)).map(|(name, _)| name.clone())
    }

    /// The node that may begin with a one-time token.
    fn holder(&self, hashed: &str, begin: &Begin) -> Result<String, Refused> {
        let nodes = self.nodes();
        for (name, known) in nodes.iter().filter(|(_, known)| known.kept.phase == Phase::Open) {
            if known.kept.one_time.as_deref() == Some(hashed) {
                return Ok(name.clone());
            }
            let spent = known.kept.session.as_ref().filter(|session| session.one_time == hashed);
            if let Some(session) = spent {
                if session.boot == begin.boot_id {
                    return Ok(name.clone());
                }
                return Err(Refused::Held(format!(
                    "installation {} of {name} is held by the machine of boot {} since {}",
                    known.kept.order.number, session.boot, session.since
                )));
            }
        }
        Err(Refused::Unknown)
    }

    /// The node whose session this is.
    pub fn node_of(&self, token: &str) -> Result<String, Refused> {
        let hashed = hash(token);
        let nodes = self.nodes();
        for (name, known) in nodes.iter() {
            if known.kept.session.as_ref().is_some_and(|session| session.token == hashed) {
                return Ok(name.clone());
            }
            if known.kept.given_up.contains(&hashed) {
                return Err(Refused::GivenUp);
            }
        }
        Err(Refused::Unknown)
    }

    /// The installer tells how far it is.
    pub fn progress(&self, node: &str, progress: &Progress, last_line: Option<String>) {
        let told = self.change_record(node, |known| {
            let at = known.kept.session.as_ref().map_or(0, |session| session.at_ms);
            let shift = shift(at, &progress.stages);
            let turned = record::take(&mut known.record, progress, shift);
            known.record.last_line = last_line;
            known.heard = Instant::now();
            turned
        });
        if let Err(failure) = told {
            tracing::error!(node, "{}: {}", failure.what, failure.why.join(": "));
        }
    }

    /// The installer is done.
    pub fn done(&self, node: &str, progress: &Progress) -> Result<(), Failure> {
        self.progress(node, progress, None);
        self.change(node, |known| known.kept.phase = Phase::Installed)
    }

    /// Changes the record by what the host itself sees: launch, boot, services, end.
    pub fn note(&self, node: &str, note: impl FnOnce(&mut InstallRecord)) -> Result<(), Failure> {
        self.change(node, |known| note(&mut known.record))
    }

    /// It is over: the node runs from its disk.
    pub fn over(&self, node: &str) -> Result<(), Failure> {
        self.change(node, |known| {
            known.kept.phase = Phase::Over;
            known.kept.session = None;
            known.kept.one_time = None;
            known.record.outcome = InstallOutcome::Done;
            known.record.ended = Some(jiff::Timestamp::now().to_string());
        })
    }

    /// Changes state and record, and writes both.
    fn change(&self, node: &str, change: impl FnOnce(&mut Known)) -> Result<(), Failure> {
        let mut nodes = self.nodes();
        if let Some(known) = nodes.get_mut(node) {
            change(known);
            self.keep(node, known)?;
            record::write(&self.dir.node(node), &known.record)?;
        }
        drop(nodes);
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Changes the record; it is written when `change` says so, else at most once a second.
    fn change_record(
        &self,
        node: &str,
        change: impl FnOnce(&mut Known) -> bool,
    ) -> Result<(), Failure> {
        let mut nodes = self.nodes();
        if let Some(known) = nodes.get_mut(node) {
            let must = change(known);
            if must || known.written.is_none_or(|at| at.elapsed().as_secs() >= 1) {
                record::write(&self.dir.node(node), &known.record)?;
                known.written = Some(Instant::now());
            }
        }
        drop(nodes);
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    fn keep(&self, node: &str, known: &Known) -> Result<(), Failure> {
        let json = serde_json::to_vec(&known.kept).map_err(std::io::Error::other);
        json.and_then(|json| write_atomic(&self.dir.node(node).installation(), &json)).map_err(
            |e| caused(ErrorKind::Host, format!("{node}'s installation could not be kept"), &e),
        )
    }
}

/// What has to be added to the installer's times to have the host's: its order came when it began.
fn shift(at_ms: u64, stages: &[StageReport]) -> i64 {
    let start = stages.iter().find(|report| report.stage == Stage::Start);
    let end = start.and_then(|start| start.end_ms).unwrap_or(0);
    i64::try_from(at_ms).unwrap_or(0) - i64::try_from(end).unwrap_or(0)
}

fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

/// 32 random bytes, hex.
fn random_token() -> Result<String, Failure> {
    let mut bytes = [0u8; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(|e| {
        caused(ErrorKind::Host, "no random numbers could be had", &std::io::Error::from(e))
    })?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
#[path = "installation_tests.rs"]
mod tests;
