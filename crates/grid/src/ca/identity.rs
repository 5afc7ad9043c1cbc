//! The install server's own key pair.

use std::path::Path;
use std::time::SystemTime;

use gridgate_protocol::node_profile::CertificateKind;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde::{Deserialize, Serialize};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use super::authority::SiteCa;
use super::error::CaError;
use super::request::CertificateRequest;
use super::validity::unix;
use crate::store::{Access, PrivateDir};

/// Key and certificate stand in one file, so that they always fit each other.
const FILE: &str = "server-identity.json";

/// Made anew when it has less than this left, seconds: a daemon seldom runs longer.
const LEAST_LEFT: i64 = 30 * 24 * 3600;

/// What a TLS server needs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerIdentity {
    /// Certificate signed by the site's CA, PEM.
    pub certificate_pem: String,
    /// Its key (ECDSA P-256), PKCS #8 PEM.
    pub key_pem: String,
}

impl std::fmt::Debug for ServerIdentity {
    /// Without the key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ServerIdentity")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

/// The kept identity if it still serves, else a new one.
pub(super) fn ensure(ca: &SiteCa, dir: &Path, name: &str) -> Result<ServerIdentity, CaError> {
    let folder = PrivateDir::open(dir)?;
    if let Some(kept) = kept(ca, &folder, name)? {
        return Ok(kept);
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| CaError::Crypto {
        action: "make an ECDSA key",
        subject: name.into(),
        source,
    })?;
    let request = CertificateRequest {
        kind: CertificateKind::Host,
        subject: vec![("O".into(), ca.organization().into()), ("CN".into(), name.into())],
        dns: vec![name.into()],
    };
    let certificate_pem = ca.certify(&key, &request)?;
    let made = ServerIdentity { certificate_pem, key_pem: key.serialize_pem() };
    let json = serde_json::to_vec(&made).expect("two strings are JSON");
    // Locked only now: recording the certificate takes the CA folder's lock, and
    // that may be the same folder.
    let lock = folder.lock()?;
    if let Some(other) = kept(ca, &folder, name)? {
        return Ok(other);
    }
    folder.write(&lock, FILE, &json, Access::Owner)?;
    Ok(made)
}

fn kept(ca: &SiteCa, folder: &PrivateDir, name: &str) -> Result<Option<ServerIdentity>, CaError> {
    let Some(json) = folder.read(FILE)? else { return Ok(None) };
    folder.tighten(FILE)?;
    Ok(serde_json::from_slice(&json).ok().filter(|kept| serves(ca, kept, name)))
}

/// Whether it is this CA's, for this name, its key's, and lasts a while.
fn serves(ca: &SiteCa, kept: &ServerIdentity, name: &str) -> bool {
    let Ok((_, pem)) = parse_x509_pem(kept.certificate_pem.as_bytes()) else { return false };
    let Ok(certificate) = pem.parse_x509() else { return false };
    let Ok(key) = KeyPair::from_pem(&kept.key_pem) else { return false };
    let names_it = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .is_some_and(|names| names.value.general_names.contains(&GeneralName::DNSName(name)));
    let left = certificate.validity().not_after.timestamp()
        - unix(SystemTime::now()).as_secs().cast_signed();
    names_it
        && left > LEAST_LEFT
        && certificate.public_key().raw == key.subject_public_key_info()
        && ca.signed(&certificate)
}
