//! Checks clear-signed files against the Debian archive's keys.
//!
//! A signature counts when the key that made it is in the keyring, is bound to
//! its primary key and allowed to sign, and neither revoked nor expired now.

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag, Timestamp};

/// The archive's keys, as Debian ships them.
const EMBEDDED: [&[u8]; 6] = [
    include_bytes!("../../assets/debian-archive-trixie-automatic.pgp"),
    include_bytes!("../../assets/debian-archive-trixie-stable.pgp"),
    include_bytes!("../../assets/debian-archive-trixie-security-automatic.pgp"),
    include_bytes!("../../assets/debian-archive-bookworm-automatic.pgp"),
    include_bytes!("../../assets/debian-archive-bookworm-stable.pgp"),
    include_bytes!("../../assets/debian-archive-bookworm-security-automatic.pgp"),
];

/// How far a signature's time may lie ahead of this host's clock, seconds.
const CLOCK_SKEW: u64 = 24 * 3600;

/// Why a signed file was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is not a clear-signed message.
    #[error("it is not a clear-signed file ({0})")]
    NotSigned(String),
    /// All its signatures are of keys that are not in the keyring.
    #[error("it is signed by unknown keys only ({0})")]
    UnknownKey(String),
    /// A known key's signature does not fit the text.
    #[error("the signature of key {0} does not fit the text: it was altered")]
    Altered(String),
    /// The key was not valid any more.
    #[error("key {0} has expired (is this host's clock right?)")]
    Expired(String),
    /// The key was withdrawn.
    #[error("key {0} is revoked")]
    Revoked(String),
    /// The key is not allowed to sign, or its own signatures do not hold.
    #[error("key {0} is not a signing key bound to its owner")]
    NotForSigning(String),
    /// The signature itself is out of its time, or made with a broken hash.
    #[error("the signature of key {0} is {1}")]
    Unfit(String, &'static str),
}

/// A set of trusted keys.
#[derive(Clone, Debug)]
pub(crate) struct Keyring {
    keys: Vec<SignedPublicKey>,
}

impl Keyring {
    /// Debian's archive keys, embedded.
    pub(crate) fn debian() -> Keyring {
        let mut keys = Vec::new();
        for bytes in EMBEDDED {
            // A key that cannot be read is absent; a test asserts that all can.
            keys.extend(SignedPublicKey::from_bytes_many(bytes).into_iter().flatten().flatten());
        }
        Keyring { keys }
    }

    /// A keyring of given keys.
    #[cfg(test)]
    pub(crate) fn of(keys: Vec<SignedPublicKey>) -> Keyring {
        Keyring { keys }
    }

    /// Gives the signed text (lines end with `\n`) if at least one signature counts at
    /// `now` (seconds since 1970); else the reason of the best of them.
    pub(crate) fn verify(&self, message: &str, now: u64) -> Result<String, SignatureError> {
        let (message, _) = CleartextSignedMessage::from_string(message)
            .map_err(|error| SignatureError::NotSigned(error.to_string()))?;
        let text = message.signed_text();
        let mut unknown = Vec::new();
        let mut refused = None;
        for signature in message.signatures() {
            match self.check(signature, text.as_bytes(), now) {
                Some(Ok(())) => return Ok(text.replace("\r\n", "\n")),
                Some(Err(error)) => refused = Some(error),
                None => unknown.push(issuer(signature)),
            }
        }
        Err(refused.unwrap_or_else(|| SignatureError::UnknownKey(unknown.join(", "))))
    }

    /// None when no key of the keyring made this signature.
    fn check(
        &self,
        signature: &Signature,
        text: &[u8],
        now: u64,
    ) -> Option<Result<(), SignatureError>> {
        for key in &self.keys {
            if names(signature, &key.primary_key) {
                return Some(check_primary(key, signature, text, now));
            }
            for subkey in &key.public_subkeys {
                if names(signature, &subkey.key) {
                    return Some(check_subkey(key, subkey, signature, text, now));
                }
            }
        }
        None
    }
}

fn names(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if !fingerprints.is_empty() {
        return fingerprints.iter().any(|f| **f == key.fingerprint());
    }
    signature.issuer_key_id().iter().any(|id| **id == key.legacy_key_id())
}

fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|f| format!("{f:X}"));
    fingerprint
        .or_else(|| signature.issuer_key_id().first().map(|id| format!("{id}")))
        .unwrap_or_else(|| "nameless".to_owned())
}

fn check_primary(
    key: &SignedPublicKey,
    signature: &Signature,
    text: &[u8],
    now: u64,
) -> Result<(), SignatureError> {
    let name = format!("{:X}", key.primary_key.fingerprint());
    check_signature(signature, &name, now)?;
    let own = check_owner(key, &name, now)?;
    let flags = own.key_flags();
    if !flags.sign() && (flags.certify() || flags.encrypt_comms() || flags.encrypt_storage()) {
        return Err(SignatureError::NotForSigning(name));
    }
    signature.verify(&key.primary_key, text).map_err(|_| SignatureError::Altered(name))
}

fn check_subkey(
    key: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    signature: &Signature,
    text: &[u8],
    now: u64,
) -> Result<(), SignatureError> {
    let name = format!("{:X}", subkey.key.fingerprint());
    check_signature(signature, &name, now)?;
    check_owner(key, &name, now)?;
    let valid = |s: &&Signature| s.verify_subkey_binding(&key.primary_key, &subkey.key).is_ok();
    let of_type = |kind| subkey.signatures.iter().filter(move |s| s.typ() == Some(kind));
    if of_type(SignatureType::SubkeyRevocation).any(|s| valid(&s)) {
        return Err(SignatureError::Revoked(name));
    }
    let binding = of_type(SignatureType::SubkeyBinding).filter(valid).max_by_key(|s| made_at(s));
    let binding = binding.filter(|binding| {
        let back = binding.embedded_signature();
        let bound_back = back
            .is_some_and(|b| b.verify_primary_key_binding(&subkey.key, &key.primary_key).is_ok());
        binding.key_flags().sign() && bound_back
    });
    let Some(binding) = binding else { return Err(SignatureError::NotForSigning(name)) };
    check_expiry(subkey.key.created_at(), binding, &name, now)?;
    signature.verify(&subkey.key, text).map_err(|_| SignatureError::Altered(name))
}

/// The primary key's newest valid self-signature, if the key is neither revoked nor expired.
fn check_owner<'a>(
    key: &'a SignedPublicKey,
    name: &str,
    now: u64,
) -> Result<&'a Signature, SignatureError> {
    let primary = &key.primary_key;
    if key.details.revocation_signatures.iter().any(|s| s.verify_key(primary).is_ok()) {
        return Err(SignatureError::Revoked(name.to_owned()));
    }
    let by_users = key.details.users.iter().flat_map(|user| {
        let valid = |s: &&Signature| {
            s.is_certification() && s.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        };
        user.signatures.iter().filter(valid)
    });
    let direct = key.details.direct_signatures.iter().filter(|s| s.verify_key(primary).is_ok());
    let newest = by_users.chain(direct).max_by_key(|s| made_at(s));
    let own = newest.ok_or_else(|| SignatureError::NotForSigning(name.to_owned()))?;
    check_expiry(primary.created_at(), own, name, now)?;
    Ok(own)
}

fn check_expiry(
    created: Timestamp,
    signature: &Signature,
    name: &str,
    now: u64,
) -> Result<(), SignatureError> {
    let created = u64::from(created.as_secs());
    let life = signature.key_expiration_time().map_or(0, |d| u64::from(d.as_secs()));
    if life != 0 && created.saturating_add(life) <= now {
        return Err(SignatureError::Expired(name.to_owned()));
    }
    Ok(())
}

fn check_signature(signature: &Signature, name: &str, now: u64) -> Result<(), SignatureError> {
    let unfit = |why| Err(SignatureError::Unfit(name.to_owned(), why));
    let kinds = [Some(SignatureType::Text), Some(SignatureType::Binary)];
    if !kinds.contains(&signature.typ()) {
        return unfit("not one over a text");
    }
    let good = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
    if !signature.hash_alg().is_some_and(|hash| good.contains(&hash)) {
        return unfit("made with a hash that is not trusted any more");
    }
    let made = made_at(signature);
    if made > now.saturating_add(CLOCK_SKEW) {
        return unfit("from the future (is this host's clock right?)");
    }
    let life = signature.signature_expiration_time().map_or(0, |d| u64::from(d.as_secs()));
    if life != 0 && made.saturating_add(life) <= now {
        return unfit("expired");
    }
    Ok(())
}

fn made_at(signature: &Signature) -> u64 {
    signature.created().map_or(0, |time| u64::from(time.as_secs()))
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;
