//! Rules for names. Each function gives the broken rule as a sentence.

/// Longest node, user and component name.
const LONGEST_NAME: usize = 32;

/// Names of accounts that Debian and the middleware packages use themselves.
const SYSTEM_USERS: &[&str] = &[
    "root",
    "daemon",
    "bin",
    "sys",
    "sync",
    "games",
    "man",
    "lp",
    "mail",
    "news",
    "uucp",
    "proxy",
    "www-data",
    "backup",
    "list",
    "irc",
    "_apt",
    "nobody",
    "messagebus",
    "sshd",
    "statd",
    "munge",
    "slurm",
    "xrootd",
    "myproxy",
    "globus",
    "systemd-network",
    "systemd-timesync",
    "polkitd",
    "adm",
    "tty",
    "disk",
    "sudo",
    "users",
    "nogroup",
    "staff",
    "shadow",
    "kvm",
    "input",
    "render",
];

/// A rule that is kept, or the sentence that says which one is not.
pub(crate) type Rule = Result<(), &'static str>;

/// One label of a host name.
pub(crate) fn node(name: &str) -> Rule {
    if name.len() > LONGEST_NAME {
        return Err("a node name has at most 32 characters");
    }
    if name == "localhost" || name == "gridgate-server" {
        return Err("this name is taken: every node uses it for something else");
    }
    label(name)
        .map_err(|()| "a node name is lower-case letters, digits and hyphens, a letter first, no hyphen last")
}

/// A site's name.
pub(crate) fn site(name: &str) -> Rule {
    if name.len() > LONGEST_NAME {
        return Err("a site name has at most 32 characters");
    }
    label(name)
        .map_err(|()| "a site name is lower-case letters, digits and hyphens, a letter first, no hyphen last")
}

/// A DNS domain.
pub(crate) fn domain(name: &str) -> Rule {
    if name.len() > 64 {
        return Err("a domain has at most 64 characters (it stands in certificates)");
    }
    let good = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if name.split('.').all(good) && !name.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Ok(());
    }
    Err("a domain is labels of lower-case letters, digits and hyphens, joined by dots")
}

/// A component's, role's or secret's name.
pub(crate) fn hyphenated(name: &str) -> Rule {
    if name.len() <= LONGEST_NAME && label(name).is_ok() {
        return Ok(());
    }
    Err(
        "such a name is at most 32 lower-case letters, digits and hyphens, a letter first, no hyphen last",
    )
}

/// A parameter's or published value's name: something templates can write after a dot.
pub(crate) fn identifier(name: &str) -> Rule {
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if name.len() <= 48
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(rest)
    {
        return Ok(());
    }
    Err("such a name is lower-case letters, digits and underscores, a letter first")
}

/// A grid user's login name.
pub(crate) fn user(name: &str) -> Rule {
    if SYSTEM_USERS.contains(&name) || name.starts_with("systemd-") {
        return Err("this login name belongs to the system");
    }
    account(name)
}

/// Any account's or group's name.
pub(crate) fn account(name: &str) -> Rule {
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if first && name.len() <= LONGEST_NAME && name.bytes().all(rest) {
        return Ok(());
    }
    Err(
        "a login name is at most 32 lower-case letters, digits, hyphens and underscores, a letter first",
    )
}

/// A person's full name as it stands in a certificate and in `/etc/passwd`.
pub(crate) fn full_name(name: &str) -> Rule {
    if name.is_empty() || name.len() > 64 || name.trim() != name {
        return Err("a full name has 1 to 64 characters, none of them a space at its ends");
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || b" .'-()_@".contains(&b);
    if name.bytes().all(good) {
        return Ok(());
    }
    Err(
        "a full name is ASCII letters, digits, spaces and . ' - ( ) _ @: grid software compares it byte by byte",
    )
}

/// A Debian package name (Debian policy 5.6.7).
pub(crate) fn package(name: &str) -> Rule {
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    if first && (2..=100).contains(&name.len()) && name.bytes().all(rest) {
        return Ok(());
    }
    Err("a Debian package name is lower-case letters, digits and + - . , a letter or digit first")
}

/// An absolute path without detours.
pub(crate) fn path(path: &str) -> Rule {
    if !path.starts_with('/') {
        return Err("a path starts with /");
    }
    if path.len() > 1024 || path.chars().any(char::is_control) {
        return Err("a path has at most 1024 characters and no control characters");
    }
    if path == "/" || path[1..].split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("a path has no empty part, no . and no .. in it, and is not / itself");
    }
    Ok(())
}

/// Permission bits from an octal string such as `0644`.
pub(crate) fn mode(text: &str) -> Result<u32, &'static str> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let bits = digits.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    bits.ok_or("a mode is three or four octal digits in a string, such as \"0644\"")
}

fn label(name: &str) -> Result<(), ()> {
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 63
        && name.bytes().all(rest)
        && !name.ends_with('-');
    good.then_some(()).ok_or(())
}

#[cfg(test)]
mod tests;
