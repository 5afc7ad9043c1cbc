//! `gridgate convert`: move a node to another VMM, with its disk as it is.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use gridgate_profile::{EditError, parse_site, set_vmm};
use gridgate_protocol::site_api::{AcceleratorName, ConvertRequest, ErrorKind, VmmName};

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

/// Move a node to another VMM, with its disk as it is
///
/// The node is stopped, started on the other VMM, and waited for until it is healthy. A later `up` keeps it
/// there. Where the profile names the node's VMM, --write changes the profile; without it the move is refused.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate convert ce --vmm qemu                     to QEMU: KVM where it was proven, else emulation
  gridgate convert ce --vmm qemu --accelerator tcg   to QEMU's emulation
  gridgate convert ce --vmm uml --write              to User-Mode Linux, and say so in the profile
  gridgate convert ce --vmm auto                     to the best that works on this host now")]
pub struct Convert {
    /// Node
    #[arg(value_parser = node_name)]
    node: String,
    /// Where to
    #[arg(long, value_enum, value_name = "VMM")]
    vmm: Vmm,
    /// How QEMU runs the guest's instructions
    #[arg(long, value_enum, value_name = "HOW")]
    accelerator: Option<Accelerator>,
    /// Name the VMM in the site profile too
    #[arg(long)]
    write: bool,
    /// Seconds for a stop in good order before the machine is killed [default: 30, more where machines are slow to come up]
    #[arg(long = "limit", value_name = "S")]
    limit: Option<u32>,
    /// Debian mirror, http://HOST/debian; default: the one the host's apt uses
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    #[command(flatten)]
    choice: SiteChoice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Vmm {
    /// The best that works on this host
    Auto,
    /// User-Mode Linux
    Uml,
    /// QEMU
    Qemu,
    /// Xen
    Xen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Accelerator {
    /// The processor, through Linux
    Kvm,
    /// Emulation
    Tcg,
}

impl Vmm {
    fn name(self) -> VmmName {
        match self {
            Vmm::Auto => VmmName::Auto,
            Vmm::Uml => VmmName::Uml,
            Vmm::Qemu => VmmName::Qemu,
            Vmm::Xen => VmmName::Xen,
        }
    }
}

impl Accelerator {
    fn name(self) -> AcceleratorName {
        match self {
            Accelerator::Kvm => AcceleratorName::Kvm,
            Accelerator::Tcg => AcceleratorName::Tcg,
        }
    }
}

impl Convert {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        if self.accelerator.is_some() && self.vmm != Vmm::Qemu {
            return Err(Failure::input("only QEMU has an accelerator").hint("--vmm qemu"));
        }
        let request = self.request();
        let node = &self.node;
        let task = Task {
            name: format!("convert {node}"),
            again: format!(
                "convert {node} --vmm {}{}",
                self.vmm.name().word(),
                self.choice.words()
            ),
        };
        with_daemon(settings, async |client: &Client| {
            let site = self.choice.resolve(client).await?;
            if self.write {
                self.write_profile(&client.site(&site).await?.profile, settings)?;
            }
            let path = node_path(&site, node, "convert");
            let ended = follow(settings, &task, client.events(&path, &request).await?).await?;
            if settings.json {
                return Ok(Exit::OK);
            }
            let status = ended.status.iter().flat_map(|status| &status.nodes);
            let Some(status) = status.clone().find(|status| status.name == *node) else {
                return Ok(Exit::OK);
            };
            let note = if ended.changed { "" } else { " (it was there already)" };
            screen::line(&format!(
                "{node}: {} on {} after {}{note}",
                nodes::state(status.state).0,
                status.vmm,
                millis(ended.millis)
            ));
            Ok(Exit::OK)
        })
    }

    fn request(&self) -> ConvertRequest {
        ConvertRequest {
            vmm: self.vmm.name(),
            accelerator: self.accelerator.map(Accelerator::name),
            write: self.write,
            limit_s: self.limit,
            mirror: self.mirror.clone(),
            environment: environment(),
        }
    }

    /// Changes the administrator's file, unless that would make it faulty.
    fn write_profile(&self, path: &Path, settings: &Settings) -> Result<(), Failure> {
        let mut source = read_source(path)?;
        let vmm = self.vmm.name().word();
        let accelerator = self.accelerator.map(|accelerator| accelerator.name().word());
        source.text =
            set_vmm(&source.text, &self.node, vmm, accelerator).map_err(|e| refused(&e, vmm))?;
        if let Err(faults) = parse_site(&site_files(&source)) {
            screen::error(&faults.render(settings.error_style.color()));
            return Err(Failure::Shown(ErrorKind::Input));
        }
        replace(path, &source.text).map_err(|e| {
            Failure::host(format!("{} cannot be written", path.display())).because(&e)
        })?;
        if !settings.json && !settings.quiet {
            let node = &self.node;
            screen::line(&format!("wrote vmm = \"{vmm}\" to [nodes.{node}] in {}", path.display()));
        }
        Ok(())
    }
}

fn refused(error: &EditError, vmm: &str) -> Failure {
    let refused = Failure::input("the profile cannot name this node's VMM").because(error);
    match error {
        EditError::Counted { entry, .. } => {
            refused.hint(format!("write vmm = \"{vmm}\" into [nodes.{entry}], for all of them"))
        }
        _ => refused.hint("change the profile by hand, then `gridgate up`"),
    }
}

/// Replaces a file's text at once, keeping its permissions; a link stays a link.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path: PathBuf = path.canonicalize()?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut file = File::create(&temporary)?;
    file.set_permissions(fs::metadata(&path)?.permissions())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, &path)
}
