//! Makes the node what its profile says. Each kind of resource has its module;
//! all of them are idempotent and go on after a failure, which is reported with
//! its reason. Nothing is started while the node still boots: what must run is
//! handed back in [`Outcome::start`] and started when systemd knows that the
//! agent is ready.

mod accounts;
mod certificates;
mod commands;
mod directories;
mod dropped;
mod error;
mod fetch;
mod files;
mod links;
mod look;
mod package_drift;
mod packages;
mod unit_files;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use gridgate_protocol::agent_api::{Outcome as ResourceOutcome, ResourceReport};
use gridgate_protocol::node_profile::NodeProfile;
use sha2::{Digest, Sha256};

pub(crate) use accounts::read as accounts_of;
pub(crate) use certificates::due as certificate_due;
pub(crate) use error::ApplyError;
pub(crate) use fetch::Source;
pub(crate) use look::look;

use crate::accounts::Accounts;
pub(crate) use crate::accounts::Effect;
use crate::place::{Access, Tree};
use crate::state::{Applied, StateFolder};
use crate::system::System;

/// Whether services may be started yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// systemd waits for the agent: starting a service would wait for ever.
    Booting,
    /// The node is up.
    Running,
}

/// What the node is gone through for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// To make it what a profile says; what an earlier application vouches for is not looked at again.
    Apply,
    /// To put back what was changed by hand: everything is looked at.
    PutBack,
    /// To see what differs; nothing is changed.
    Look,
}

/// One kind of resource.
trait Kind {
    /// What people see while it is worked on.
    fn doing(&self) -> &'static str;
    /// Brings all resources of this kind into the wanted state; with [`Intent::Look`] notes what differs
    /// and changes nothing.
    fn apply(&self, session: &mut Session<'_>);
}

/// The kinds, in the order in which they are applied: what is dropped first, so
/// that a service stops before its files go; users before what they own; files
/// before the commands and units that read them.
const KINDS: &[&dyn Kind] = &[
    &dropped::Dropped,
    &packages::Packages,
    &accounts::AccountFiles,
    &directories::Directories,
    &files::Files,
    &links::Links,
    &certificates::Certificates,
    &commands::Commands,
    &units::Units,
];

/// What an application came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The memory to keep.
    pub applied: Applied,
    /// Changed and failed resources.
    pub resources: Vec<ResourceReport>,
    /// How many were as they should be.
    pub unchanged: u32,
    /// Units to start now that systemd knows the agent is ready.
    pub start: Vec<String>,
}

impl Outcome {
    /// Whether nothing failed.
    pub(crate) fn ok(&self) -> bool {
        !self.resources.iter().any(|r| matches!(r.outcome, ResourceOutcome::Failed(_)))
    }
}

/// What an application works with.
pub(crate) struct Tools<'a> {
    /// The files.
    pub tree: &'a Tree,
    /// The machine.
    pub system: &'a dyn System,
    /// The install server.
    pub source: &'a dyn Source,
    /// The agent's own folder.
    pub folder: &'a StateFolder,
    /// The site CA's certificate, PEM.
    pub ca: &'a str,
    /// Told what is going on, for people.
    pub progress: &'a dyn Fn(&str),
    /// [`PublishedProfile::packages`](gridgate_protocol::agent_api::PublishedProfile) of what is applied.
    pub packages: Option<&'a str>,
    /// What for.
    pub intent: Intent,
    /// Whether a look also has dpkg compare the packages' files with their sums.
    pub package_files: bool,
}

/// An application under way.
struct Session<'a> {
    tools: &'a Tools<'a>,
    profile: &'a NodeProfile,
    version: &'a str,
    moment: Moment,
    /// What was before; not changed.
    before: &'a Applied,
    /// What will be remembered.
    state: Applied,
    /// Owners and groups by name, after the account step.
    names: Accounts,
    /// Whether dpkg put another version in the place of one that was there.
    replaced: bool,
    /// Paths whose content changed in this application.
    changed: BTreeSet<String>,
    /// Fingerprint of every file, link and certificate path of the profile.
    fingerprints: BTreeMap<String, String>,
    resources: Vec<ResourceReport>,
    unchanged: u32,
    start: Vec<String>,
    notes: look::Notes,
}

/// Applies `profile`.
pub(crate) fn apply(
    tools: &Tools<'_>,
    profile: &NodeProfile,
    version: &str,
    before: &Applied,
    moment: Moment,
) -> Outcome {
    let mut session = Session::new(tools, profile, version, before, moment);
    for kind in KINDS {
        (tools.progress)(kind.doing());
        kind.apply(&mut session);
    }
    let Session { mut state, resources, unchanged, start, .. } = session;
    let mut outcome = Outcome { applied: Applied::default(), resources, unchanged, start };
    if outcome.ok() {
        state.version = Some(version.to_owned());
    }
    outcome.applied = state;
    outcome
}

/// Starts what an application at boot left to start; failures go into its report.
pub(crate) fn start(tools: &Tools<'_>, profile: &NodeProfile, outcome: &mut Outcome) {
    units::start(tools, profile, outcome);
    if !outcome.ok() {
        outcome.applied.version = None;
    }
}

/// Everything written reaches the disk at once: one barrier instead of one a
/// file. To be called before the application is remembered, and not while the
/// boot waits: on a busy disk it takes seconds.
pub(crate) fn sync(tree: &Tree) {
    let root = std::fs::File::open(tree.host_path("/"));
    if let Err(error) = root.and_then(|root| Ok(rustix::fs::syncfs(root)?)) {
        tracing::warn!(%error, "cannot flush the file system");
    }
}

impl<'a> Session<'a> {
    fn new(
        tools: &'a Tools<'a>,
        profile: &'a NodeProfile,
        version: &'a str,
        before: &'a Applied,
        moment: Moment,
    ) -> Self {
        Self {
            tools,
            profile,
            version,
            moment,
            before,
            state: Applied { attempted: version.to_owned(), ..before.clone() },
            names: accounts::read(tools.tree),
            replaced: false,
            changed: BTreeSet::new(),
            fingerprints: BTreeMap::new(),
            resources: Vec::new(),
            unchanged: 0,
            start: Vec::new(),
            notes: look::Notes::default(),
        }
    }

    /// Brings one resource into its state and writes down what became of it.
    fn resource(
        &mut self,
        kind: &str,
        name: &str,
        component: &str,
        work: impl FnOnce(&mut Self) -> Result<Effect, ApplyError>,
    ) {
        let started = Instant::now();
        let result = work(self);
        self.record(kind, name, component, started, result);
    }

    fn record(
        &mut self,
        kind: &str,
        name: &str,
        component: &str,
        started: Instant,
        result: Result<Effect, ApplyError>,
    ) {
        if self.looking() {
            self.conclude(kind, name, component, result);
            return;
        }
        match report(kind, name, component, started, result) {
            None => self.unchanged += 1,
            Some(report) => self.resources.push(report),
        }
    }

    /// Ids and mode for owner and group given by name.
    fn access(&self, owner: &str, group: &str, mode: u32) -> Result<Access, ApplyError> {
        let uid = self.names.uid(owner).ok_or_else(|| ApplyError::NoUser(owner.to_owned()))?;
        let gid = self.names.gid(group).ok_or_else(|| ApplyError::NoGroup(group.to_owned()))?;
        Ok(Access { uid, gid, mode })
    }

    /// Whether this application must look again at what it cannot see for itself
    /// (secrets): the profile is another, or someone asked for it.
    fn version_moved(&self) -> bool {
        self.before.version.as_deref() != Some(self.version)
    }

    /// One hash over the present state of `paths`, for triggers.
    fn fingerprint_of(&self, paths: &[String]) -> String {
        let parts = paths.iter().map(|path| {
            let known = self.fingerprints.get(path).map_or("", String::as_str);
            format!("{path}={known}\n")
        });
        fingerprint(&[parts.collect::<String>().as_bytes()])
    }

    /// Whether one of `paths` changed in this application.
    fn any_changed(&self, paths: &[String]) -> bool {
        paths.iter().any(|path| self.changed.contains(path))
    }
}

/// A line of the report; none for an unchanged resource.
fn report(
    kind: &str,
    name: &str,
    component: &str,
    started: Instant,
    result: Result<Effect, ApplyError>,
) -> Option<ResourceReport> {
    let outcome = match result {
        Ok(Effect::Unchanged) => return None,
        Ok(Effect::Changed) => ResourceOutcome::Changed,
        Err(error) => {
            tracing::error!(kind, name, %error, "a resource failed");
            ResourceOutcome::Failed(error.to_string())
        }
    };
    Some(ResourceReport {
        kind: kind.to_owned(),
        name: name.to_owned(),
        component: component.to_owned(),
        outcome,
        millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Hash of some parts, each with its length, so that they cannot run together.
fn fingerprint(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..16])
}

#[cfg(test)]
mod tests;
