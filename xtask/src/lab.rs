//! A real hypervisor on any computer: a nested one in QEMU's emulation, with Debian's Xen and a
//! privileged Debian domain, or with KVM on the emulated processor's own virtualisation (SVM),
//! in which a command of ours runs. Nothing is installed on the host, nothing stays but the
//! cache below `target/lab`.
//!
//! ```text
//! parts ─depot▶ root image, Xen, kernel, QEMU ─┐
//! initramfs ── modules in order, scripts ──────┼─▶ boot ─▶ QEMU ── output port ──▶ standard output
//! payload ─── files at their host's paths ─────┘            └───── status port ──▶ exit code
//! ```
//! | module | what |
//! |---|---|
//! | `parts` | what the lab is made of, through the depot |
//! | `modules` | kernel modules in the order in which they are loaded |
//! | `initramfs` | cpio archives |
//! | `payload` | what is carried into one run |
//! | `guest` | a kernel and an initramfs for guest domains |
//! | `boot` | one run of the nested computer |
//! | `suite` | `test`: the conformance suite inside |
//! | `site` | `site`: gridgate and a site inside |

mod boot;
mod guest;
mod initramfs;
mod modules;
mod parts;
mod payload;
mod site;
mod suite;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub(crate) use boot::qemu_main;

/// What runs the guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hypervisor {
    #[default]
    Xen,
    Kvm,
}

impl Hypervisor {
    /// How its lab is called.
    fn command(self) -> &'static str {
        match self {
            Self::Xen => "cargo xtask xen-lab",
            Self::Kvm => "cargo xtask kvm-lab",
        }
    }

    /// How names of its promises begin.
    fn promises(self) -> &'static str {
        match self {
            Self::Xen => "xen_",
            Self::Kvm => "kvm_",
        }
    }

    /// Processors of the nested computer, and tests at once. With two that have guests under KVM it ended by itself two times,
    /// without a word, and stood still once; why is not known.
    fn processors(self) -> u8 {
        match self {
            Self::Xen => 2,
            Self::Kvm => 1,
        }
    }

    /// The profile's word for a node that it runs.
    fn vmm(self) -> &'static str {
        match self {
            Self::Xen => "xen",
            Self::Kvm => "qemu",
        }
    }
}

/// A nested computer with a real hypervisor, for developing and testing.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs a command in it, with Xen in the privileged domain; its output and exit code are those of this command
    #[command(
        after_help = "Examples: cargo xtask xen-lab run -- xl info\n          cargo xtask kvm-lab run -- ls -l /dev/kvm"
    )]
    Run {
        #[command(flatten)]
        lab: Lab,
        #[command(flatten)]
        carried: Carried,
        /// The command and its arguments
        #[arg(required = true, last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Runs the machine crate's conformance suite there
    #[command(
        after_help = "Examples: cargo xtask xen-lab test -- xen_pv::kills\n          cargo xtask kvm-lab test -- kvm_microvm::kills"
    )]
    Test {
        #[command(flatten)]
        lab: Lab,
        /// Arguments of the test program, such as a test's name
        #[arg(last = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
    /// Fills a depot for a site here, and runs gridgate with it there
    #[command(
        after_help = "Example: cargo xtask xen-lab site site.toml -- gridgate install one --profile site.toml"
    )]
    Site {
        #[command(flatten)]
        lab: Lab,
        /// Also fills the depot for nodes on this VMM whose profile leaves it open
        #[arg(long = "vmm", value_name = "VMM")]
        vmms: Vec<String>,
        /// The site profile; it is carried into the lab, at the same absolute path
        profile: PathBuf,
        /// The command and its arguments; without it `gridgate up` with the profile
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Opens a shell in it, on this terminal
    #[command(after_help = "`exit` ends the shell and the lab.")]
    Shell {
        #[command(flatten)]
        lab: Lab,
        #[command(flatten)]
        carried: Carried,
    },
}

/// What is carried into the lab.
#[derive(Debug, Args)]
struct Carried {
    /// Files that are carried into the lab, at the same absolute path
    #[arg(long = "with", value_name = "FILE")]
    with: Vec<PathBuf>,
    /// Also carries a kernel and an initramfs for guests (and QEMU, for KVM), to /lab/guest
    #[arg(long)]
    guest: bool,
}

/// The nested computer.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Lab {
    #[arg(skip)]
    hypervisor: Hypervisor,
    /// Memory of the nested computer, MiB
    #[arg(long, default_value_t = 1152)]
    memory: u32,
    /// Memory of Xen's privileged domain, MiB; guests get the rest [default: 512]
    #[arg(long)]
    domain_memory: Option<u32>,
    /// Processors of the nested computer; Xen's privileged domain has one of them [default: 2, with KVM 1]
    #[arg(long)]
    cpus: Option<u8>,
    /// Give it XSAVE: User-Mode Linux needs it there (KVM's has it always)
    #[arg(long)]
    xsave: bool,
}

impl Lab {
    fn of(self, hypervisor: Hypervisor) -> Result<Self> {
        if hypervisor == Hypervisor::Kvm && self.domain_memory.is_some() {
            bail!("--domain-memory: a computer with KVM has no privileged domain");
        }
        Ok(Self { hypervisor, ..self })
    }
}

/// `cargo xtask xen-lab …`, `cargo xtask kvm-lab …`; the exit code.
pub(crate) fn main(hypervisor: Hypervisor, arguments: &[OsString]) -> Result<i32> {
    let name = hypervisor.command();
    let words = std::iter::once(OsString::from(name)).chain(arguments.iter().cloned());
    let found = Cli::command().name(name).bin_name(name).get_matches_from(words);
    match Cli::from_arg_matches(&found).unwrap_or_else(|error| error.exit()).task {
        Task::Run { lab, carried, command } => {
            let script = payload::script(&command)?;
            run(lab.of(hypervisor)?, &carried, &script, boot::Mode::Command)
        }
        Task::Test { lab, arguments } => suite::run(lab.of(hypervisor)?, &arguments),
        Task::Site { lab, vmms, profile, command } => {
            site::run(lab.of(hypervisor)?, &profile, &vmms, &command)
        }
        Task::Shell { lab, carried } => {
            run(lab.of(hypervisor)?, &carried, "exec sh -i\n", boot::Mode::Terminal)
        }
    }
}

/// Runs a script in the lab; its exit code.
fn run(lab: Lab, carried: &Carried, script: &str, mode: boot::Mode) -> Result<i32> {
    let parts = parts::get()?;
    let mut files = carried.with.iter().map(payload::Entry::same).collect::<Result<Vec<_>>>()?;
    if carried.guest {
        files.extend(guest::entries(lab.hypervisor, &parts)?);
    }
    boot::run(&parts, lab, payload::write(&files, script)?.into(), mode)
}

/// `target/lab`, made if missing.
fn cache() -> Result<PathBuf> {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")),
    };
    let cache = target.join("lab");
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    cache.canonicalize().with_context(|| format!("cannot find {}", cache.display()))
}
