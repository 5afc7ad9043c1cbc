//! The installer's initial RAM file system for one node: the depot's, with who the node is appended.

use std::path::{Path, PathBuf};

use gridgate_machine::VmmSpec;
use gridgate_protocol::agent_api::Identity;
use gridgate_protocol::site_api::ErrorKind;

use crate::failure::{Failure, failure};
use crate::home::NodeDir;
use crate::site::Site;
use crate::verdicts::Engine;
use crate::vmms::Vmms;

/// Makes the installer of a node, readable by its VMM's user alone: it holds a one-time token. Blocking.
pub fn for_node(
    _site: &Site,
    _vmms: &Vmms,
    engine: Engine,
    _dir: &NodeDir,
    _identity: &Identity,
    _uid: u32,
) -> Result<PathBuf, Failure> {
    Err(failure(ErrorKind::Host, format!("there is no installer for {} yet", engine.vmm())))
}

/// Has the machine boot this initial RAM file system.
pub fn boot(vmm: &mut VmmSpec, path: &Path) {
    match vmm {
        VmmSpec::Uml { initramfs, .. } | VmmSpec::Xen { initramfs, .. } => {
            *initramfs = Some(path.to_owned());
        }
    }
}
