//! What probes have found of the VMMs on this host, kept in the home with the reason why it may be trusted.
//!
//! It is about the host, not about sites: it is not part of the depot and is never carried elsewhere.

use std::fmt;

use gridgate_protocol::site_api::{AcceleratorName, VmmName};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::home::{Home, write_atomic};
use crate::host::Ground;

/// After this time a verdict is not trusted, whatever else is the same.
const AGE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How a verdict names a QEMU that is the host's own.
pub const HOST_QEMU: &str = "the host's QEMU";

/// A VMM together with what runs its guests' instructions: what a probe proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Xen.
    Xen,
    /// QEMU with KVM.
    Kvm,
    /// User-Mode Linux.
    Uml,
    /// QEMU's emulation.
    Tcg,
}

impl Engine {
    /// Best first. What is measured here and elsewhere: a guest of Xen or KVM runs at nearly the processor's
    /// speed; User-Mode Linux computes as fast but pays for each system call; emulation pays for everything.
    pub const ALL: [Engine; 4] = [Engine::Xen, Engine::Kvm, Engine::Uml, Engine::Tcg];

    /// VMM and accelerator, as a request names them.
    pub fn names(self) -> (VmmName, Option<AcceleratorName>) {
        match self {
            Engine::Xen => (VmmName::Xen, None),
            Engine::Kvm => (VmmName::Qemu, Some(AcceleratorName::Kvm)),
            Engine::Uml => (VmmName::Uml, None),
            Engine::Tcg => (VmmName::Qemu, Some(AcceleratorName::Tcg)),
        }
    }

    /// The VMM, as a profile names it.
    pub fn vmm(self) -> &'static str {
        self.names().0.word()
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names().1 {
            Some(accelerator) => write!(f, "{} ({})", self.vmm(), accelerator.word()),
            None => f.write_str(self.vmm()),
        }
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It booted a kernel.
    Proven {
        /// The kernel's release.
        release: String,
        /// From the start to the kernel's asking for its root file system, milliseconds.
        boot_ms: u64,
    },
    /// It did not.
    Failed {
        /// Why, in words.
        reason: String,
    },
}

/// A probe's result and what it stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Of what.
    pub engine: Engine,
    /// What was found.
    pub finding: Finding,
    /// When.
    pub at: Timestamp,
    /// How long the probe took, milliseconds.
    pub millis: u64,
    /// What the host was.
    pub ground: Ground,
    /// Packages of VMM and kernel, `name version`; a QEMU that is the host's own by its version and its tree in the depot.
    pub packages: Vec<String>,
}

/// All verdicts of a home.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    verdicts: Vec<Verdict>,
}

impl Verdicts {
    /// Those that were kept. An unreadable file is no verdict.
    pub fn load(home: &Home) -> Verdicts {
        let read = std::fs::read(home.verdicts()).ok();
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Keeps a new verdict in place of an older one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(home: &Home, verdict: Verdict) -> std::io::Result<()> {
        let mut all = Verdicts::load(home);
        all.verdicts.retain(|old| old.engine != verdict.engine);
        all.verdicts.push(verdict);
        let json = serde_json::to_vec_pretty(&all).map_err(std::io::Error::other)?;
        write_atomic(&home.verdicts(), &json)
    }

    /// The verdict on an engine, if it may be trusted. `packages` are those at hand now; none known: not compared.
    ///
    /// # Errors
    /// Why there is none to trust.
    pub fn trusted(
        &self,
        engine: Engine,
        ground: &Ground,
        packages: &[String],
        now: Timestamp,
    ) -> Result<&Verdict, String> {
        let found = self.verdicts.iter().find(|verdict| verdict.engine == engine);
        let verdict = found.ok_or_else(|| "not tried yet".to_owned())?;
        if let Some(difference) = verdict.ground.difference(ground) {
            return Err(format!("the last verdict counts no more: {difference}"));
        }
        if !packages.is_empty() && packages != verdict.packages {
            return Err(
                "the last verdict counts no more: it was of another VMM or kernel".to_owned()
            );
        }
        if now.duration_since(verdict.at) > AGE {
            return Err("the last verdict is older than 30 days".to_owned());
        }
        Ok(verdict)
    }
}

impl Verdict {
    /// Why it may be trusted.
    pub fn trust(&self, now: Timestamp) -> String {
        let age = now.duration_since(self.at);
        let ago = match (age.as_hours() / 24, age.as_hours(), age.as_mins()) {
            (0, 0, 0..2) => "just now".to_owned(),
            (0, 0, minutes) => format!("{minutes} minutes ago"),
            (0, hours, _) => format!("{hours} h ago"),
            (days, ..) => format!("{days} days ago"),
        };
        format!("tried {ago}; kernel, processor, /dev/kvm and packages are the same since")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(ground: Ground, at: Timestamp) -> Verdict {
        let finding = Finding::Failed { reason: "stalled".into() };
        Verdict { engine: Engine::Kvm, finding, at, millis: 3000, ground, packages: vec![] }
    }

    #[test]
    fn a_verdict_counts_as_long_as_the_host_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let (ground, now) = (Ground::now(), Timestamp::now());
        let none = Verdicts::load(&home);
        assert_eq!(none.trusted(Engine::Kvm, &ground, &[], now), Err("not tried yet".into()));

        Verdicts::keep(&home, verdict(ground.clone(), now)).unwrap();
        let kept = Verdicts::load(&home);
        assert!(kept.trusted(Engine::Kvm, &ground, &[], now).is_ok());
        assert!(kept.trusted(Engine::Uml, &ground, &[], now).is_err());
        let newer = ["qemu-system-x86 11".to_owned()];
        assert!(kept.trusted(Engine::Kvm, &ground, &newer, now).is_err());

        let moved = Ground { kvm: Some("made anew".into()), ..ground.clone() };
        let why = kept.trusted(Engine::Kvm, &moved, &[], now).unwrap_err();
        assert!(why.contains("/dev/kvm was made anew"), "{why}");

        let later = now + SignedDuration::from_hours(31 * 24);
        assert!(kept.trusted(Engine::Kvm, &ground, &[], later).unwrap_err().contains("30 days"));
    }

    #[test]
    fn a_new_verdict_takes_the_place_of_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let (ground, now) = (Ground::now(), Timestamp::now());
        Verdicts::keep(&home, verdict(ground.clone(), now)).unwrap();
        let proven = Finding::Proven { release: "7".into(), boot_ms: 400 };
        let newer = Verdict { finding: proven, ..verdict(ground, now) };
        Verdicts::keep(&home, newer.clone()).unwrap();
        assert_eq!(Verdicts::load(&home), Verdicts { verdicts: vec![newer] });
    }
}
