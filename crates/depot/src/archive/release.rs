//! The archive's release file: which files a suite has, with size and hash.

use std::collections::HashMap;

use jiff::Timestamp;

use super::control::Paragraph;

/// A release file, read from its signed text.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    /// `Codename` and `Suite`.
    names: [String; 2],
    /// When it was made.
    pub(crate) date: Option<Timestamp>,
    /// Until when the file vouches for being current.
    pub(crate) valid_until: Option<Timestamp>,
    files: HashMap<String, Listed>,
}

/// A file that a release file lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// SHA-256, hex.
    pub(crate) sha256: String,
    /// Size in bytes.
    pub(crate) size: u64,
}

impl Release {
    /// Reads the text; lines it does not understand are passed over.
    pub(crate) fn parse(text: &str) -> Release {
        let paragraph = Paragraph::new(text);
        let name = |field| paragraph.get(field).unwrap_or_default().to_owned();
        let files = paragraph.get("SHA256").unwrap_or_default().lines().filter_map(listed);
        Release {
            names: [name("Codename"), name("Suite")],
            date: paragraph.get("Date").and_then(date),
            valid_until: paragraph.get("Valid-Until").and_then(date),
            files: files.collect(),
        }
    }

    /// Whether this is the release file of `suite`, by codename or suite name:
    /// a signed file of another suite must not pass for it.
    pub(crate) fn is_for(&self, suite: &str) -> bool {
        self.names.iter().any(|name| name == suite)
    }

    /// A listed file by its path below the suite's folder.
    pub(crate) fn file(&self, path: &str) -> Option<&Listed> {
        self.files.get(path)
    }
}

fn listed(line: &str) -> Option<(String, Listed)> {
    let mut words = line.split_whitespace();
    let (sha256, size, path) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let hex = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| (path.to_owned(), Listed { sha256: sha256.to_ascii_lowercase(), size }))
}

/// A date as in `Sat, 12 Sep 2026 07:55:41 UTC`.
fn date(text: &str) -> Option<Timestamp> {
    let text = text.replace("UTC", "+0000").replace("GMT", "+0000");
    jiff::fmt::rfc2822::parse(&text).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_a_release() {
        let hash = "ab".repeat(32);
        let text = format!(
            "Suite: testing\nCodename: forky\nValid-Until: Fri, 06 Nov 2026 08:08:01 UTC\n\
             MD5Sum:\n 00 1 x\nSHA256:\n {hash}  12 main/binary-amd64/Packages.xz\n bad\n"
        );
        let release = Release::parse(&text);
        assert!(release.is_for("forky") && release.is_for("testing") && !release.is_for("trixie"));
        assert_eq!(release.valid_until, "2026-11-06T08:08:01Z".parse().ok());
        let expected = Listed { sha256: hash, size: 12 };
        assert_eq!(release.file("main/binary-amd64/Packages.xz"), Some(&expected));
        assert_eq!(release.file("x"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(Suite|SHA256|Valid-Until|[a-f0-9]{64}|[ :\n0-9a-zA-Z,])*") {
            let _ = Release::parse(&text);
        }
    }
}
