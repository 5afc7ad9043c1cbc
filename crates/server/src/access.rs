//! How people reach nodes: the administrator's ssh key and the list of known host keys.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use gridgate_protocol::site_api::{Access, ErrorKind};
use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};

use crate::failure::{Failure, caused};
use crate::home::{SiteDir, write_atomic};
use crate::wanted::Wanted;

/// The administrator's public key in `authorized_keys` form; the pair is made when it is missing.
pub fn admin_key(dir: &SiteDir) -> Result<String, Failure> {
    let path = key_path(dir);
    let fault = |what: &str, e: &dyn std::error::Error| {
        caused(ErrorKind::Host, format!("the site's ssh key could not be {what}"), e)
    };
    let key = if path.exists() {
        PrivateKey::read_openssh_file(&path).map_err(|e| fault("read", &e))?
    } else {
        let mut key =
            PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(|e| fault("made", &e))?;
        key.set_comment("gridgate administrator");
        let text = key.to_openssh(LineEnding::LF).map_err(|e| fault("made", &e))?;
        write_atomic(&path, text.as_bytes()).map_err(|e| fault("written", &e))?;
        key
    };
    key.public_key().to_openssh().map_err(|e| fault("read", &e))
}

/// Forgets a node's host key: its disk is new.
pub fn forget_host(dir: &SiteDir, names: &[String]) -> std::io::Result<()> {
    let path = known_hosts(dir);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let kept: String = text
        .lines()
        .filter(|line| {
            let hosts = line.split(' ').next().unwrap_or_default();
            !hosts.split(',').any(|host| names.iter().any(|name| name == host))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&path, kept)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
}

/// How to reach one node.
pub fn of(dir: &SiteDir, wanted: &Wanted, node: &str, tools: Option<PathBuf>) -> Option<Access> {
    let compiled = wanted.node(node)?;
    Some(Access {
        namespace: gridgate_net::namespace_path(&wanted.network.namespace),
        address: compiled.profile.address,
        fqdn: compiled.profile.fqdn(),
        key: key_path(dir),
        known_hosts: known_hosts(dir),
        run_dir: dir.node(node).run(),
        tools,
    })
}

fn key_path(dir: &SiteDir) -> PathBuf {
    dir.ssh().join("id_ed25519")
}

fn known_hosts(dir: &SiteDir) -> PathBuf {
    dir.ssh().join("known_hosts")
}
