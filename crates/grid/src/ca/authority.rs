//! The certification authority itself.

use std::path::Path;
use std::time::SystemTime;

use gridgate_protocol::node_profile::CertificateKind;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize, SanType, SerialNumber,
    string::Ia5String,
};
use serde::Serialize;
use x509_parser::pem::parse_x509_pem;

use super::error::CaError;
use super::identity::{self, ServerIdentity};
use super::request::{CertificateRequest, public_key};
use super::subject;
use super::subject_hash::subject_hash;
use super::validity::{self, unix};
use crate::store::{Access, PrivateDir, random_bytes};

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
const ISSUED: &str = "issued.jsonl";

/// The site's CA, open for signing.
#[derive(Debug)]
pub struct SiteCa {
    folder: PrivateDir,
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    hash: String,
    subject: Vec<(String, String)>,
    /// When its certificate ends, seconds since 1970.
    ends: i64,
}

/// A line of `issued.jsonl`.
#[derive(Serialize)]
struct Issued<'a> {
    at: String,
    serial: String,
    subject: String,
    kind: CertificateKind,
    dns: &'a [String],
    not_after: String,
}

impl SiteCa {
    /// Opens the CA in `dir`, or makes it (RSA 2048, SHA-256, ten years).
    ///
    /// # Errors
    /// When files cannot be read or written, when they are damaged or belong to
    /// another site, and when the CA has expired.
    pub fn open_or_create(dir: &Path, site: &str, domain: &str) -> Result<SiteCa, CaError> {
        let parts =
            vec![("O".to_owned(), domain.to_owned()), ("CN".to_owned(), format!("{site} Test CA"))];
        let folder = PrivateDir::open(dir)?;
        let lock = folder.lock()?;
        if folder.read(CERTIFICATE)?.is_none() {
            let key = match folder.read(KEY)? {
                Some(pem) => read_key(&folder, &pem)?,
                None => {
                    let key = make_key(&subject::line(&parts))?;
                    folder.write(&lock, KEY, key.serialize_pem().as_bytes(), Access::Owner)?;
                    key
                }
            };
            let pem = self_signed(&parts, &key)?;
            folder.write(&lock, CERTIFICATE, pem.as_bytes(), Access::Everybody)?;
        }
        drop(lock);
        SiteCa::open(folder, parts)
    }

    fn open(folder: PrivateDir, subject: Vec<(String, String)>) -> Result<SiteCa, CaError> {
        let path = folder.file(CERTIFICATE).display().to_string();
        let damaged = |why: String| CaError::Damaged { path: path.clone(), why };
        let certificate_pem = folder
            .read(CERTIFICATE)?
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| damaged("it is not text".into()))?;
        let Some(key_pem) = folder.read(KEY)? else {
            let key = folder.file(KEY).display().to_string();
            return Err(CaError::KeyMissing { certificate: path, key });
        };
        folder.tighten(KEY)?;
        let key = read_key(&folder, &key_pem)?;

        let (_, pem) = parse_x509_pem(certificate_pem.as_bytes())
            .map_err(|error| damaged(error.to_string()))?;
        let certificate = pem.parse_x509().map_err(|error| damaged(error.to_string()))?;
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(damaged(format!("{} is not its key", folder.file(KEY).display())));
        }
        if !certificate.is_ca() {
            return Err(damaged("it is not a CA's certificate".into()));
        }
        let found = subject_parts(certificate.subject()).map_err(damaged)?;
        if found != subject {
            let (found, wanted) = (subject::line(&found), subject::line(&subject));
            return Err(CaError::OtherSubject { path, found, wanted });
        }
        let ends = certificate.validity().not_after.timestamp();
        if ends <= unix(SystemTime::now()).as_secs().cast_signed() {
            return Err(CaError::Expired { path, expired: rfc3339(ends) });
        }
        let hash = subject_hash(certificate.subject())
            .ok_or_else(|| damaged("its subject is not text".into()))?;
        let issuer = Issuer::from_ca_cert_der(&pem.contents.as_slice().into(), key)
            .map_err(|error| damaged(error.to_string()))?;
        Ok(SiteCa { folder, issuer, certificate_pem, hash, subject, ends })
    }

    /// Its certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// OpenSSL's hash of its subject, 8 hex digits: its file is `<hash>.0`.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Its subject, `/O=…/CN=…`.
    pub fn subject(&self) -> String {
        subject::line(&self.subject)
    }

    /// Signs a node's PEM certificate request; the answer is the PEM certificate.
    ///
    /// Only the public key comes from `csr_pem`.
    ///
    /// # Errors
    /// When the request cannot be read, is not signed with its own key, or its key
    /// is not RSA of at least 2048 bits; when the subject or a DNS name cannot
    /// stand in a certificate; when the certificate cannot be recorded.
    pub fn sign(&self, csr_pem: &str, request: &CertificateRequest) -> Result<String, CaError> {
        let key = public_key(csr_pem, &request.subject_line())?;
        self.certify(&key, request)
    }

    /// The install server's own key pair, kept in `dir` and made anew when it runs
    /// out or the CA is another one.
    ///
    /// # Errors
    /// As [`SiteCa::sign`], and when the pair cannot be kept.
    pub fn server_identity(&self, dir: &Path, name: &str) -> Result<ServerIdentity, CaError> {
        identity::ensure(self, dir, name)
    }

    /// The subject's `O`: the domain.
    pub(super) fn organization(&self) -> &str {
        &self.subject[0].1
    }

    /// Whether this CA's key made the certificate's signature.
    pub(super) fn signed(
        &self,
        certificate: &x509_parser::certificate::X509Certificate<'_>,
    ) -> bool {
        let Ok((_, own)) = parse_x509_pem(self.certificate_pem.as_bytes()) else { return false };
        let Ok(own) = own.parse_x509() else { return false };
        certificate.issuer() == own.subject()
            && certificate.verify_signature(Some(own.public_key())).is_ok()
    }

    /// Records and makes a certificate for a key whose possession is proven.
    pub(super) fn certify(
        &self,
        key: &impl PublicKeyData,
        request: &CertificateRequest,
    ) -> Result<String, CaError> {
        let subject = request.subject_line();
        let mut params = CertificateParams::default();
        params.distinguished_name = subject::name(&request.subject)?;
        // Written out as "CA:FALSE"; it also brings the subject key identifier.
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = match request.kind {
            CertificateKind::Host => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            CertificateKind::User => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.subject_alt_names =
            request.dns.iter().map(|name| dns_name(name)).collect::<Result<_, _>>()?;
        validity::END_ENTITY.put(&mut params, SystemTime::now(), Some(self.ends));
        let serial = serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params.signed_by(key, &self.issuer).map_err(|source| {
            CaError::Crypto { action: "sign a certificate", subject: subject.clone(), source }
        })?;
        self.record(&Issued {
            at: rfc3339(unix(SystemTime::now()).as_secs().cast_signed()),
            serial: hex::encode(&serial),
            subject,
            kind: request.kind,
            dns: &request.dns,
            not_after: rfc3339(params.not_after.unix_timestamp()),
        })?;
        Ok(certificate.pem())
    }

    fn record(&self, issued: &Issued<'_>) -> Result<(), CaError> {
        let line = serde_json::to_string(issued).expect("strings and a plain enum are JSON");
        let lock = self.folder.lock()?;
        Ok(self.folder.append_line(&lock, ISSUED, &line)?)
    }
}

fn make_key(subject: &str) -> Result<KeyPair, CaError> {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(|source| {
        CaError::Crypto { action: "make an RSA key", subject: subject.into(), source }
    })
}

fn read_key(folder: &PrivateDir, pem: &[u8]) -> Result<KeyPair, CaError> {
    let damaged =
        |why: String| CaError::Damaged { path: folder.file(KEY).display().to_string(), why };
    let pem = std::str::from_utf8(pem).map_err(|error| damaged(error.to_string()))?;
    KeyPair::from_pem_and_sign_algo(pem, &PKCS_RSA_SHA256)
        .map_err(|error| damaged(error.to_string()))
}

fn self_signed(parts: &[(String, String)], key: &KeyPair) -> Result<String, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject::name(parts)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity::AUTHORITY.put(&mut params, SystemTime::now(), None);
    params.serial_number = Some(SerialNumber::from_slice(&serial()?));
    let certificate = params.self_signed(key).map_err(|source| CaError::Crypto {
        action: "sign the CA's certificate",
        subject: subject::line(parts),
        source,
    })?;
    Ok(certificate.pem())
}

/// 128 random bits, positive and never shorter.
fn serial() -> Result<Vec<u8>, CaError> {
    let mut serial = random_bytes(16).map_err(|source| CaError::Random { source })?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn dns_name(name: &str) -> Result<SanType, CaError> {
    let fault = |why| CaError::DnsName { name: name.into(), why };
    if name.is_empty() || name.len() > 253 {
        return Err(fault("it must have 1 to 253 characters"));
    }
    for label in name.split('.') {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if label.is_empty() || label.len() > 63 || !label.bytes().all(plain) {
            return Err(fault("its parts must have 1 to 63 letters, digits and hyphens"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(fault("its parts must not begin or end with a hyphen"));
        }
    }
    Ia5String::try_from(name).map(SanType::DnsName).map_err(|_| fault("it is not ASCII"))
}

/// The parts of a name, with the attribute names that this CA uses itself.
fn subject_parts(name: &x509_parser::x509::X509Name<'_>) -> Result<Vec<(String, String)>, String> {
    use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME};
    name.iter_attributes()
        .map(|attribute| {
            let kind = attribute.attr_type();
            let short = if *kind == OID_X509_COMMON_NAME {
                "CN".to_owned()
            } else if *kind == OID_X509_ORGANIZATION_NAME {
                "O".to_owned()
            } else {
                kind.to_id_string()
            };
            let value = attribute.as_str().map_err(|error| error.to_string())?;
            Ok((short, value.to_owned()))
        })
        .collect()
}

fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}
