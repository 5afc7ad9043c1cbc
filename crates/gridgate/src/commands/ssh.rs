//! `gridgate ssh`: log in to a node.
//!
//! The site's network is in a namespace of its own, which only the ssh client enters. A host without an ssh client
//! uses the one from a role's packages.

mod tools;

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use gridgate_protocol::site_api::Access;

use crate::commands::target::{Login, SiteChoice, node_path};
use crate::daemon::client::Client;
use crate::daemon::with_daemon;
use crate::failure::{Failure, Outcome};
use crate::settings::Settings;

/// Log in to a node, or run a command there
///
/// What stands after -- is handed to ssh as it is.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  gridgate ssh ce                            as root
  gridgate ssh alice@ui                      as a grid user
  gridgate ssh alice@ui -- grid-proxy-init   one command")]
pub struct Ssh {
    /// Node, and user where it is not root
    #[arg(value_name = "[USER@]NODE")]
    login: Login,
    #[command(flatten)]
    choice: SiteChoice,
    /// Command to run instead of a login shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Ssh {
    /// Runs the command.
    pub fn run(self, settings: &Settings) -> Outcome {
        let access = access(settings, &self.choice, &self.login.node)?;
        Err(replace_by_ssh(&access, self.login.user.as_deref(), &self.command))
    }
}

/// How to reach a node.
pub fn access(settings: &Settings, choice: &SiteChoice, node: &str) -> Result<Access, Failure> {
    with_daemon(settings, async |client: &Client| {
        let site = choice.resolve(client).await?;
        client.get(&node_path(&site, node, "access")).await
    })
}

/// Makes this process the ssh client; comes back only when that fails.
pub fn replace_by_ssh(access: &Access, user: Option<&str>, words: &[String]) -> Failure {
    let user = user.unwrap_or("root");
    if let Some(program) = on_path("ssh") {
        let files = Files { key: access.key.clone(), known_hosts: access.known_hosts.clone() };
        let mut command = client(&program, access, &files, user, words);
        if let Err(error) = gridgate_net::enter_in_child(&mut command, &access.namespace) {
            return no_network(&error);
        }
        return not_executed(&program, &command.exec());
    }
    let Some(root) = &access.tools else {
        return Failure::host("this host has no ssh client, and the site has none to lend yet")
            .hint("gridgate exec NODE -- COMMAND works without one");
    };
    let program = Path::new(tools::PROGRAM);
    let mut command = client(program, access, &tools::files(), user, words);
    // Before the root changes: the namespace's name means nothing in the other one.
    if let Err(error) = gridgate_net::enter_in_child(&mut command, &access.namespace) {
        return no_network(&error);
    }
    match tools::enter(root, access) {
        Ok(()) => not_executed(program, &command.exec()),
        Err(error) => Failure::host(format!("the ssh client in {} cannot be used", root.display()))
            .because(&error),
    }
}

/// Where the client finds key and known hosts.
struct Files {
    key: PathBuf,
    known_hosts: PathBuf,
}

fn client(program: &Path, access: &Access, files: &Files, user: &str, words: &[String]) -> Command {
    let mut command = Command::new(program);
    let option = |name: &str, value: &dyn AsRef<OsStr>| {
        let mut option = std::ffi::OsString::from(format!("{name}="));
        option.push(value);
        option
    };
    // The user's own configuration is for other hosts: a ProxyCommand or a jump host there would lead astray.
    command.arg("-F").arg("none");
    command.arg("-i").arg(&files.key);
    for setting in [
        option("UserKnownHostsFile", &files.known_hosts),
        option("GlobalKnownHostsFile", &"none"),
        option("StrictHostKeyChecking", &"accept-new"),
        option("IdentitiesOnly", &"yes"),
        option("PreferredAuthentications", &"publickey"),
        option("HostKeyAlias", &access.fqdn),
        option("CheckHostIP", &"no"),
        option("LogLevel", &"ERROR"),
    ] {
        command.arg("-o").arg(setting);
    }
    command.arg("-l").arg(user).arg(access.address.to_string());
    if !words.is_empty() {
        command.arg("--").args(words);
    }
    command
}

/// The first program of this name on PATH that may be executed.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| {
        file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    })
}

fn no_network(error: &gridgate_net::NetError) -> Failure {
    Failure::host("the site's network cannot be entered")
        .because(error)
        .hint("gridgate status says whether the site is up; entering its network needs root")
}

fn not_executed(program: &Path, error: &std::io::Error) -> Failure {
    Failure::host(format!("{} cannot be executed", program.display())).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_gets_its_own_files_alone() {
        let access = Access {
            namespace: "/run/netns/x".into(),
            address: [198, 51, 100, 12].into(),
            fqdn: "ui.dublin.test".into(),
            key: "/k".into(),
            known_hosts: "/h".into(),
            run_dir: "/r".into(),
            tools: None,
        };
        let files = Files { key: access.key.clone(), known_hosts: access.known_hosts.clone() };
        let words = ["grid-proxy-init".to_owned()];
        let command = client(Path::new("ssh"), &access, &files, "alice", &words);
        let line: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        assert_eq!(
            line.join(" "),
            "-F none -i /k -o UserKnownHostsFile=/h -o GlobalKnownHostsFile=none \
             -o StrictHostKeyChecking=accept-new -o IdentitiesOnly=yes \
             -o PreferredAuthentications=publickey -o HostKeyAlias=ui.dublin.test -o CheckHostIP=no \
             -o LogLevel=ERROR -l alice 198.51.100.12 -- grid-proxy-init"
        );
    }
}
