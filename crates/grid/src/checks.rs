//! Site checks: the grid operations that show that a site works, as data.
//!
//! [`site_checks`] turns the facts of a site into scripts to run as a grid user
//! on the UI, [`Schedule`] says which may run when, and [`judge`] reads what they
//! printed. Nothing here runs anything.
//!
//! A check is judged by what its operations *said*, not by exit codes: a broken
//! `jobmanager-slurm` ends with 0 and prints nothing.
//!
//! ```text
//!             ┌─ Schedule::startable ─> running ─ Schedule::finished ─┬─> passed
//!   waiting ──┤                                                       └─> failed
//!             └─ a check in `after` failed or was skipped ──────────────> skipped
//! ```

mod expectation;
mod judge;
mod operation;
mod plan;
mod schedule;
mod script;
mod transcript;

#[cfg(test)]
mod tests;

use gridgate_protocol::site_api::CheckOutcome;

use expectation::Expectation;

pub use judge::judge;
pub use operation::DELETE_COMMAND;
pub use plan::{UNMAPPED_CERTIFICATE, UNMAPPED_KEY, UNMAPPED_NAME, site_checks};
pub use schedule::{AT_ONCE, Schedule, Skipped};

/// A node that the checks speak to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Node name: for `gridgate logs` and the like.
    pub node: String,
    /// Full host name: what a grid service must be called by.
    pub fqdn: String,
}

/// The grid user whose hands the checks use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GridUser {
    /// Login name on the UI.
    pub name: String,
    /// Certificate subject, `/O=…/OU=People/CN=…`, as Globus prints it.
    pub subject: String,
}

/// What the checks must know of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteFacts {
    /// DNS domain.
    pub domain: String,
    /// The node with the gatekeeper.
    pub ce: Option<Host>,
    /// The node with the GridFTP server.
    pub se: Option<Host>,
    /// The node from which the checks run.
    pub ui: Option<Host>,
    /// Node names of the workers.
    pub workers: Vec<String>,
    /// The first grid user: the one who may read [`UNMAPPED_KEY`] on the UI.
    pub user: Option<GridUser>,
    /// Directory on the SE, absolute, in which the user may write over GridFTP.
    pub storage: String,
    /// How many times as long as usual an operation may take; at least 1.
    pub pace: u32,
}

/// One entry of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    /// To be run.
    Check(SiteCheck),
    /// The site has nothing to try it on.
    NotApplicable {
        /// The check's id.
        id: &'static str,
        /// The check's title.
        title: String,
        /// E.g. `no SE in this site`.
        why: String,
    },
}

impl Planned {
    /// The check's id.
    pub fn id(&self) -> &'static str {
        match self {
            Planned::Check(check) => check.id,
            Planned::NotApplicable { id, .. } => id,
        }
    }
}

/// A check to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteCheck {
    /// Stable name, e.g. `gridftp-put`.
    pub id: &'static str,
    /// For people.
    pub title: String,
    /// Node to run it in.
    pub node: String,
    /// Login name to run it as.
    pub user: String,
    /// For `/bin/sh`, on standard input.
    pub script: String,
    /// Longer than the sum of the script's own limits: only a hung node gets there.
    pub limit_s: u32,
    /// Ids of checks that must have passed before.
    pub after: &'static [&'static str],
    /// What its output must show.
    expectation: Expectation,
}

/// What a check's output shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The operation worked.
    Passed {
        /// What was seen that proves it.
        evidence: String,
    },
    /// It did not, or did not show that it did.
    Failed {
        /// What was seen instead.
        what: String,
        /// How to look further, e.g. `gridgate logs ce globus-gatekeeper`.
        hint: String,
    },
}

impl From<Verdict> for CheckOutcome {
    fn from(verdict: Verdict) -> CheckOutcome {
        match verdict {
            Verdict::Passed { evidence } => CheckOutcome::Passed { evidence },
            Verdict::Failed { what, hint } => CheckOutcome::Failed { what, hint },
        }
    }
}
