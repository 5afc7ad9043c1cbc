//! Key pairs: the key is made here and stays here, the site's CA signs. A pair is
//! kept as long as it is what the profile asks for, fits together, is signed by
//! this site's CA and is not about to end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gridgate_protocol::drift::Difference;
use gridgate_protocol::node_profile::{Certificate, NodeProfile};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::look::Shown;
use super::{ApplyError, Effect, Kind, Session, fingerprint};
use crate::place::Parents;
use crate::state::{Applied, Issued};

const SIZE_LIMIT: u64 = 256 * 1024;

/// A certificate with less time left is renewed …
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);

/// … but, lest a CA that signs for less is asked at each look, not more often.
const RENEW_AFTER: i64 = 86_400;

/// uid of domainComponent, RFC 4519.
const DOMAIN_COMPONENT: &[u64] = &[0, 9, 2342, 19_200_300, 100, 1, 25];

/// Certificates.
pub(super) struct Certificates;

impl Kind for Certificates {
    fn doing(&self) -> &'static str {
        "Having certificates signed"
    }

    fn apply(&self, session: &mut Session<'_>) {
        if session.profile.certificates.is_empty() {
            return;
        }
        let authority = Authority::new(session.tools.ca);
        for certificate in &session.profile.certificates {
            session.resource("certificate", &certificate.name, &certificate.component, |session| {
                match &authority {
                    Ok(authority) => ensure(session, certificate, authority),
                    Err(reason) => Err(ApplyError::Untrusted(reason.clone())),
                }
            });
        }
    }
}

/// Whether one of the issued certificates should be renewed now. Looks only at
/// when it was issued and what is on disk, so it can be asked at any time.
pub(crate) fn due(
    tree: &crate::place::Tree,
    profile: &NodeProfile,
    applied: &Applied,
    ca: &str,
) -> bool {
    let Ok(authority) = Authority::new(ca) else { return false };
    profile.certificates.iter().any(|certificate| {
        let Some(issued) = applied.certificates.get(&certificate.name) else { return false };
        let read = tree.place(&certificate.certificate_path, Parents::MustExist);
        let Ok(Some(pem)) = read.and_then(|place| place.read(SIZE_LIMIT)) else { return false };
        match CertificateDer::from_pem_slice(&pem) {
            Ok(der) => authority.ends_soon(&der, issued),
            Err(_) => false,
        }
    })
}

/// The site's CA, to check against.
struct Authority {
    verifier: Arc<dyn ClientCertVerifier>,
    pem: String,
}

impl Authority {
    fn new(pem: &str) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string())?;
        let mut roots = RootCertStore::empty();
        roots.add(der).map_err(|e| e.to_string())?;
        // Every certificate that the CA issues may act as a client.
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| e.to_string())?;
        Ok(Self { verifier, pem: pem.to_owned() })
    }

    /// Whether the CA signed it and it is valid `ahead` of now.
    fn accepts(&self, der: &CertificateDer<'_>, ahead: Duration) -> Result<(), String> {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default() + ahead;
        let time = UnixTime::since_unix_epoch(now);
        self.verifier.verify_client_cert(der, &[], time).map(drop).map_err(|e| e.to_string())
    }

    fn ends_soon(&self, der: &CertificateDer<'_>, issued: &Issued) -> bool {
        now() - issued.at > RENEW_AFTER && self.accepts(der, RENEW_BEFORE).is_err()
    }

    /// Whether key and certificate belong together and the CA signed.
    fn check(&self, key: &[u8], certificate: &[u8]) -> Result<CertificateDer<'static>, String> {
        let der = CertificateDer::from_pem_slice(certificate).map_err(|e| e.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| e.to_string())?;
        let key =
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|e| e.to_string())?;
        CertifiedKey::new(vec![der.clone()], key).keys_match().map_err(|e| e.to_string())?;
        self.accepts(&der, Duration::ZERO)?;
        Ok(der)
    }
}

fn now() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn ensure(
    session: &mut Session<'_>,
    wanted: &Certificate,
    authority: &Authority,
) -> Result<Effect, ApplyError> {
    let tree = session.tools.tree;
    let read = |path: &str| tree.place(path, Parents::Make)?.read(SIZE_LIMIT);
    let request = request_fingerprint(wanted, &authority.pem);
    let present = (read(&wanted.key_path)?, read(&wanted.certificate_path)?);
    let issued = session.before.certificates.get(&wanted.name);
    let (key, certificate) = match (present, issued) {
        ((Some(key), Some(pem)), Some(issued))
            if issued.request == request
                && authority
                    .check(&key, &pem)
                    .is_ok_and(|der| !authority.ends_soon(&der, issued)) =>
        {
            (key, pem)
        }
        _ if session.looking() => {
            session.note(Difference::hidden("certificate"));
            return Ok(Effect::Changed);
        }
        _ => obtain(session, wanted, authority, request)?,
    };
    let copies = wanted
        .copies
        .iter()
        .map(|copy| (&copy.key_path, &copy.certificate_path, &copy.owner, &copy.group));
    let own = (&wanted.key_path, &wanted.certificate_path, &wanted.owner, &wanted.group);
    let mut effect = Effect::Unchanged;
    for (key_path, certificate_path, owner, group) in std::iter::once(own).chain(copies) {
        for (path, content, mode, shown) in [
            (key_path, &key, 0o400, Shown::Never),
            (certificate_path, &certificate, 0o644, Shown::Openly),
        ] {
            let access = session.access(owner, group, mode)?;
            let place = tree.place(path, Parents::Make)?;
            let present = place.read(SIZE_LIMIT)?;
            effect = effect.and(session.put(
                path,
                &place,
                present.as_deref(),
                content,
                access,
                shown,
            )?);
        }
    }
    Ok(effect)
}

/// Makes a key and has it certified.
fn obtain(
    session: &mut Session<'_>,
    wanted: &Certificate,
    authority: &Authority,
    request: String,
) -> Result<(Vec<u8>, Vec<u8>), ApplyError> {
    // The account must exist before a key is made for it.
    session.access(&wanted.owner, &wanted.group, 0o400)?;
    let failed = |what| {
        move |error: rcgen::Error| ApplyError::Certificate { what, reason: error.to_string() }
    };
    let params = parameters(wanted)?;
    let key =
        KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(failed("a key"))?;
    let signing_request = params
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .map_err(failed("a certificate request"))?;
    let certificate =
        session.tools.source.certificate(&wanted.name, &signing_request)?.into_bytes();
    let key = key.serialize_pem().into_bytes();
    authority.check(&key, &certificate).map_err(ApplyError::Untrusted)?;
    session.state.certificates.insert(wanted.name.clone(), Issued { request, at: now() });
    Ok((key, certificate))
}

fn parameters(wanted: &Certificate) -> Result<CertificateParams, ApplyError> {
    let failed = |reason: String| ApplyError::Certificate { what: "a certificate request", reason };
    let mut name = DistinguishedName::new();
    for (kind, value) in &wanted.subject {
        let kind = match kind.as_str() {
            "C" => DnType::CountryName,
            "ST" => DnType::StateOrProvinceName,
            "L" => DnType::LocalityName,
            "O" => DnType::OrganizationName,
            "OU" => DnType::OrganizationalUnitName,
            "CN" => DnType::CommonName,
            "DC" => DnType::from_oid(DOMAIN_COMPONENT),
            other => return Err(failed(format!("{other} is not a known part of a subject"))),
        };
        if name.get(&kind).is_some() {
            return Err(failed(format!("the subject has {kind:?} twice")));
        }
        name.push(kind, value.as_str());
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    for dns in &wanted.dns {
        let dns =
            dns.as_str().try_into().map_err(|error: rcgen::Error| failed(error.to_string()))?;
        params.subject_alt_names.push(SanType::DnsName(dns));
    }
    Ok(params)
}

/// Changes whenever another certificate is needed.
fn request_fingerprint(wanted: &Certificate, ca: &str) -> String {
    let mut text = format!("{:?}\n", wanted.kind);
    for (kind, value) in &wanted.subject {
        text += &format!("{kind}={value:?}\n");
    }
    for dns in &wanted.dns {
        text += &format!("dns={dns:?}\n");
    }
    fingerprint(&[text.as_bytes(), ca.as_bytes()])
}
