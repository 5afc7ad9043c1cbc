//! The installer's initial RAM file system for one node: the depot's, with who the node is appended.

use std::path::{Path, PathBuf};

use gridgate_depot::{InitramfsFile, InitramfsRequest, Mirrors, Silent};
use gridgate_machine::VmmSpec;
use gridgate_protocol::agent_api::Identity;
use gridgate_protocol::install_api::INSTALL_IDENTITY;
use gridgate_protocol::site_api::ErrorKind;

use crate::failure::{Failure, caused, failure};
use crate::home::{NodeDir, private_dir};
use crate::images;
use crate::site::Site;
use crate::verdicts::Engine;
use crate::vmms::Vmms;

/// Makes the installer of a node, readable by its VMM's user alone: it holds a one-time token. Blocking.
pub fn for_node(
    site: &Site,
    vmms: &Vmms,
    engine: Engine,
    dir: &NodeDir,
    identity: &Identity,
    uid: u32,
) -> Result<PathBuf, Failure> {
    let path = dir.installer();
    let fault = |e: &dyn std::error::Error| {
        caused(ErrorKind::Host, format!("the installer {} could not be made", path.display()), e)
    };
    let modules = match engine {
        Engine::Uml => vmms.uml().map(|uml| uml.modules.clone()),
        Engine::Kvm | Engine::Tcg | Engine::Xen => vmms.linux().map(|linux| linux.modules.clone()),
    };
    let modules = modules.ok_or_else(|| {
        let what = format!("the kernel of {} was not fetched before a launch", engine.vmm());
        failure(ErrorKind::Internal, what)
    })?;
    let depot = images::depot(&site.home.depot())?;
    let lock = images::lock(&site.dir)?;
    let program = crate::daemon::executable();
    let request = InitramfsRequest { program: &program, modules: &modules };
    // The base root that its tools are taken from is there: the node's software was made ready before.
    let made = depot.initramfs(&Mirrors::default(), &request, lock.as_ref(), &Silent);
    let made = made.map_err(|e| fault(&e))?;
    private_dir(path.parent().unwrap_or(Path::new("/"))).map_err(|e| fault(&e))?;
    let content = serde_json::to_vec(identity).map_err(|e| fault(&e))?;
    let identity = InitramfsFile { path: INSTALL_IDENTITY.into(), mode: 0o600, content };
    made.write_for(&path, (uid, uid), &[identity]).map_err(|e| fault(&e))?;
    Ok(path)
}

/// Has the machine boot this initial RAM file system.
pub fn boot(vmm: &mut VmmSpec, path: &Path) {
    match vmm {
        VmmSpec::Uml { initramfs, .. }
        | VmmSpec::Qemu { initramfs, .. }
        | VmmSpec::Xen { initramfs, .. } => {
            *initramfs = Some(path.to_owned());
        }
    }
}
