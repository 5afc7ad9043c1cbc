//! Filters for configuration files, beyond those minijinja brings.

use minijinja::{Environment, Error, ErrorKind};

use crate::size::{GIB, MIB};

/// Adds the filters to an environment.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("mib", |bytes: u64| bytes / MIB);
    environment.add_filter("gib", |bytes: u64| bytes / GIB);
    environment.add_filter("shell_quote", shell_quote);
    environment.add_filter("systemd_path", systemd_path);
}

/// One word for `/bin/sh`.
fn shell_quote(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn systemd_path(path: &str) -> Result<String, Error> {
    if !path.starts_with('/') {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("{path} is no absolute path")));
    }
    Ok(escape_path(path))
}

/// A path as part of a unit's name, as `systemd-escape --path` writes it.
pub(crate) fn escape_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return "-".to_owned();
    }
    let mut escaped = String::new();
    for (index, byte) in parts.join("/").bytes().enumerate() {
        match byte {
            b'/' => escaped.push('-'),
            b'.' if index == 0 => escaped.push_str("\\x2e"),
            b if b.is_ascii_alphanumeric() || b":_.".contains(&b) => escaped.push(char::from(b)),
            b => escaped.push_str(&format!("\\x{b:02x}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::{escape_path, shell_quote};

    #[test]
    fn quotes_for_the_shell_only_where_needed() {
        assert_eq!(shell_quote("/usr/bin/true"), "/usr/bin/true");
        assert_eq!(shell_quote(""), "''");
        assert_eq!(shell_quote("it's; rm"), "'it'\\''s; rm'");
    }

    #[test]
    fn escapes_paths_as_systemd_escape_does() {
        assert_eq!(escape_path("/"), "-");
        assert_eq!(escape_path("/srv/grid"), "srv-grid");
        assert_eq!(escape_path("/srv//my-data/"), "srv-my\\x2ddata");
        assert_eq!(escape_path("/.a/.b"), "\\x2ea-.b");
        assert_eq!(escape_path("/é"), "\\xc3\\xa9");
    }
}
