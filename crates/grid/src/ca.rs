//! The site's certification authority, on the host.
//!
//! Keys of hosts and persons are made in the nodes; what comes here is a
//! certificate request. Of that only the public key is taken: subject and
//! extensions come from the node profile, through [`CertificateRequest`].
//!
//! ```text
//!  absent ── key written ──> key alone ── certificate written ──> usable
//! ```
//! Each step is one atomic rename under the folder's lock, and "key alone" is
//! taken up where it was left, so a kill at any moment leaves a usable CA or none.
//!
//! | file | mode | what |
//! |---|---|---|
//! | `ca.key` | 0600 | RSA 2048, PKCS #8 PEM |
//! | `ca.pem` | 0644 | the certificate |
//! | `issued.jsonl` | 0600 | one line per certificate, written before it is handed out |

mod authority;
mod error;
mod identity;
mod request;
mod subject;
mod subject_hash;
mod validity;

#[cfg(test)]
mod tests;

pub use authority::SiteCa;
pub use error::CaError;
pub use identity::ServerIdentity;
pub use request::CertificateRequest;
