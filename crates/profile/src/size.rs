//! Sizes as people write them: `256 MiB`, `20 GiB`.

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes in a GiB.
pub const GIB: u64 = 1 << 30;

const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", GIB), ("MiB", MIB), ("KiB", 1 << 10), ("B", 1)];

/// How a size is written, for faults.
pub(crate) const RULE: &str =
    "a size is a whole number of bytes, as a number and a unit: B, KiB, MiB, GiB or TiB";

/// Bytes of a size such as `256 MiB` or `1.5 GiB`.
///
/// # Errors
/// What to write instead, where that can be told.
pub(crate) fn parse(text: &str) -> Result<u64, Option<String>> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim());
    let thousandths = thousandths(number).ok_or(None)?;
    if unit.is_empty() {
        return Err(Some(format!("\"{number} MiB\"")));
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(binary_unit(unit).map(|unit| format!("\"{number} {unit}\"")));
    };
    let bytes = u128::from(thousandths) * u128::from(*factor);
    if bytes % 1000 != 0 {
        let mib = bytes.div_ceil(1000 * u128::from(MIB));
        return Err(Some(format!("\"{mib} MiB\"")));
    }
    u64::try_from(bytes / 1000).map_err(|_| None)
}

/// `256 MiB`: the largest unit that leaves a whole number.
pub(crate) fn show(bytes: u64) -> String {
    let (unit, factor) = UNITS
        .into_iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .unwrap_or(("B", 1));
    format!("{} {unit}", bytes / factor)
}

fn thousandths(number: &str) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if part.is_empty() || part.len() > 3 || part.contains('.') {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part)
}

/// The unit meant by `MB`, `mb`, `M`, `gib` …
fn binary_unit(unit: &str) -> Option<&'static str> {
    if !unit.is_ascii() {
        return None;
    }
    let first = unit.chars().next()?.to_ascii_uppercase();
    let rest = unit[1..].to_ascii_lowercase();
    if !["", "b", "ib"].contains(&rest.as_str()) {
        return None;
    }
    UNITS.iter().map(|(name, _)| *name).find(|name| name.starts_with(first))
}

#[cfg(test)]
mod tests {
    use super::{parse, show};

    #[test]
    fn reads_sizes() {
        assert_eq!(parse("256 MiB"), Ok(256 << 20));
        assert_eq!(parse("20GiB"), Ok(20 << 30));
        assert_eq!(parse("1.5 GiB"), Ok(1536 << 20));
        assert_eq!(parse("0 MiB"), Ok(0));
        assert_eq!(parse("1 B"), Ok(1));
    }

    #[test]
    fn says_what_was_probably_meant() {
        assert_eq!(parse("256"), Err(Some("\"256 MiB\"".into())));
        assert_eq!(parse("256 MB"), Err(Some("\"256 MiB\"".into())));
        assert_eq!(parse("0.3 GiB"), Err(Some("\"308 MiB\"".into())));
        assert_eq!(parse("4g"), Err(Some("\"4 GiB\"".into())));
        for hopeless in ["", "MiB", "x MiB", "1 é", "1.2.3 MiB", "99999999999999 TiB", "-1 MiB"] {
            assert_eq!(parse(hopeless), Err(None), "{hopeless}");
        }
    }

    #[test]
    fn shows_what_it_reads() {
        for text in ["256 MiB", "20 GiB", "1536 MiB", "7 B", "1 TiB"] {
            assert_eq!(show(parse(text).expect(text)), text);
        }
        assert_eq!(show(0), "0 B");
    }
}
