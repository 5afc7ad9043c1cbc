//! On which VMM a node runs: what its profile names, else what it ran on before, else the best that works here.
//!
//! A pure decision on what is known; nothing is tried here. A node stays where it is: a verdict that comes or goes
//! moves no machine. `gridgate convert` moves one.

use gridgate_profile::{Accelerator, CompiledNode, Vmm};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::arrangement::Arrangement;
use crate::host::{Domain, Ground};
use crate::verdicts::{Engine, Finding, Verdicts};

/// How much an engine can be counted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has booted a kernel on this host.
    Proven,
    /// It needs nothing special of the host; a node's own boot will show.
    Likely,
    /// Nobody has tried; why.
    Unproven(String),
    /// It does not work here; why.
    Broken(String),
}

/// What is known of the engines on this host.
#[derive(Clone, Debug)]
pub struct Known {
    standings: Vec<(Engine, Standing)>,
}

/// That a node was moved by `gridgate convert`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Where to.
    pub engine: Engine,
    /// When.
    pub at: Timestamp,
}

/// What the node was on before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Where `gridgate convert` has put it.
    pub moved: Option<Engine>,
    /// What its machine was last started with, if it still has its disk.
    pub started: Option<Engine>,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What it runs on.
    pub engine: Engine,
    /// With which settings.
    pub arrangement: Arrangement,
    /// Why this one, when the profile left it open.
    pub why: Option<String>,
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.why {
            Some(why) => write!(f, "{} ({why})", self.engine),
            None => write!(f, "{}", self.engine),
        }
    }
}

impl Known {
    /// From what was found before and what the host is.
    pub fn new(ground: &Ground, verdicts: &Verdicts, now: Timestamp) -> Known {
        let standing = |engine| match lacking(engine, ground) {
            Some(lack) => Standing::Broken(lack.to_owned()),
            None => match verdicts.trusted(engine, ground, &[], now).map(|v| &v.finding) {
                Ok(Finding::Proven { .. }) => Standing::Proven,
                Ok(Finding::Failed { reason }) => Standing::Broken(reason.clone()),
                Err(_) if matches!(engine, Engine::Uml | Engine::Tcg) => Standing::Likely,
                Err(why) => Standing::Unproven(why),
            },
        };
        Known { standings: Engine::ALL.map(|engine| (engine, standing(engine))).to_vec() }
    }

    /// How one stands.
    pub fn of(&self, engine: Engine) -> &Standing {
        let found = self.standings.iter().find(|(known, _)| *known == engine);
        found.map_or(&Standing::Likely, |(_, standing)| standing)
    }
}

impl Known {
    /// Whether a node can be put there unasked.
    pub fn counted_on(&self, engine: Engine) -> bool {
        matches!(self.of(engine), Standing::Proven | Standing::Likely)
    }
}

/// What the host lacks for an engine, without trying.
pub fn lacking(engine: Engine, ground: &Ground) -> Option<&'static str> {
    match engine {
        Engine::Xen => match ground.xen {
            Domain::Privileged => None,
            Domain::Guest => Some("this host is a Xen guest without the right to make others"),
            Domain::None => Some("this host does not run on Xen"),
        },
        Engine::Kvm if ground.kvm.is_none() => Some("there is no /dev/kvm"),
        Engine::Kvm | Engine::Uml | Engine::Tcg => None,
    }
}

/// Decides.
///
/// # Errors
/// Why nothing that the profile allows works here.
pub fn choose(node: &CompiledNode, before: Before, known: &Known) -> Result<Choice, String> {
    let allowed = allowed(node);
    let choice =
        |engine, why| Choice { engine, arrangement: Arrangement::of_node(engine, node), why };
    if let [only] = allowed[..] {
        return match known.of(only) {
            Standing::Broken(why) => Err(format!("{only} is asked for, and {why}")),
            _ => Ok(choice(only, None)),
        };
    }
    let usable = |engine: &Engine| {
        allowed.contains(engine) && !matches!(known.of(*engine), Standing::Broken(_))
    };
    if let Some(engine) = before.moved.filter(&usable) {
        return Ok(choice(engine, Some("`gridgate convert` put it there".into())));
    }
    if let Some(engine) = before.started.filter(&usable) {
        return Ok(choice(engine, Some("as last time".into())));
    }
    match allowed.iter().find(|engine| known.counted_on(**engine)) {
        Some(engine) => Ok(choice(*engine, Some(reason(*engine, &allowed, known)))),
        None => Err(format!(
            "nothing works here that could run it: {}",
            allowed.iter().map(|engine| said(*engine, known)).collect::<Vec<_>>().join("; ")
        )),
    }
}

/// What the profile allows, best first.
pub fn allowed(node: &CompiledNode) -> Vec<Engine> {
    let fits = |engine: &Engine| {
        let named = match node.vmm {
            Vmm::Auto => *engine != Engine::Uml || node.cpus == 1,
            Vmm::Uml => *engine == Engine::Uml,
            Vmm::Qemu => engine.vmm() == "qemu",
            Vmm::Xen => *engine == Engine::Xen,
        };
        named
            && match node.accelerator {
                Accelerator::Auto => true,
                Accelerator::Kvm => *engine != Engine::Tcg,
                Accelerator::Tcg => *engine != Engine::Kvm,
            }
    };
    Engine::ALL.into_iter().filter(fits).collect()
}

/// Why not a better one.
fn reason(engine: Engine, allowed: &[Engine], known: &Known) -> String {
    // What cannot be on most hosts and is not asked for is no news.
    let better = allowed.iter().take_while(|better| **better != engine);
    let news: Vec<String> =
        better.filter(|better| **better != Engine::Xen).map(|b| said(*b, known)).collect();
    match (news.as_slice(), known.of(engine)) {
        ([], Standing::Proven) => "the best that is proven here".to_owned(),
        ([], _) => "the best here".to_owned(),
        (news, _) => news.join("; "),
    }
}

fn said(engine: Engine, known: &Known) -> String {
    match known.of(engine) {
        Standing::Broken(why) | Standing::Unproven(why) => format!("{engine}: {why}"),
        Standing::Proven | Standing::Likely => engine.to_string(),
    }
}

#[cfg(test)]
mod tests;
