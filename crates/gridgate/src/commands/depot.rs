//! `gridgate depot`: the store of packages and images that all sites of a home share.
//!
//! All of it goes through the daemon: it alone knows what the sites need, and keeps work in the depot and
//! work on sites out of each other's way.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use gridgate_protocol::depot_api::{
    ExportRequest, FillRequest, GcRequest, ImportRequest, VerifyRequest,
};
use gridgate_protocol::site_api::VmmName;
use serde::Serialize;

use crate::commands::target::SiteChoice;
use crate::commands::up::environment;
use crate::daemon::client::Client;
use crate::daemon::follow::{Task, follow};
use crate::daemon::with_daemon;
use crate::failure::{Exit, Failure, Outcome};
use crate::settings::Settings;

/// The store of packages, kernels and images
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate depot fill site.toml            fetch and make what a site needs
  gridgate depot export dublin.gridgate    all software of a site as one file
  gridgate depot import dublin.gridgate    take it in where there is no network
  gridgate depot gc --dry-run              what no site needs any more
  gridgate depot verify --mend             find damage and mend it")]
pub struct Depot {
    #[command(subcommand)]
    command: DepotCommand,
}

#[derive(Subcommand, Debug)]
enum DepotCommand {
    Fill(Fill),
    Export(Export),
    Import(Import),
    Gc(Gc),
    Verify(Verify),
}

/// Fetch and make all software of a site, and touch no node
///
/// Packages, role images and their pieces, kernels and VMMs; the packages are locked. The nodes need not be able to run
/// on this host.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate depot fill site.toml            for nodes that run on this host
  gridgate depot fill site.toml --vmm xen  for a host on which `vmm = \"auto\"` comes to Xen")]
struct Fill {
    /// Site profile
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What nodes shall run on whose profile leaves it open; several may be given [default: as on this host]
    #[arg(long = "vmm", value_enum, value_name = "VMM")]
    vmms: Vec<FillVmm>,
    /// Debian mirror, http://HOST/debian; default: the one the host's apt uses
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FillVmm {
    /// User-Mode Linux
    Uml,
    /// QEMU
    Qemu,
    /// Xen
    Xen,
}

impl FillVmm {
    fn name(self) -> VmmName {
        match self {
            FillVmm::Uml => VmmName::Uml,
            FillVmm::Qemu => VmmName::Qemu,
            FillVmm::Xen => VmmName::Xen,
        }
    }
}

/// Write what a site needs to one file, for a host without a network
///
/// The file is a tar archive of Debian's packages and signed indexes, the site's lock and its profile. It holds
/// no secret of the site.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  gridgate depot export dublin.gridgate --site dublin")]
struct Export {
    /// The new file
    file: PathBuf,
    #[command(flatten)]
    choice: SiteChoice,
}

/// Take in what another host exported
///
/// Every hash and Debian's signatures are checked before anything of it counts.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  gridgate depot import dublin.gridgate")]
struct Import {
    /// The file
    file: PathBuf,
}

/// Remove what no site needs any more
///
/// Kept is what a lock (earlier ones too), a node, its profile or a running machine needs.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  gridgate depot gc --dry-run")]
struct Gc {
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

/// Read everything again and say what is damaged
///
/// Exit code 3 when something is damaged and was not mended.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  gridgate depot verify --mend")]
struct Verify {
    /// Remove what is damaged; packages are fetched again, the rest is made again when it is needed
    #[arg(long)]
    mend: bool,
    /// Debian mirror, http://HOST/debian; default: the one the host's apt uses
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

impl Depot {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        with_daemon(settings, async |client: &Client| match self.command {
            DepotCommand::Fill(fill) => {
                let source = crate::commands::profile::read_source(&fill.file)?;
                let request = FillRequest {
                    source,
                    vmms: fill.vmms.into_iter().map(FillVmm::name).collect(),
                    mirror: fill.mirror,
                    environment: environment(),
                };
                ask(settings, client, "fill", &request).await
            }
            DepotCommand::Export(export) => {
                let site = export.choice.resolve(client).await?;
                let request = ExportRequest { site, file: absolute(&export.file)? };
                ask(settings, client, "export", &request).await
            }
            DepotCommand::Import(import) => {
                let request = ImportRequest { file: absolute(&import.file)? };
                ask(settings, client, "import", &request).await
            }
            DepotCommand::Gc(gc) => {
                ask(settings, client, "gc", &GcRequest { dry_run: gc.dry_run }).await
            }
            DepotCommand::Verify(verify) => {
                let Verify { mend, mirror } = verify;
                let request = VerifyRequest { mend, mirror, environment: environment() };
                ask(settings, client, "verify", &request).await
            }
        })
    }
}

async fn ask(
    settings: &Settings,
    client: &Client,
    what: &str,
    request: &impl Serialize,
) -> Outcome {
    let name = format!("depot {what}");
    let task = Task { name: name.clone(), again: name };
    follow(settings, &task, client.events(&format!("/v1/depot/{what}"), request).await?).await?;
    Ok(Exit::OK)
}

/// The daemon runs in another folder.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|e| Failure::input(format!("{} is not a path", path.display())).because(&e))
}
