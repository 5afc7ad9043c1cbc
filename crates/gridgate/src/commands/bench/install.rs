//! Installations: each node installs itself again, and its own log says how long each stage took.

use gridgate_protocol::install_api::InstallRecord;
use gridgate_protocol::site_api::InstallRequest;

use super::{Figures, Run, Unit, task};
use crate::commands::install::Method;
use crate::commands::install_log;
use crate::commands::target::node_path;
use crate::daemon::follow::follow;
use crate::failure::Failure;

impl Run<'_> {
    /// Each round, every one of `nodes` (of all, when none is named) installs itself by every method.
    pub(super) async fn installations(
        &self,
        rounds: u32,
        methods: &[Method],
        nodes: &[String],
    ) -> Result<Figures, Failure> {
        let nodes = self.named(nodes)?;
        let mut figures = Figures::default();
        // Images are built here; and a node is healthy only when those are there that it needs.
        self.up("up, before the installations", &mut figures).await?;
        for round in 1..=rounds {
            self.say(&format!("round {round} of {rounds}"));
            for node in &nodes {
                for method in methods {
                    self.installation(node, *method, &mut figures).await?;
                }
            }
        }
        Ok(figures)
    }

    async fn installation(
        &self,
        node: &str,
        method: Method,
        figures: &mut Figures,
    ) -> Result<(), Failure> {
        let title = format!("{node} by {}", install_log::method(method.into()));
        self.say(&format!("install {title}"));
        let request = InstallRequest {
            method: Some(method.into()),
            mirror: self.request.mirror.clone(),
            environment: self.request.environment.clone(),
            ..InstallRequest::default()
        };
        let path = node_path(&self.site, node, "install");
        let events = self.client.events(&path, &request).await?;
        follow(self.settings, &task("install"), events).await?;
        let path = node_path(&self.site, node, "installations");
        let records: Vec<InstallRecord> = self.client.get(&path).await?;
        let Some(record) = records.last() else {
            return Err(Failure::internal(format!("{node} installed itself without a record")));
        };
        for stage in &record.stages {
            if let Some(time) = stage.millis {
                let name = format!("{title}: {}", stage.stage.word());
                figures.add(&name, Unit::Milliseconds, time);
            }
        }
        let name = format!("{title}: launch to services");
        figures.add(&name, Unit::Milliseconds, install_log::total(record));
        Ok(())
    }

    /// The nodes that are meant, in the profile's order.
    fn named(&self, wanted: &[String]) -> Result<Vec<String>, Failure> {
        if let Some(name) = wanted.iter().find(|name| !self.nodes.contains(name)) {
            return Err(Failure::input(format!("site {} has no node {name}", self.site))
                .hint(format!("its nodes are {}", self.nodes.join(", "))));
        }
        let meant = |name: &&String| wanted.is_empty() || wanted.contains(name);
        Ok(self.nodes.iter().filter(meant).cloned().collect())
    }
}
