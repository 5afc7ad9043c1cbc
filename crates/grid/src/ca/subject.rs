//! Subjects: from attribute names and values to a distinguished name.
//!
//! Values are UTF8String, as OpenSSL writes them today; a country, which must be
//! two letters, is a PrintableString, and domain components are IA5String.

use rcgen::string::{Ia5String, PrintableString};
use rcgen::{DistinguishedName, DnType, DnValue};

use super::error::CaError;

/// Attribute names, their types, and the most characters they may have
/// (RFC 5280, appendix A.1, upper bounds).
const ATTRIBUTES: [(&str, Attribute, usize); 8] = [
    ("C", Attribute::Known(DnType::CountryName), 2),
    ("ST", Attribute::Known(DnType::StateOrProvinceName), 128),
    ("L", Attribute::Known(DnType::LocalityName), 128),
    ("O", Attribute::Known(DnType::OrganizationName), 64),
    ("OU", Attribute::Known(DnType::OrganizationalUnitName), 64),
    ("CN", Attribute::Known(DnType::CommonName), 64),
    ("DC", Attribute::Oid(&[0, 9, 2342, 19_200_300, 100, 1, 25]), 63),
    ("UID", Attribute::Oid(&[0, 9, 2342, 19_200_300, 100, 1, 1]), 256),
];

enum Attribute {
    Known(DnType),
    Oid(&'static [u64]),
}

/// The subject in one line, `/O=…/CN=…`.
pub(super) fn line(parts: &[(String, String)]) -> String {
    parts.iter().map(|(attribute, value)| format!("/{attribute}={value}")).collect()
}

/// The distinguished name of these parts, in their order.
pub(super) fn name(parts: &[(String, String)]) -> Result<DistinguishedName, CaError> {
    if parts.is_empty() {
        return Err(CaError::NoSubject);
    }
    let mut name = DistinguishedName::new();
    for (attribute, value) in parts {
        let fault = |why: String| CaError::Subject {
            attribute: attribute.clone(),
            value: value.clone(),
            why,
        };
        let Some((_, kind, longest)) = ATTRIBUTES.iter().find(|entry| entry.0 == attribute) else {
            let known: Vec<_> = ATTRIBUTES.iter().map(|entry| entry.0).collect();
            return Err(fault(format!("the attribute must be one of {}", known.join(", "))));
        };
        check_value(value, *longest).map_err(fault)?;
        let kind = match kind {
            Attribute::Known(known) => known.clone(),
            Attribute::Oid(oid) => DnType::CustomDnType(oid.to_vec()),
        };
        if name.get(&kind).is_some() {
            return Err(fault(format!("a subject of this CA has one {attribute}, not several")));
        }
        let value = encode(attribute, value).map_err(|error| fault(error.to_string()))?;
        name.push(kind, value);
    }
    Ok(name)
}

fn check_value(value: &str, longest: usize) -> Result<(), String> {
    if value.is_empty() {
        return Err("it is empty".into());
    }
    if value.trim() != value {
        return Err("it begins or ends with a space".into());
    }
    if let Some(bad) = value.chars().find(|character| character.is_control()) {
        return Err(format!("it has the control character {bad:?}"));
    }
    let count = value.chars().count();
    if count > longest {
        return Err(format!("it has {count} characters, the most is {longest}"));
    }
    // In the one-line form that a grid-mapfile has, `/` and `=` together would
    // make one value look like several attributes: another person's subject.
    if value.split_once('/').is_some_and(|(_, rest)| rest.contains('=')) {
        return Err("`/` followed by `=` would read as another attribute".into());
    }
    Ok(())
}

fn encode(attribute: &str, value: &str) -> Result<DnValue, rcgen::Error> {
    Ok(match attribute {
        "C" => DnValue::PrintableString(PrintableString::try_from(value)?),
        "DC" => DnValue::Ia5String(Ia5String::try_from(value)?),
        _ => DnValue::Utf8String(value.into()),
    })
}
