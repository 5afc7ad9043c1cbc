//! What can go wrong with the site's CA.

use std::io;

use thiserror::Error;

use crate::store::StoreError;

/// Why the CA could not be opened, or would not sign.
#[derive(Debug, Error)]
pub enum CaError {
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A CA certificate without its key.
    #[error(
        "{certificate} is there, but its key {key} is not: put it back from a copy, or remove \
         the certificate to have a new CA made (every node then needs new certificates)"
    )]
    KeyMissing {
        /// Path of the certificate.
        certificate: String,
        /// Path where the key should be.
        key: String,
    },
    /// A file of the CA is not what it should be.
    #[error("{path} cannot be used: {why}")]
    Damaged {
        /// Path of the file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The folder holds the CA of another site or domain.
    #[error(
        "{path} is the CA `{found}`, but this site's is `{wanted}`: the site's name or domain was \
         changed; destroy the site, or remove the CA's folder to have a new one made"
    )]
    OtherSubject {
        /// Path of the certificate.
        path: String,
        /// Its subject.
        found: String,
        /// The subject it should have.
        wanted: String,
    },
    /// The CA's certificate has run out.
    #[error("{path} expired on {expired}: remove the CA's folder to have a new one made")]
    Expired {
        /// Path of the certificate.
        path: String,
        /// When.
        expired: String,
    },
    /// A subject that a certificate cannot have.
    #[error("the subject's {attribute} `{value}` cannot be used: {why}")]
    Subject {
        /// The attribute, e.g. `CN`.
        attribute: String,
        /// Its value.
        value: String,
        /// The rule that it breaks.
        why: String,
    },
    /// A subject without attributes.
    #[error("a certificate needs a subject, but the request names none")]
    NoSubject,
    /// A DNS name that a certificate cannot have.
    #[error("`{name}` is no DNS name: {why}")]
    DnsName {
        /// The name.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A certificate request that cannot be read.
    #[error("the certificate request for `{subject}` cannot be read: {why}")]
    BadRequest {
        /// Subject that was to be signed.
        subject: String,
        /// Why.
        why: String,
    },
    /// The requester does not hold the key.
    #[error("the certificate request for `{subject}` is not signed with its own key: {why}")]
    BadSignature {
        /// Subject that was to be signed.
        subject: String,
        /// Why.
        why: String,
    },
    /// A key that the middleware would refuse.
    #[error("the key for `{subject}` is {found}; it must be RSA of 2048 to 8192 bits")]
    WeakKey {
        /// Subject that was to be signed.
        subject: String,
        /// The key's kind and size.
        found: String,
    },
    /// The cryptographic library failed.
    #[error("cannot {action} for `{subject}`: {source}")]
    Crypto {
        /// What was tried.
        action: &'static str,
        /// For whom.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// No random numbers.
    #[error("the kernel gave no random numbers for a serial number: {source}")]
    Random {
        /// Why.
        source: io::Error,
    },
}
