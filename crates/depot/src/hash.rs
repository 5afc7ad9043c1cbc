//! SHA-256 of bytes and of lists of named values.

use sha2::{Digest, Sha256};

/// SHA-256 in hex.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A key over named values: unambiguous, since lengths go in. 32 hex digits.
pub(crate) fn key<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut hash = Sha256::new();
    for (name, value) in values {
        for text in [name, value] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    hex::encode(&hash.finalize()[..16])
}
