//! Staying as the profile says: looking how the node differs from what was applied, and putting it back.
//! It is the applying thread that does this, so that a look never meets an application half-way.

use std::sync::Arc;

use gridgate_protocol::agent_api::PublishedProfile;
use gridgate_protocol::drift::{DriftReport, DriftRequest};

use super::Agent;
use crate::apply::{self, Intent, Moment, Tools};
use crate::client::until_reachable;

impl Agent {
    /// Looks, puts back if that is asked for, and answers.
    pub(super) fn answer(&mut self, request: DriftRequest) {
        let mut report = self.look(request.command.package_files);
        if request.command.put_back && !report.drifts.is_empty() {
            self.put_back(&mut report);
        }
        self.system.notify("STATUS=Compared with the profile");
        if let Err(error) = until_reachable(|| self.client.drift(request.id, &report)) {
            tracing::warn!(id = request.id, %error, "the install server does not want a look's result");
        }
    }

    /// How the node differs from the profile that was applied last.
    pub(super) fn look(&self, package_files: bool) -> DriftReport {
        let Some(profile) = &self.profile else { return DriftReport::default() };
        let system = Arc::clone(&self.system);
        let progress = move |text: &str| system.notify(&format!("STATUS=Comparing: {text}"));
        let tools = Tools { package_files, ..self.tools(&progress, Intent::Look) };
        apply::look(&tools, profile, &self.applied.attempted, &self.applied)
    }

    /// Applies once more what was applied, looking at everything; adds to the report what that changed.
    pub(super) fn put_back(&mut self, report: &mut DriftReport) {
        let Some(profile) = self.profile.clone() else { return };
        tracing::info!(differ = report.drifts.len(), "putting back what was changed by hand");
        let system = Arc::clone(&self.system);
        let progress = move |text: &str| system.notify(&format!("STATUS=Putting back: {text}"));
        let version = self.applied.attempted.clone();
        let outcome = {
            let tools = self.tools(&progress, Intent::PutBack);
            apply::apply(&tools, &profile, &version, &self.applied, Moment::Running)
        };
        report.put_back.clone_from(&outcome.resources);
        let packages = self.applied.locked.clone();
        self.finish(PublishedProfile { version, profile, packages }, outcome);
    }
}
