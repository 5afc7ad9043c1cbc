//! The VMMs of this host as findings: which works, how fast, and what would add the others.

use std::collections::BTreeMap;
use std::path::Path;

use gridgate_depot::{DepotEvent, Progress};
use gridgate_server::probing::{self, Effort, Look};
use gridgate_server::verdicts::{Engine, Finding as Found, HOST_QEMU, Verdict as Tried};
use serde::Serialize;

use super::{Finding, Verdict};
use crate::show::figures::millis;
use crate::show::screen;

/// What a probe came to, for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Probe {
    /// It booted a kernel.
    Proven {
        /// The kernel's release.
        release: String,
        /// From the start to the kernel's asking for its root file system, milliseconds.
        boot_ms: u64,
        /// When, RFC 3339.
        at: String,
        /// What it was tried with: packages of VMM and kernel, or the host's own QEMU.
        packages: Vec<String>,
        /// Why an earlier result counts; none when it was tried now.
        trust: Option<String>,
    },
    /// It did not.
    Failed {
        /// Why.
        reason: String,
        /// How long the probe took, milliseconds.
        millis: u64,
        /// When, RFC 3339.
        at: String,
        /// What it was tried with: packages of VMM and kernel, or the host's own QEMU.
        packages: Vec<String>,
        /// Why an earlier result counts; none when it was tried now.
        trust: Option<String>,
    },
    /// The host has not what it needs.
    Lacking,
    /// Its packages are not in the depot.
    NotFetched,
    /// It could not be tried.
    Untried,
}

/// How doctor was asked to look.
pub struct Asked<'a> {
    /// The home.
    pub home: &'a Path,
    /// Debian mirror given on the command line.
    pub mirror: Option<&'a str>,
    /// What our environment says of mirror and proxies.
    pub environment: BTreeMap<String, String>,
    /// How closely.
    pub effort: Effort,
    /// Whether to say what is being done.
    pub say: bool,
}

/// Every VMM, best first, and what `vmm = "auto"` comes to.
pub fn all(asked: &Asked<'_>) -> Vec<Finding> {
    if !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    let progress = Saying(asked.say);
    let (mirror, environment) = (asked.mirror, &asked.environment);
    let looks = probing::look(asked.home, mirror, environment, asked.effort, &progress);
    let mut findings: Vec<Finding> = looks.iter().map(|(engine, look)| of(*engine, look)).collect();
    findings.push(auto(asked.home));
    findings
}

/// Says on standard error what is fetched.
struct Saying(bool);

impl Progress for Saying {
    fn event(&self, event: DepotEvent) {
        let DepotEvent::StageStarted { subject, stage, .. } = event else { return };
        if self.0 {
            screen::error(&format!("{subject}: {} …\n", stage.word()));
        }
    }
}

fn of(engine: Engine, look: &Look) -> Finding {
    let (verdict, seen, mend, probe) = match look {
        Look::Tried(tried, trust) => {
            let (at, packages) = (tried.at.to_string(), tried.packages.clone());
            let ago = trust.as_ref().map(|trust| format!(" ({trust})")).unwrap_or_default();
            match &tried.finding {
                Found::Proven { release, boot_ms } => (
                    Verdict::Ok,
                    format!("Linux {release} is up after {}{}{ago}", millis(*boot_ms), with(tried)),
                    None,
                    Probe::Proven {
                        release: release.clone(),
                        boot_ms: *boot_ms,
                        at,
                        packages,
                        trust: trust.clone(),
                    },
                ),
                Found::Failed { reason } => (
                    Verdict::Optional,
                    format!("does not work here{}: {reason}{ago}", with(tried)),
                    Some(cure(engine).to_owned()),
                    Probe::Failed {
                        reason: reason.clone(),
                        millis: tried.millis,
                        at,
                        packages,
                        trust: trust.clone(),
                    },
                ),
            }
        }
        Look::Lacking(lack) => {
            (Verdict::Optional, lack.clone(), Some(adds(engine).to_owned()), Probe::Lacking)
        }
        Look::NotFetched => (
            Verdict::Optional,
            "not tried: it is not in the depot".to_owned(),
            Some("gridgate doctor --fresh fetches it and tries".to_owned()),
            Probe::NotFetched,
        ),
        Look::Untried(failure) => {
            let seen = [vec![failure.what.clone()], failure.why.clone()].concat().join(": ");
            (Verdict::Optional, seen, failure.hint.clone(), Probe::Untried)
        }
    };
    Finding { name: name(engine), verdict, seen, mend, probe: Some(probe) }
}

/// Says that it is the host's own QEMU; the depot's needs no words.
fn with(tried: &Tried) -> String {
    let own = tried.packages.iter().find_map(|name| name.strip_prefix(HOST_QEMU));
    let version = own.and_then(|rest| rest.split_whitespace().next());
    version.map(|version| format!(", with {HOST_QEMU} {version}")).unwrap_or_default()
}

/// What `vmm = "auto"` comes to; without anything, no node can run.
fn auto(home: &Path) -> Finding {
    let name = "vmm = \"auto\"";
    let (one, many) = probing::best(home);
    let (verdict, seen, mend) = match (one, many) {
        (Some(one), Some(many)) if one != many => {
            (Verdict::Ok, format!("{one}; {many} for a node with several CPUs"), None)
        }
        (Some(one), _) => (Verdict::Ok, one.to_string(), None),
        (None, _) => (
            Verdict::Missing,
            "nothing here can run a node".to_owned(),
            Some("gridgate doctor --fresh tries again".to_owned()),
        ),
    };
    Finding { name, verdict, seen, mend, probe: None }
}

fn name(engine: Engine) -> &'static str {
    match engine {
        Engine::Xen => "Xen",
        Engine::Kvm => "QEMU, KVM",
        Engine::Uml => "User-Mode Linux",
        Engine::Tcg => "QEMU, emulation",
    }
}

/// What would add what an engine lacks.
fn adds(engine: Engine) -> &'static str {
    match engine {
        Engine::Xen => "apt install xen-system-amd64, then boot this host on Xen",
        Engine::Kvm => {
            "modprobe kvm_intel, or kvm_amd; in a virtual machine its host must allow nested virtualisation"
        }
        Engine::Uml | Engine::Tcg => "gridgate doctor --fresh",
    }
}

/// What may help an engine that is there and does not work.
fn cure(engine: Engine) -> &'static str {
    match engine {
        Engine::Kvm => {
            "needs a processor whose virtualisation works: not inside a virtual machine, or nested by its host; \
             the other VMMs do not need it"
        }
        Engine::Xen => "xl info, and the logs in /var/log/xen",
        Engine::Uml | Engine::Tcg => {
            "gridgate doctor --fresh tries again; gridgate --json doctor tells more"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_lacks_comes_with_what_adds_it() {
        let finding = of(Engine::Kvm, &Look::Lacking("there is no /dev/kvm".into()));
        assert_eq!(finding.verdict, Verdict::Optional);
        assert_eq!(finding.seen, "there is no /dev/kvm");
        assert!(finding.mend.is_some_and(|mend| mend.starts_with("modprobe kvm_intel")));
        let json = serde_json::to_value(of(Engine::Uml, &Look::NotFetched)).expect("JSON");
        assert_eq!(json["probe"]["result"], "not_fetched");
    }
}
