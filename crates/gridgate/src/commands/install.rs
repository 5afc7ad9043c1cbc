//! `gridgate install`: have a node install itself in its own machine.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gridgate_profile::parse_site;
use gridgate_protocol::install_api;
use gridgate_protocol::site_api::{InstallRequest, SiteSource};

use crate::commands::profile::{read_source, site_files};
use crate::commands::target::{SiteChoice, node_name, node_path};
use crate::commands::up::environment;
use crate::daemon::client::Client;
use crate::daemon::follow::{Task, follow};
use crate::daemon::with_daemon;
use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Settings;
use crate::show::figures::millis;
use crate::show::{nodes, screen};

/// Have a node install itself over the network, as a machine anywhere would
///
/// Its machine is stopped and started again with the installer in it, which fetches the node's profile, partitions the
/// disk and installs. What is on the disk is lost, but for data partitions: they are kept unless they are named after
/// --wipe-data. Each installation is kept in a log: gridgate install-log NODE.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate install ui                          the role image, streamed
  gridgate install ui --method packages        package by package
  gridgate install ui --resume                 go on with one that was interrupted, or watch it
  gridgate install se --wipe-data storage      also lose what is on the data partition storage
  gridgate install ui --profile site.toml      of a site that was not brought up before")]
pub struct Install {
    /// Node
    #[arg(value_parser = node_name)]
    node: String,
    /// How; image when not given
    #[arg(long, value_enum, value_name = "METHOD")]
    method: Option<Method>,
    /// Data partitions whose content may be lost
    #[arg(long, value_name = "NAME", num_args = 1..)]
    wipe_data: Vec<String>,
    /// Go on with the installation that is unfinished
    #[arg(long)]
    resume: bool,
    /// What the machine's clock shows at first, such as 2003-01-01T00:00:00Z: to see that a wrong one is put right (QEMU only)
    #[arg(long, value_name = "TIME")]
    clock: Option<jiff::Timestamp>,
    /// Site profile; without it, the site as it was last brought up
    #[arg(long, value_name = "FILE", conflicts_with = "site")]
    profile: Option<PathBuf>,
    /// Debian mirror, http://HOST/debian; default: the one the host's apt uses
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    #[command(flatten)]
    choice: SiteChoice,
}

/// How a node installs itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// The role image's used blocks
    Image,
    /// Debian packages, one by one
    Packages,
}

impl From<Method> for install_api::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Image => Self::Image,
            Method::Packages => Self::Packages,
        }
    }
}

impl Install {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let node = self.node.clone();
        let source = self.profile.as_deref().map(read_source).transpose()?;
        let site = source.as_ref().map(site_of).transpose()?;
        let choice = self.choice.clone();
        let words = match &site {
            Some(site) => format!(" --site {site}"),
            None => choice.words(),
        };
        let task = Task {
            name: format!("the installation of {node}"),
            again: format!("install {node} --resume{words}"),
        };
        let request = self.request(source);
        with_daemon(settings, async |client: &Client| {
            let site = match site {
                Some(site) => site,
                None => choice.resolve(client).await?,
            };
            let path = node_path(&site, &node, "install");
            let ended = follow(settings, &task, client.events(&path, &request).await?).await?;
            if settings.json {
                return Ok(Exit::OK);
            }
            let status = ended.status.iter().flat_map(|status| &status.nodes);
            let word = status.clone().find(|status| status.name == node);
            let word = word.map_or("done", |status| nodes::state(status.state).0);
            screen::line(&format!("{node}: installed and {word}, after {}", millis(ended.millis)));
            Ok(Exit::OK)
        })
    }

    fn request(self, source: Option<SiteSource>) -> InstallRequest {
        InstallRequest {
            method: self.method.map(Into::into),
            wipe_data: self.wipe_data,
            resume: self.resume,
            clock: self.clock.map(jiff::Timestamp::as_second),
            source,
            mirror: self.mirror,
            environment: environment(),
        }
    }
}

/// The name of the site that a profile describes.
fn site_of(source: &SiteSource) -> Result<String, Failure> {
    match parse_site(&site_files(source)) {
        Ok(site) => Ok(site.name),
        Err(faults) => Err(Failure::input("the site profile has faults; nothing was touched")
            .why(faults.render(false))),
    }
}
