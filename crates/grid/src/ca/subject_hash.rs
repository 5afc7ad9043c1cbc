//! OpenSSL's subject hash: the name under which a CA's certificate is looked up
//! in `/etc/grid-security/certificates`.
//!
//! It is the first four bytes, least significant first, of the SHA-1 of the
//! name's *canonical* encoding: every value as UTF8String, ASCII letters small,
//! white space trimmed and runs of it one space, and without the outer SEQUENCE's
//! header (OpenSSL, `X509_NAME_hash_ex` and `x509_name_canon`).

use sha1::{Digest, Sha1};
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// The hash as 8 hex digits; none when a value cannot be read as text.
pub(super) fn subject_hash(name: &X509Name<'_>) -> Option<String> {
    let mut canonical = Vec::new();
    for set in name.iter() {
        let mut attributes = set.iter().map(attribute).collect::<Option<Vec<_>>>()?;
        attributes.sort();
        canonical.extend(element(SET, &attributes.concat()));
    }
    let digest = Sha1::digest(&canonical);
    Some(hex::encode([digest[3], digest[2], digest[1], digest[0]]))
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Option<Vec<u8>> {
    let value = attribute.attr_value();
    let text = match value.header.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::VisibleString => {
            std::str::from_utf8(value.data).ok()?
        }
        _ => return None,
    };
    let oid = element(OID, attribute.attr_type().as_bytes());
    let text = element(UTF8_STRING, canonical_text(text).as_bytes());
    Some(element(SEQUENCE, &[oid, text].concat()))
}

fn canonical_text(text: &str) -> String {
    // OpenSSL's idea of white space is that of C's "isspace".
    let space = |character: char| matches!(character, ' ' | '\t'..='\r');
    let words: Vec<_> = text.split(space).filter(|word| !word.is_empty()).collect();
    words.join(" ").to_ascii_lowercase()
}

/// A DER element. Only used for names, which are far below 64 KiB.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut bytes = vec![tag];
    match length {
        0..=0x7f => bytes.push(length as u8),
        0x80..=0xff => bytes.extend([0x81, length as u8]),
        _ => bytes.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    bytes.extend_from_slice(content);
    bytes
}
