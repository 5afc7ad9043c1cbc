//! What is to be signed, and the public key of a certificate request.

use gridgate_protocol::node_profile::{Certificate, CertificateKind};
use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::error::CaError;
use super::subject;

/// Key sizes that Globus takes, in bits. Larger keys only cost time.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Longest certificate request read, in bytes: one of RSA 8192 has 3 KB.
const LONGEST: usize = 32 * 1024;

/// What a certificate shall state, as the node profile has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// Whose identity it is.
    pub kind: CertificateKind,
    /// Subject from the root down: `[("O","dublin.test"),("CN","ce.dublin.test")]`.
    pub subject: Vec<(String, String)>,
    /// DNS names; empty for persons.
    pub dns: Vec<String>,
}

impl CertificateRequest {
    /// The subject in one line, `/O=…/CN=…`.
    pub fn subject_line(&self) -> String {
        subject::line(&self.subject)
    }
}

impl From<&Certificate> for CertificateRequest {
    fn from(wanted: &Certificate) -> CertificateRequest {
        CertificateRequest {
            kind: wanted.kind,
            subject: wanted.subject.clone(),
            dns: wanted.dns.clone(),
        }
    }
}

/// The public key of a PEM certificate request, once the request's signature has
/// shown that the requester holds the private key. Nothing else is taken from it.
pub(super) fn public_key(csr_pem: &str, subject: &str) -> Result<SubjectPublicKeyInfo, CaError> {
    let bad = |why: String| CaError::BadRequest { subject: subject.into(), why };
    if csr_pem.len() > LONGEST {
        return Err(bad(format!("it has {} bytes, the most is {LONGEST}", csr_pem.len())));
    }
    let (_, pem) = parse_x509_pem(csr_pem.as_bytes()).map_err(|error| bad(error.to_string()))?;
    if pem.label != "CERTIFICATE REQUEST" && pem.label != "NEW CERTIFICATE REQUEST" {
        return Err(bad(format!("it is a PEM `{}`, not a `CERTIFICATE REQUEST`", pem.label)));
    }
    let (rest, request) = X509CertificationRequest::from_der(&pem.contents)
        .map_err(|error| bad(error.to_string()))?;
    if !rest.is_empty() {
        return Err(bad(format!("{} bytes follow it", rest.len())));
    }
    let key = &request.certification_request_info.subject_pki;
    let found = match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if RSA_BITS.contains(&rsa.key_size()) => None,
        Ok(PublicKey::RSA(rsa)) => Some(format!("RSA of {} bits", rsa.key_size())),
        Ok(other) => Some(format!("{} of {} bits", kind(&other), other.key_size())),
        Err(error) => return Err(bad(format!("its key: {error}"))),
    };
    if let Some(found) = found {
        return Err(CaError::WeakKey { subject: subject.into(), found });
    }
    request.verify_signature().map_err(|error| CaError::BadSignature {
        subject: subject.into(),
        why: error.to_string(),
    })?;
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|source| CaError::Crypto {
        action: "take the public key",
        subject: subject.into(),
        source,
    })
}

fn kind(key: &PublicKey<'_>) -> &'static str {
    match key {
        PublicKey::RSA(_) => "RSA",
        PublicKey::EC(_) => "EC",
        PublicKey::DSA(_) => "DSA",
        _ => "of an unknown kind,",
    }
}
