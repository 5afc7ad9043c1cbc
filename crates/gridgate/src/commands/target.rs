//! Which site and which node a command is about.

use clap::Args;
use gridgate_protocol::site_api::{ErrorKind, SiteSummary};

use crate::daemon::client::Client;
use crate::failure::Failure;

/// Chooses the site.
#[derive(Args, Clone, Debug, Default)]
pub struct SiteChoice {
    /// Site; not needed when the home has only one
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
}

impl SiteChoice {
    /// The choice as it was written, to repeat a command.
    pub fn words(&self) -> String {
        self.site.as_ref().map(|site| format!(" --site {site}")).unwrap_or_default()
    }

    /// The chosen site, or the only one.
    pub async fn resolve(&self, client: &Client) -> Result<String, Failure> {
        match &self.site {
            Some(name) => Ok(name.clone()),
            None => only_site(&client.sites().await?),
        }
    }
}

fn only_site(sites: &[SiteSummary]) -> Result<String, Failure> {
    match sites {
        [only] => Ok(only.site.clone()),
        [] => Err(Failure::new(ErrorKind::NotFound, "there is no site in this home").hint(
            "gridgate init DIR writes a site profile; gridgate up DIR/site.toml brings it up",
        )),
        many => {
            let names: Vec<&str> = many.iter().map(|site| site.site.as_str()).collect();
            Err(Failure::input("there are several sites in this home")
                .why(format!("they are {}", names.join(", ")))
                .hint(format!("say which: --site {}", names[0])))
        }
    }
}

/// A path of the daemon below one node of a site.
pub fn node_path(site: &str, node: &str, rest: &str) -> String {
    format!("/v1/sites/{site}/nodes/{node}/{rest}")
}

/// A node name as it may stand in a request's path: what else there is cannot be a node's name.
pub fn node_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    if !text.is_empty() && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("a node's name has only letters, digits and hyphens".to_owned())
    }
}

/// `[USER@]NODE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Login name, when given.
    pub user: Option<String>,
    /// Node.
    pub node: String,
}

impl std::str::FromStr for Login {
    type Err = String;

    fn from_str(text: &str) -> Result<Login, String> {
        match text.rsplit_once('@') {
            Some(("", _)) => Err("no user stands before the @".to_owned()),
            Some((user, _)) if user.starts_with('-') => {
                Err("a user's name does not begin with a hyphen".to_owned())
            }
            Some((user, node)) => Ok(Login { user: Some(user.to_owned()), node: node_name(node)? }),
            None => Ok(Login { user: None, node: node_name(text)? }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> SiteSummary {
        SiteSummary { site: name.into(), profile: "/x/site.toml".into(), nodes: 4, running: 4 }
    }

    #[test]
    fn the_only_site_is_meant() {
        assert_eq!(only_site(&[site("dublin")]).expect("one site"), "dublin");
    }

    #[test]
    fn several_sites_are_listed() {
        let Err(Failure::Error(error)) = only_site(&[site("cork"), site("dublin")]) else {
            panic!("an error")
        };
        assert_eq!(error.why, ["they are cork, dublin"]);
        assert_eq!(error.kind, ErrorKind::Input);
    }

    #[test]
    fn logins() {
        let login: Login = "alice@ui".parse().expect("a login");
        assert_eq!(login, Login { user: Some("alice".into()), node: "ui".into() });
        assert_eq!("ce".parse::<Login>().expect("a node").user, None);
        assert!("@ui".parse::<Login>().is_err());
        assert!("-oProxyCommand=x@ui".parse::<Login>().is_err());
        assert!("alice@../x".parse::<Login>().is_err());
    }
}
