//! One layer of settings (site, role or node) and how layers lie on each other.
//!
//! [`Layer::under`] is associative with [`Layer::default`] as its neutral element, so that it
//! does not matter in which order a chain of roles is put together.

use std::collections::{BTreeMap, HashSet};

use gridgate_protocol::node_profile::Reconcile;

use super::{Accelerator, Guest, Hardware, Security, Vmm};
use crate::component::Value;
use crate::fault::Located;

/// Values of one component's parameters.
pub(crate) type ParameterValues = BTreeMap<String, Located<Value>>;

/// What a site, a role or a node says itself; nothing inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layer {
    pub memory: Option<Located<u64>>,
    pub disk: Option<Located<u64>>,
    pub swap: Option<Located<u64>>,
    pub cpus: Option<Located<u32>>,
    pub vmm: Option<Located<Vmm>>,
    pub accelerator: Option<Located<Accelerator>>,
    pub hardware: Option<Located<Hardware>>,
    pub guest: Option<Located<Guest>>,
    pub security: Option<Located<Security>>,
    pub reconcile: Option<Located<Reconcile>>,
    /// Added to the packages below.
    pub packages: Vec<Located<String>>,
    /// Added to the components below, unless they are there.
    pub components: Vec<Located<String>>,
    /// Components dropped from those below, before [`Layer::components`] are added.
    pub without: Vec<Located<String>>,
    /// By component.
    pub parameters: BTreeMap<String, ParameterValues>,
    /// By path; replaces a file of the same path below.
    pub files: BTreeMap<String, UserFile>,
}

/// A file that the administrator adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserFile {
    pub path: Located<String>,
    pub content: String,
    pub owner: String,
    pub group: String,
    pub mode: u32,
}

impl Layer {
    /// This layer with another lying on it: the upper one's values win, its lists
    /// are appended.
    pub(crate) fn under(&self, upper: &Layer) -> Layer {
        let mut parameters = self.parameters.clone();
        for (component, values) in &upper.parameters {
            let known = parameters.entry(component.clone()).or_default();
            known.extend(values.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        let mut files = self.files.clone();
        files.extend(upper.files.iter().map(|(path, file)| (path.clone(), file.clone())));
        Layer {
            memory: upper.memory.clone().or_else(|| self.memory.clone()),
            disk: upper.disk.clone().or_else(|| self.disk.clone()),
            swap: upper.swap.clone().or_else(|| self.swap.clone()),
            cpus: upper.cpus.clone().or_else(|| self.cpus.clone()),
            vmm: upper.vmm.clone().or_else(|| self.vmm.clone()),
            accelerator: upper.accelerator.clone().or_else(|| self.accelerator.clone()),
            hardware: upper.hardware.clone().or_else(|| self.hardware.clone()),
            guest: upper.guest.clone().or_else(|| self.guest.clone()),
            security: upper.security.clone().or_else(|| self.security.clone()),
            reconcile: upper.reconcile.clone().or_else(|| self.reconcile.clone()),
            packages: appended(&self.packages, &[], &upper.packages),
            components: appended(&self.components, &upper.without, &upper.components),
            without: appended(&self.without, &[], &upper.without),
            parameters,
            files,
        }
    }
}

/// `below` but for `dropped`, then what `above` has besides; each value once.
fn appended(
    below: &[Located<String>],
    dropped: &[Located<String>],
    above: &[Located<String>],
) -> Vec<Located<String>> {
    let dropped: HashSet<&str> = dropped.iter().map(|item| item.value.as_str()).collect();
    let kept = below.iter().filter(|item| !dropped.contains(item.value.as_str()));
    let mut seen = HashSet::new();
    kept.chain(above).filter(|item| seen.insert(item.value.as_str())).cloned().collect()
}

#[cfg(test)]
mod tests;
