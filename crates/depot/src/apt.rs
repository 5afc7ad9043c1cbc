//! apt inside a root: choosing packages, and installing chosen ones.
//!
//! It only ever sees an index that we wrote from checked data, at `/mnt/pool`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::archive::index::Index;
use crate::chamber::{Access, Chamber, ChamberError};
use crate::error::DepotError;
use crate::files;
use crate::lock::{PinnedPackage, with_base};
use crate::store::remove_tree;

/// apt's settings; lists and caches go to the chamber's `/tmp`, which is gone after.
const CONFIGURATION: &str = r#"
Dir::Etc::sourcelist "/mnt/pool/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "/tmp/lists";
Dir::Cache "/tmp/cache";
Dir::Log "/tmp/log";
Acquire::Languages "none";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::Assume-Yes "true";
APT::Sandbox::User "root";
Dpkg::Use-Pty "false";
Dpkg::Options { "--force-unsafe-io"; "--force-confold"; };
"#;

/// Files that keep a package's scripts from making secrets, which every node of an
/// image would share: ARC makes a test CA, with its key, unless it finds a certificate.
pub(crate) const MARKERS: [(&str, &str); 1] =
    [("nordugrid-arc-arex", "etc/grid-security/testCA-hostcert.pem")];

const SOURCES: &str = "deb [trusted=yes] file:/mnt/pool ./\n";

/// What apt chose for one role.
pub(crate) type Resolved = BTreeMap<String, Vec<PinnedPackage>>;

/// Lets apt choose the packages of roles. `root` holds the base, unpacked at least;
/// `status` is dpkg's view of it.
pub(crate) struct Resolver<'a> {
    pub(crate) program: &'a Path,
    pub(crate) root: &'a Path,
    pub(crate) status: &'a str,
    pub(crate) index: &'a Index,
    pub(crate) base: &'a [PinnedPackage],
    /// A folder of our own.
    pub(crate) dir: &'a Path,
    /// The suite's name, for errors.
    pub(crate) suite: &'a str,
}

impl Resolver<'_> {
    /// The pins of each role, base included.
    pub(crate) fn resolve(
        &self,
        roles: &[(&str, &BTreeSet<String>)],
    ) -> Result<Resolved, DepotError> {
        for (role, names) in roles {
            if let Some(name) = names.iter().find(|name| !self.index.offers(name)) {
                return Err(DepotError::Resolve {
                    role: (*role).to_owned(),
                    reason: format!("Debian {} has no package {name}", self.suite),
                });
            }
        }
        let wanted = roles.iter().flat_map(|(_, names)| (*names).clone());
        let reachable =
            self.index.reachable(wanted.chain(self.base.iter().map(|p| p.name.clone())));
        let packages = reachable.iter().map(|n| self.index.stanza_text(*n).to_owned() + "\n");
        write_pool(self.dir, &packages.collect::<String>())?;
        write(self.dir, "status", self.status)?;
        let output = self.ask(roles)?;
        let mut resolved = Resolved::new();
        for (number, (role, _)) in roles.iter().enumerate() {
            let answer = answer(&output, number);
            let pins = self.chosen(role, &answer)?;
            resolved.insert((*role).to_owned(), with_base(self.base, pins));
        }
        Ok(resolved)
    }

    fn ask(&self, roles: &[(&str, &BTreeSet<String>)]) -> Result<String, DepotError> {
        let mut script = "mkdir -p /tmp/lists/partial /tmp/cache/archives/partial /tmp/log\n\
             apt-get -q -o Dir::State::status=/mnt/pool/status update >/tmp/said 2>&1 || \
             { cat /tmp/said; exit 1; }\n"
            .to_owned();
        for (number, (_, names)) in roles.iter().enumerate() {
            let names = names.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            script += &format!(
                "echo @begin {number}; apt-get -q -s -o Debug::NoLocking=1 \
                 -o Dir::State::status=/mnt/pool/status install {names} 2>&1 && \
                 echo @end {number}\n"
            );
        }
        script += "true\n";
        let chamber = Chamber::new(self.program, self.root, Access::ReadOnly)
            .bind(self.dir, "pool", Access::ReadOnly)
            .env("APT_CONFIG", "/mnt/pool/apt.conf");
        // A role that cannot be resolved must not hide the others' answers.
        let run = chamber.run(&["/bin/sh", "-c", &script]);
        run.map_err(|source| DepotError::Chamber { subject: "resolve".to_owned(), source })
    }

    fn chosen(&self, role: &str, answer: &Answer<'_>) -> Result<Vec<PinnedPackage>, DepotError> {
        let refused = |reason: String| DepotError::Resolve { role: role.to_owned(), reason };
        let text = match answer {
            Answer::Chosen(text) => text,
            Answer::Refused(text) => return Err(refused(text.trim().to_owned())),
        };
        let mut pins = Vec::new();
        for line in text.lines() {
            if let Some(gone) = line.strip_prefix("Remv ") {
                return Err(refused(format!("apt would remove {gone}")));
            }
            let Some((name, version)) = line.strip_prefix("Inst ").and_then(chosen_version) else {
                continue;
            };
            let number = self.index.at_version(name, version);
            let pin = number.and_then(|number| self.index.pin(number));
            pins.push(pin.ok_or_else(|| refused(format!("{name} {version} is not in the index")))?);
        }
        Ok(pins)
    }
}

enum Answer<'a> {
    Chosen(&'a str),
    Refused(&'a str),
}

/// The part of the output between a role's marks.
fn answer(output: &str, number: usize) -> Answer<'_> {
    let after = output.split_once(&format!("@begin {number}\n")).map_or("", |(_, rest)| rest);
    let own = after.split_once("@begin ").map_or(after, |(own, _)| own);
    match own.split_once(&format!("@end {number}")) {
        Some((chosen, _)) => Answer::Chosen(chosen),
        None => Answer::Refused(own),
    }
}

/// Of `name [old] (version origin [arch])` the name and the version.
fn chosen_version(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once(' ')?;
    let version = rest.split_once('(')?.1.split_whitespace().next()?;
    Some((name.split(':').next().unwrap_or(name), version))
}

/// Has apt install exactly `packages`, given with their control paragraphs, into a root that has been configured;
/// `stored` tells where a package's file is.
pub(crate) fn install(
    program: &Path,
    subject: &str,
    root: &Path,
    dir: &Path,
    packages: &[(&PinnedPackage, &String)],
    stored: &dyn Fn(&PinnedPackage) -> PathBuf,
) -> Result<(), DepotError> {
    files::make_dir(dir)?;
    let debs = dir.join("debs");
    let mut text = String::new();
    let mut wanted = String::new();
    for (pin, control) in packages {
        let PinnedPackage { name, version, size, sha256, .. } = pin;
        let file = stored(pin);
        files::make_dir(&debs)?;
        let copy = debs.join(format!("{sha256}.deb"));
        fs::copy(&file, &copy).map_err(DepotError::io("copy", &file))?;
        text +=
            &format!("{control}Filename: ./debs/{sha256}.deb\nSize: {size}\nSHA256: {sha256}\n\n");
        wanted += &format!("{name}={version}\n");
    }
    write_pool(dir, &text)?;
    write(dir, "wanted", &wanted)?;
    let script = "mkdir -p /tmp/lists/partial /tmp/cache/archives/partial /tmp/log\n\
         apt-get -q update\n\
         apt-get -q --allow-downgrades install $(cat /mnt/pool/wanted)\n";
    let chamber = Chamber::new(program, root, Access::Write)
        .bind(dir, "pool", Access::ReadOnly)
        .env("APT_CONFIG", "/mnt/pool/apt.conf");
    let failed = |source: ChamberError| DepotError::Chamber { subject: subject.to_owned(), source };
    chamber.script(script).map_err(failed)?;
    // What is removed soon is never written to disk.
    remove_tree(dir)
}

fn write_pool(dir: &Path, packages: &str) -> Result<(), DepotError> {
    files::make_dir(dir)?;
    write(dir, "Packages", packages)?;
    write(dir, "sources.list", SOURCES)?;
    write(dir, "apt.conf", CONFIGURATION)
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), DepotError> {
    let path = dir.join(name);
    fs::write(&path, text).map_err(DepotError::io("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_apt_says() {
        let line = "libc6 [2.41-11] (2.41-12 Debian:13.7/stable [amd64]) []";
        assert_eq!(chosen_version(line), Some(("libc6", "2.41-12")));
        assert_eq!(chosen_version("zlib1g:amd64 (1:1.3 x [amd64])"), Some(("zlib1g", "1:1.3")));
        let output = "@begin 0\nInst a (1 x)\n@end 0\n@begin 1\nE: no\n@begin 2\n@end 2\n";
        assert!(matches!(answer(output, 0), Answer::Chosen(text) if text.contains("Inst a")));
        assert!(matches!(answer(output, 1), Answer::Refused("E: no\n")));
        assert!(matches!(answer(output, 2), Answer::Chosen("")));
    }
}
