//! What a site must be: its profile compiled with the site's own facts (CA, keys), and the numbers
//! that this host adds (uids, tap names). Made anew from the stored source whenever the daemon starts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gridgate_grid::ca::SiteCa;
use gridgate_net::{Card, NetworkPlan, Port};
use gridgate_profile::{Compiled, CompiledNode, Facts, Faults, Site, SiteFiles, parse_site};
use gridgate_protocol::site_api::{ErrorKind, SiteSource};
use sha2::{Digest, Sha256};

use crate::arrangement::Arrangement;
use crate::choice::{self, Before, Choice, Known, Moved};
use crate::failure::{Failure, Hint, caused, failure};
use crate::home::{Home, SiteDir, write_atomic};
use crate::host::Ground;
use crate::verdicts::{Engine, Verdicts};
use crate::{access, launch};

/// The bridge in a site's network.
pub const BRIDGE: &str = "site0";

type Choices = BTreeMap<String, Result<Choice, String>>;

/// A site as its profile wants it on this host.
pub struct Wanted {
    /// Where the profile came from, with its text.
    pub source: SiteSource,
    /// Every node, compiled.
    pub compiled: Compiled,
    /// The site as parsed.
    pub site: Site,
    /// The site's network.
    pub network: NetworkPlan,
    /// On what each node runs on this host, or why nothing here can run it.
    pub choices: Choices,
}

impl Wanted {
    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&CompiledNode> {
        self.compiled.nodes.iter().find(|node| node.name == name)
    }

    /// On what a node runs on this host.
    ///
    /// # Errors
    /// When nothing here can run it.
    pub fn choice(&self, node: &str) -> Result<&Choice, Failure> {
        match self.choices.get(node) {
            Some(Ok(choice)) => Ok(choice),
            Some(Err(why)) => {
                let mut failure =
                    failure(ErrorKind::Host, format!("{node} cannot run on this host"));
                failure.why.push(why.clone());
                Err(failure.hint("`gridgate doctor` shows what this host can run"))
            }
            None => Err(failure(ErrorKind::Internal, format!("no node {node}"))),
        }
    }

    /// The uid (and gid) under which a node's VMM runs.
    pub fn uid(&self, node: &str) -> u32 {
        self.port(node).map_or(u32::MAX - 1, |p| p.owner_uid)
    }

    /// A node's connection to the site's network.
    pub fn port(&self, node: &str) -> Option<&Port> {
        self.network.ports.iter().find(|port| port.node == node)
    }
}

/// Checks a source without touching anything, and gives the site's name.
pub fn check(source: &SiteSource) -> Result<String, Failure> {
    compiled(source, &placeholder()).map(|(site, _)| site.name)
}

/// What a site that does not exist yet would be; makes nothing, so its CA and keys are placeholders.
pub fn preview(home: &Home, source: SiteSource) -> Result<Wanted, Failure> {
    let (site, compiled) = compiled(&source, &placeholder())?;
    let dir = home.site(&site.name);
    let choices = choices(home, &dir, &compiled);
    let network = network(&dir, &site, &compiled, &choices);
    Ok(Wanted { source, compiled, site, network, choices })
}

/// Compiles a checked source for this host. Makes the site's CA and keys when they are missing.
pub fn compile(home: &Home, source: SiteSource) -> Result<(Wanted, SiteCa), Failure> {
    let site = parse_site(&files(&source)).map_err(|e| faults(&e))?;
    let dir = home.site(&site.name);
    let ca = SiteCa::open_or_create(&dir.ca(), &site.name, &site.domain)
        .map_err(|e| caused(ErrorKind::Host, "the site's CA could not be opened", &e))?;
    let facts = Facts {
        ca_certificate: ca.certificate_pem().to_owned(),
        ca_hash: ca.hash().to_owned(),
        admin_keys: vec![access::admin_key(&dir)?],
    };
    let (site, compiled) = compiled(&source, &facts)?;
    let choices = choices(home, &dir, &compiled);
    let network = network(&dir, &site, &compiled, &choices);
    Ok((Wanted { source, compiled, site, network, choices }, ca))
}

fn compiled(source: &SiteSource, facts: &Facts) -> Result<(Site, Compiled), Failure> {
    let site = parse_site(&files(source)).map_err(|e| faults(&e))?;
    let compiled = gridgate_profile::compile(&site, facts).map_err(|e| faults(&e))?;
    Ok((site, compiled))
}

/// On what the nodes run, as far as is known; nothing is tried here.
fn choices(home: &Home, dir: &SiteDir, compiled: &Compiled) -> Choices {
    let known = Known::new(&Ground::now(), &Verdicts::load(home), jiff::Timestamp::now());
    let nodes = compiled.nodes.iter();
    let choose = |node: &CompiledNode| choice::choose(node, before(dir, &node.name), &known);
    nodes.map(|node| (node.name.clone(), choose(node))).collect()
}

fn before(dir: &SiteDir, node: &str) -> Before {
    let dir = dir.node(node);
    let moved = std::fs::read(dir.moved()).ok();
    let moved = moved.and_then(|bytes| serde_json::from_slice::<Moved>(&bytes).ok());
    let started = launch::last_spec(&dir).filter(|_| dir.disk().exists());
    Before {
        moved: moved.map(|moved| moved.engine),
        started: started.map(|spec| Arrangement::of(&spec.vmm).engine()),
    }
}

fn placeholder() -> Facts {
    Facts {
        ca_certificate: "(not made yet)".into(),
        ca_hash: "00000000".into(),
        admin_keys: Vec::new(),
    }
}

/// Keeps the source, so that a later daemon knows the site.
pub fn store(dir: &SiteDir, source: &SiteSource) -> Result<(), Failure> {
    let json = serde_json::to_vec_pretty(source)
        .map_err(|e| caused(ErrorKind::Internal, "the profile could not be written", &e))?;
    let write = |path: &Path, bytes: &[u8]| {
        write_atomic(path, bytes).map_err(|e| {
            caused(ErrorKind::Host, format!("{} could not be written", path.display()), &e)
        })
    };
    write(&dir.source(), &json)?;
    write(&dir.profile(), source.text.as_bytes())
}

/// The stored source of a site, if it has one.
pub fn load(dir: &SiteDir) -> Result<Option<SiteSource>, Failure> {
    match std::fs::read(dir.source()) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            caused(ErrorKind::Host, format!("{} is damaged", dir.source().display()), &e)
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(caused(
            ErrorKind::Host,
            format!("{} could not be read", dir.source().display()),
            &e,
        )),
    }
}

fn files(source: &SiteSource) -> SiteFiles {
    let component = |files: &BTreeMap<String, String>| {
        files.iter().map(|(name, text)| (name.clone(), text.clone().into_bytes())).collect()
    };
    SiteFiles {
        name: source.path.display().to_string(),
        text: source.text.clone(),
        components: source.components.iter().map(|(n, f)| (n.clone(), component(f))).collect(),
    }
}

fn faults(faults: &Faults) -> Failure {
    let mut failure = failure(ErrorKind::Input, "the site profile has faults; nothing was touched");
    failure.faults = Some(faults.render(false));
    failure.faults_json = serde_json::to_value(faults).ok();
    failure
}

fn network(dir: &SiteDir, site: &Site, compiled: &Compiled, choices: &Choices) -> NetworkPlan {
    let mut used = BTreeSet::new();
    let card = |node: &str| match choices.get(node) {
        Some(Ok(choice)) if choice.engine == Engine::Xen => Card::Vmm,
        _ => Card::Tap,
    };
    let ports = compiled
        .nodes
        .iter()
        .map(|node| Port {
            node: node.name.clone(),
            tap: tap_name(&node.name),
            mac: node.profile.mac.clone(),
            address: node.profile.address,
            owner_uid: uid(&dir.namespace(), &node.name, &mut used),
            card: card(&node.name),
        })
        .collect();
    NetworkPlan {
        namespace: dir.namespace(),
        bridge: BRIDGE.into(),
        address: site.server,
        prefix_length: site.prefix.prefix_len(),
        ports,
    }
}

/// Interface names have at most 15 characters.
fn tap_name(node: &str) -> String {
    if node.len() <= 11 {
        format!("tap-{node}")
    } else {
        format!("tap-{}", hex::encode(&Sha256::digest(node)[..5]))
    }
}

/// One million and above: out of the way of real users; stable for a node, distinct within the site.
fn uid(namespace: &str, node: &str, used: &mut BTreeSet<u32>) -> u32 {
    let digest = Sha256::digest(format!("{namespace}/{node}"));
    let mut uid = 1_000_000 + u32::from_be_bytes([0, digest[0], digest[1], digest[2]]);
    while !used.insert(uid) {
        uid += 1;
    }
    uid
}
