//! Where the Debian archive is: flag, environment, the host's apt, site profile.

mod apt_config;

use std::path::Path;

use apt_config::HostApt;

/// Names the mirror in the environment.
const VARIABLE: &str = "GRIDGATE_MIRROR";

/// Names the proxy in the environment, in order.
const PROXY_VARIABLES: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

/// Bases from which packages come. No mirror's name is built in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrors {
    /// Base of the archive, e.g. `http://HOST/debian`, without a slash at its end.
    pub debian: String,
    /// HTTP proxy, `http://HOST:PORT`.
    pub proxy: Option<String>,
    /// Base of the security archive, when the host's apt names one.
    pub security: Option<String>,
}

/// Why no mirror was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// Nothing names a mirror.
    #[error("no Debian mirror found (looked at: {}); name one with --mirror http://HOST/debian", .looked_at.join(", "))]
    NotFound {
        /// What was looked at.
        looked_at: Vec<String>,
    },
    /// A value is not an http(s) address.
    #[error("the Debian mirror {value:?} from {origin} is not an http:// or https:// address")]
    NotHttp {
        /// The value.
        value: String,
        /// Where it stands.
        origin: String,
    },
}

impl Mirrors {
    /// Finds the mirror: `flag`, the environment (`GRIDGATE_MIRROR`, `http_proxy`),
    /// the host's apt configuration, `profile`, in this order.
    pub fn discover(flag: Option<&str>, profile: Option<&str>) -> Result<Mirrors, MirrorError> {
        let environment = |name: &str| std::env::var(name).ok();
        choose(flag, profile, environment, &HostApt::read(Path::new("/etc/apt")))
    }
}

fn choose(
    flag: Option<&str>,
    profile: Option<&str>,
    environment: impl Fn(&str) -> Option<String>,
    host: &HostApt,
) -> Result<Mirrors, MirrorError> {
    let set = |value: Option<String>| value.filter(|value| !value.trim().is_empty());
    let candidates = [
        ("--mirror", set(flag.map(str::to_owned))),
        (VARIABLE, set(environment(VARIABLE))),
        ("the host's apt configuration in /etc/apt", host.debian.clone()),
        ("the site profile", set(profile.map(str::to_owned))),
    ];
    let looked_at = candidates.iter().map(|(origin, _)| (*origin).to_owned()).collect();
    let found = candidates.into_iter().find_map(|(origin, value)| Some((origin, value?)));
    let (origin, value) = found.ok_or(MirrorError::NotFound { looked_at })?;
    let proxy = PROXY_VARIABLES.iter().find_map(|name| set(environment(name)));
    Ok(Mirrors {
        debian: base(&value, origin)?,
        proxy: proxy.or_else(|| host.proxy.clone()),
        security: host.security.clone(),
    })
}

fn base(value: &str, origin: &str) -> Result<String, MirrorError> {
    let value = value.trim().trim_end_matches('/');
    let rest = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
    if rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace)) {
        return Ok(value.to_owned());
    }
    Err(MirrorError::NotHttp { value: value.to_owned(), origin: origin.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostApt {
        HostApt {
            debian: Some("http://apt.invalid/debian".to_owned()),
            security: None,
            proxy: Some("http://proxy.invalid:3142".to_owned()),
        }
    }

    #[test]
    fn takes_the_first_that_says() {
        let none = |_: &str| None;
        let env = |name: &str| (name == VARIABLE).then(|| "http://env.invalid/debian/".to_owned());
        let debian = |found: Result<Mirrors, MirrorError>| found.unwrap().debian;
        let (flag, profile) = (Some("https://flag.invalid/d"), Some("http://p.invalid"));
        assert_eq!(debian(choose(flag, profile, env, &host())), "https://flag.invalid/d");
        assert_eq!(debian(choose(None, profile, env, &host())), "http://env.invalid/debian");
        assert_eq!(debian(choose(None, profile, none, &host())), "http://apt.invalid/debian");
        assert_eq!(debian(choose(None, profile, none, &HostApt::default())), "http://p.invalid");
        let found = choose(None, None, none, &host()).unwrap();
        assert_eq!(found.proxy.as_deref(), Some("http://proxy.invalid:3142"));
    }

    #[test]
    fn says_what_was_looked_at() {
        let none = |_: &str| None;
        let error = choose(None, None, none, &HostApt::default()).unwrap_err().to_string();
        for word in ["--mirror", VARIABLE, "/etc/apt", "profile"] {
            assert!(error.contains(word), "{error}");
        }
        let error = choose(Some("ftp://x"), None, none, &host()).unwrap_err();
        assert!(matches!(error, MirrorError::NotHttp { .. }));
    }
}
