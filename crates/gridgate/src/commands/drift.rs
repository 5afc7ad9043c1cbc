//! `gridgate drift` and `gridgate reconcile`: how nodes differ from their profiles, and putting that back.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use gridgate_protocol::drift::{DRIFT_EXIT_CODE, DriftCommand, DriftReport};
use gridgate_protocol::site_api::{ApiError, ErrorKind, NodeStatus};
use serde::Serialize;

use crate::commands::target::{SiteChoice, node_name, node_path};
use crate::daemon::client::Client;
use crate::daemon::with_daemon;
use crate::failure::{Exit, Failure, INTERRUPTED, Outcome};
use crate::settings::Settings;
use crate::show::{drift, screen};

/// How often `--watch` looks at the status.
const EVERY: Duration = Duration::from_secs(1);

/// Show what was changed by hand on nodes, with the difference of each file
///
/// Compares files, links, directories, users, units and the versions of packages with what the node's agent applied;
/// changes nothing. Of secrets only is said that they differ. Exit code 8 when something differs, 4 when a node could
/// not be asked.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate drift                 all nodes
  gridgate drift ce              one node
  gridgate drift ce --packages   also every file of every package; takes a while
  gridgate drift --json          for programs; see docs/staying.md")]
pub struct Drift {
    /// Node; all when not given
    #[arg(value_parser = node_name)]
    node: Option<String>,
    #[command(flatten)]
    choice: SiteChoice,
    /// Also compare the files of all packages with the sums that their packages brought
    #[arg(long)]
    packages: bool,
}

/// Put back what was changed by hand on a node
///
/// The node's agent applies its profile again, looking at everything: also packages of another version and packages
/// that nobody asked for. Shows what differed and what was changed.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate drift ce && echo nothing to do
  gridgate reconcile ce
  gridgate reconcile --all
  gridgate reconcile --all --watch   show what agents put back by themselves")]
pub struct Reconcile {
    /// Node
    #[arg(value_parser = node_name, required_unless_present = "all", conflicts_with = "all")]
    node: Option<String>,
    /// All nodes of the site
    #[arg(long)]
    all: bool,
    /// Show what is put back as it happens, until Ctrl-C; for nodes whose profile has `reconcile = "watch"`
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    choice: SiteChoice,
}

/// What came of one node.
#[derive(Debug, Serialize)]
pub struct NodeDrift {
    /// Node.
    pub node: String,
    /// What was found; none when the node could not be asked.
    pub report: Option<DriftReport>,
    /// Why it could not be asked.
    pub error: Option<ApiError>,
}

#[derive(Serialize)]
struct All<'a> {
    nodes: &'a [NodeDrift],
}

impl Drift {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let command = DriftCommand { put_back: false, package_files: self.packages };
        let found = ask(settings, &self.choice, self.node, command)?;
        show(&found, settings);
        verdict(&found, settings, |report| {
            if report.drifts.is_empty() { Exit::OK } else { Exit(DRIFT_EXIT_CODE) }
        })
    }
}

impl Reconcile {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        if self.watch {
            return watch(settings, &self.choice, self.node.as_deref());
        }
        let command = DriftCommand { put_back: true, package_files: false };
        let found = ask(settings, &self.choice, self.node, command)?;
        show(&found, settings);
        let failed = Exit(ErrorKind::Node.exit_code());
        verdict(
            &found,
            settings,
            |report| if drift::put_back_failed(report) { failed } else { Exit::OK },
        )
    }
}

/// Shows what agents put back by themselves, as their status tells it.
fn watch(settings: &Settings, choice: &SiteChoice, node: Option<&str>) -> Outcome {
    with_daemon(settings, async |client: &Client| {
        let site = choice.resolve(client).await?;
        let status = client.site(&site).await?;
        let chosen = |name: &str| node.is_none_or(|node| node == name);
        let watched = |one: &NodeStatus| chosen(&one.name) && !one.staying.reconcile.is_off();
        if !status.nodes.iter().any(watched) {
            return Err(Failure::input("no node of those puts back anything by itself").hint(
                "`reconcile = \"watch\"` under [site], a role or a node, then `gridgate up`",
            ));
        }
        let follow = async {
            let mut ticks = tokio::time::interval(EVERY);
            let mut told: BTreeMap<String, u64> = BTreeMap::new();
            loop {
                ticks.tick().await;
                for node in client.site(&site).await?.nodes.into_iter().filter(watched) {
                    let put_back = &node.staying.put_back;
                    let before = told.insert(node.name.clone(), put_back.count);
                    // A count that fell is that of an agent which began anew.
                    let before = before.filter(|before| *before <= put_back.count).unwrap_or(0);
                    drift::followed(&node.name, put_back, before, settings);
                }
            }
        };
        tokio::select! {
            ended = follow => ended,
            _ = tokio::signal::ctrl_c() => Ok(Exit(INTERRUPTED)),
        }
    })
}

/// Asks one node or all at once.
fn ask(
    settings: &Settings,
    choice: &SiteChoice,
    node: Option<String>,
    command: DriftCommand,
) -> Result<Vec<NodeDrift>, Failure> {
    with_daemon(settings, async |client: &Client| {
        let site = choice.resolve(client).await?;
        if let Some(node) = node {
            let report = client.post(&node_path(&site, &node, "drift"), &command).await?;
            return Ok(vec![NodeDrift { node, report: Some(report), error: None }]);
        }
        let status = client.site(&site).await?;
        let asked: Vec<_> = status
            .nodes
            .into_iter()
            .map(|node| {
                let (client, path) = (client.clone(), node_path(&site, &node.name, "drift"));
                let answer = async move { client.post::<DriftReport>(&path, &command).await };
                (node.name, tokio::spawn(answer))
            })
            .collect();
        let mut found = Vec::new();
        for (node, answer) in asked {
            let answer =
                answer.await.map_err(|e| Failure::internal("a request ended early").because(&e))?;
            found.push(match answer {
                Ok(report) => NodeDrift { node, report: Some(report), error: None },
                Err(Failure::Error(error)) => NodeDrift { node, report: None, error: Some(*error) },
                Err(other) => return Err(other),
            });
        }
        Ok(found)
    })
}

fn show(found: &[NodeDrift], settings: &Settings) {
    if settings.json {
        screen::json(&All { nodes: found });
    } else {
        screen::text(&drift::nodes(found, settings.style));
    }
}

/// The worst of all nodes.
fn verdict(
    found: &[NodeDrift],
    settings: &Settings,
    judge: impl Fn(&DriftReport) -> Exit,
) -> Outcome {
    let unasked = found.iter().filter_map(|node| node.error.as_ref()).next();
    if let Some(error) = unasked {
        if settings.json {
            return Err(Failure::Shown(ErrorKind::Node));
        }
        return Err(error.clone().into());
    }
    let codes = found.iter().filter_map(|node| node.report.as_ref()).map(|report| judge(report).0);
    Ok(Exit(codes.max().unwrap_or(0)))
}
