//! Secrets of the site, such as the munge key: made once on the host, kept in a
//! private folder, one file of mode 0600 each.
//!
//! A secret is never changed here. When a component wants another size or format
//! than the kept one has, that is an error: two halves of a site must not end up
//! with different keys.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::store::{Access, PrivateDir, StoreError, random_bytes};

/// Largest secret, in random bytes.
pub const MAXIMUM_BYTES: usize = 65536;

/// Characters on a line of a base64 secret, as `openssl rand -base64` writes it.
const BASE64_LINE: usize = 64;

/// How a secret's random bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// As they are.
    Raw,
    /// Lower-case hexadecimal digits, no newline.
    Hex,
    /// Base64 in lines of 64 characters, each ended by a newline, as XRootD's
    /// macaroon library wants it.
    Base64,
}

impl Format {
    fn write(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Format::Raw => bytes.to_vec(),
            Format::Hex => hex::encode(bytes).into_bytes(),
            Format::Base64 => {
                let text = STANDARD.encode(bytes).into_bytes();
                text.chunks(BASE64_LINE)
                    .flat_map(|line| [line, b"\n".as_slice()].concat())
                    .collect()
            }
        }
    }

    /// Length of a secret of this many random bytes.
    fn length(self, bytes: usize) -> usize {
        match self {
            Format::Raw => bytes,
            Format::Hex => 2 * bytes,
            Format::Base64 => {
                let text = bytes.div_ceil(3) * 4;
                text + text.div_ceil(BASE64_LINE)
            }
        }
    }
}

impl FromStr for Format {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Format, SecretError> {
        match text {
            "raw" => Ok(Format::Raw),
            "hex" => Ok(Format::Hex),
            "base64" => Ok(Format::Base64),
            other => Err(SecretError::Format { found: other.into() }),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Format::Raw => "raw",
            Format::Hex => "hex",
            Format::Base64 => "base64",
        })
    }
}

/// Why there is no such secret.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The name is not one that can be a file's.
    #[error(
        "`{name}` cannot be a secret's name: small letters, digits, `-`, `_` and `.`, \
         beginning with a letter or digit, at most 64"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// The format is unknown.
    #[error("`{found}` is no format of a secret: it is `raw`, `hex` or `base64`")]
    Format {
        /// What was given.
        found: String,
    },
    /// Too long or empty.
    #[error("secret `{name}` cannot have {bytes} bytes: it has 1 to {MAXIMUM_BYTES}")]
    Size {
        /// Its name.
        name: String,
        /// What was asked for.
        bytes: usize,
    },
    /// The kept secret is not of the wanted kind.
    #[error(
        "secret `{name}` has {found} bytes in its file, but {bytes} random bytes as {format} \
         make {wanted}: it was made for another setting; delete its file to have it made anew, \
         then apply all nodes"
    )]
    Differs {
        /// Its name.
        name: String,
        /// Length of the file.
        found: usize,
        /// Random bytes wanted.
        bytes: usize,
        /// Format wanted.
        format: Format,
        /// Length that the file would have.
        wanted: usize,
    },
    /// No random numbers.
    #[error("the kernel gave no random numbers for secret `{name}`: {source}")]
    Random {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The file could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The secret's content; made now if it is not there yet.
///
/// `bytes` counts the random bytes, before they are written in `format`.
pub fn ensure(
    dir: &Path,
    name: &str,
    bytes: usize,
    format: Format,
) -> Result<Vec<u8>, SecretError> {
    check_name(name)?;
    if bytes == 0 || bytes > MAXIMUM_BYTES {
        return Err(SecretError::Size { name: name.into(), bytes });
    }
    let folder = PrivateDir::open(dir)?;
    let lock = folder.lock()?;
    if let Some(kept) = folder.read(name)? {
        let wanted = format.length(bytes);
        if kept.len() != wanted {
            let (name, found) = (name.into(), kept.len());
            return Err(SecretError::Differs { name, found, bytes, format, wanted });
        }
        folder.tighten(name)?;
        return Ok(kept);
    }
    let random =
        random_bytes(bytes).map_err(|source| SecretError::Random { name: name.into(), source })?;
    let content = format.write(&random);
    folder.write(&lock, name, &content, Access::Owner)?;
    Ok(content)
}

fn check_name(name: &str) -> Result<(), SecretError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = name.len() <= 64
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|byte| plain(byte) || b"-_.".contains(&byte));
    if good { Ok(()) } else { Err(SecretError::Name { name: name.into() }) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("secrets");
        let first = ensure(&home, "munge-key", 1024, Format::Raw).unwrap();
        assert_eq!(first.len(), 1024);
        assert_eq!(ensure(&home, "munge-key", 1024, Format::Raw).unwrap(), first);
        assert_ne!(ensure(&home, "other", 1024, Format::Raw).unwrap(), first);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&home), 0o700);
        assert_eq!(mode(&home.join("munge-key")), 0o600);
    }

    #[test]
    fn formats_have_the_length_they_say() {
        for bytes in [1, 2, 3, 47, 48, 49, 64, 96, 1024] {
            for format in [Format::Raw, Format::Hex, Format::Base64] {
                assert_eq!(format.write(&vec![7; bytes]).len(), format.length(bytes));
                assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
            }
        }
        let text = String::from_utf8(Format::Base64.write(&[0xff; 64])).unwrap();
        let lines: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(lines, [64, 24]);
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn another_size_is_refused_and_the_secret_stays() {
        let dir = tempfile::tempdir().unwrap();
        let kept = ensure(dir.path(), "key", 32, Format::Hex).unwrap();
        let error = ensure(dir.path(), "key", 16, Format::Hex).unwrap_err();
        assert!(matches!(error, SecretError::Differs { found: 64, wanted: 32, .. }), "{error}");
        assert_eq!(ensure(dir.path(), "key", 32, Format::Hex).unwrap(), kept);
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", "..", ".hidden", "a/b", "../x", "Ä", "a b", &"x".repeat(65)] {
            let error = ensure(dir.path(), name, 8, Format::Raw).unwrap_err();
            assert!(matches!(error, SecretError::Name { .. }), "{name}: {error}");
        }
        for bytes in [0, MAXIMUM_BYTES + 1] {
            assert!(ensure(dir.path(), "key", bytes, Format::Raw).is_err());
        }
    }

    #[test]
    fn what_a_killed_writer_left_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".key.new"), b"half a se").unwrap();
        let made = ensure(dir.path(), "key", 32, Format::Raw).unwrap();
        assert_eq!(made.len(), 32);
        assert!(!dir.path().join(".key.new").exists());
    }

    #[test]
    fn makers_at_the_same_time_get_the_same_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(move || ensure(path, "key", 64, Format::Hex).unwrap()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
