//! Agents that wait for news of their profile: everybody's first one, then another for some.

use std::time::{Duration, Instant};

use gridgate_protocol::agent_api::PublishedProfile;
use gridgate_protocol::node_profile::{Content, File};
use gridgate_protocol::site_api::ApiError;

use super::Rehearsal;
use crate::{disks, services};

impl Rehearsal {
    /// Publishes every node's profile; gives the nodes' names and their agents' tokens.
    pub fn agents(&self) -> Result<Vec<(String, String)>, Box<ApiError>> {
        let wanted = self.wanted()?;
        let agent = |node: &gridgate_profile::CompiledNode| {
            services::publish_node(&self.site, node, None)?;
            Ok((node.name.clone(), disks::token(&self.site.dir.node(&node.name))?))
        };
        wanted.compiled.nodes.iter().map(agent).collect()
    }

    /// Waits until the agents of `nodes` report what is published for them as applied; gives, for each, how
    /// long after the call that was heard, in the order in which it was.
    pub async fn applied(&self, nodes: &[String]) -> Vec<Duration> {
        let began = Instant::now();
        let mut changes = self.site.links.watch();
        let mut waited: Vec<&String> = nodes.iter().collect();
        let mut times = Vec::new();
        loop {
            changes.mark_unchanged();
            waited.retain(|node| !self.has_applied(node));
            times.resize(nodes.len() - waited.len(), began.elapsed());
            if waited.is_empty() || changes.changed().await.is_err() {
                return times;
            }
        }
    }

    fn has_applied(&self, node: &str) -> bool {
        let links = &self.site.links;
        let (published, heard) = (links.published(node), links.heard(node));
        published
            .zip(heard)
            .is_some_and(|(published, heard)| heard.report.applied == Some(published.version))
    }

    /// Publishes another profile for each of `nodes`: one file has another content.
    pub fn publish_news(&self, nodes: &[String], content: &str) -> Result<(), Box<ApiError>> {
        for node in nodes {
            let Some(published) = self.site.links.published(node) else { continue };
            let mut profile = published.profile;
            profile.files.retain(|file| file.path != NEWS);
            profile.files.push(news(content));
            let published =
                PublishedProfile { version: profile.version(), profile, packages: None };
            let token = disks::token(&self.site.dir.node(node))?;
            self.site.links.publish(token, published, None);
        }
        Ok(())
    }
}

const NEWS: &str = "/etc/news";

fn news(content: &str) -> File {
    File {
        path: NEWS.into(),
        content: Content::Text(content.into()),
        owner: "root".into(),
        group: "root".into(),
        mode: 0o644,
        component: "rehearsal".into(),
    }
}
