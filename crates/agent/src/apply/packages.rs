//! Packages. The role image usually holds them all, and then this costs one
//! comparison of lists. Otherwise, and when another list is locked than the one
//! installed, the locked closure is fetched from the install server, and dpkg
//! unpacks and configures what is missing or has another version; there is no
//! solver here. Maintainer scripts start no services meanwhile: that is for the units
//! of the profile, and at boot it would wait for the agent itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gridgate_protocol::agent_api::{LockedPackage, PackageList};

use super::{ApplyError, Effect, Intent, Kind, Session, package_drift};
use crate::image::PACKAGES_MANIFEST_PATH;
use crate::place::{Access, Parents, Tree};
use crate::process::{Call, Finished};

const STATUS: &str = "/var/lib/dpkg/status";
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str = "#!/bin/sh\n# gridgate agent at work\nexit 101\n";
const DPKG_LIMIT: Duration = Duration::from_secs(3600);
const MANIFEST_LIMIT: u64 = 4 * 1024 * 1024;

/// dpkg's options: keep changed configuration files, no fsync for each file (one
/// barrier follows at the end of the application).
const OPTIONS: [&str; 3] = ["--force-confdef", "--force-confold", "--force-unsafe-io"];

/// Packages.
pub(super) struct Packages;

impl Kind for Packages {
    fn doing(&self) -> &'static str {
        "Checking packages"
    }

    fn apply(&self, session: &mut Session<'_>) {
        if session.looking() {
            return look(session);
        }
        let wanted = &session.profile.packages;
        let before: BTreeSet<&str> = session.before.packages.iter().map(String::as_str).collect();
        let dropped = before.iter().any(|name| !wanted.iter().any(|other| other == name));
        let known = wanted.iter().all(|name| before.contains(name.as_str()))
            || in_manifest(session.tools.tree, wanted);
        let may_purge = dropped && !session.before.installed.is_empty();
        let locked = session.tools.packages.map(str::to_owned);
        let same_list = locked.is_none() || session.before.locked == locked;
        let everything = session.tools.intent == Intent::PutBack && locked.is_some();
        if known && !may_purge && same_list && !everything {
            session.unchanged += u32::try_from(wanted.len()).unwrap_or(u32::MAX);
            session.state.packages.clone_from(wanted);
            return;
        }
        let started = Instant::now();
        if let Err(error) = complete(session) {
            session.record("package", "*", "", started, Err(error));
        }
    }
}

/// Compares what is installed with the locked list.
fn look(session: &mut Session<'_>) {
    // A node of which no list is known has nothing to compare with.
    if session.tools.packages.is_some() {
        let compared = lists(session)
            .map(|(closure, installed)| package_drift::versions(session, &closure, &installed));
        if let Err(error) = compared {
            session.conclude("package", "*", "", Err(error));
        }
    }
    if session.tools.package_files {
        package_drift::files(session);
    }
}

/// The locked list, and name and version of what is installed.
fn lists(
    session: &Session<'_>,
) -> Result<(Vec<LockedPackage>, BTreeMap<String, String>), ApplyError> {
    let closure = session.tools.source.packages()?.packages;
    let status = session.tools.tree.host_path(STATUS);
    let installed = installed(&status).map_err(|source| ApplyError::Io { path: status, source })?;
    Ok((closure, installed))
}

/// Whether the image was built with all of `wanted`.
fn in_manifest(tree: &Tree, wanted: &[String]) -> bool {
    let Ok(file) = fs::File::open(tree.host_path(PACKAGES_MANIFEST_PATH)) else {
        return wanted.is_empty();
    };
    let mut text = String::new();
    if file.take(MANIFEST_LIMIT).read_to_string(&mut text).is_err() {
        return false;
    }
    let held: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    wanted.iter().all(|name| held.contains(name.as_str()))
}

fn complete(session: &mut Session<'_>) -> Result<(), ApplyError> {
    let (closure, installed) = lists(session)?;
    let missing: Vec<&LockedPackage> = closure
        .iter()
        .filter(|package| installed.get(&package.name) != Some(&package.version))
        .collect();
    session.unchanged += u32::try_from(closure.len() - missing.len()).unwrap_or(u32::MAX);
    if !missing.is_empty() {
        install(session, &missing)?;
        session.replaced = missing.iter().any(|package| installed.contains_key(&package.name));
    }
    purge(session, &closure, &installed);
    session.state.packages.clone_from(&session.profile.packages);
    session.state.listed = closure.iter().map(|package| package.name.clone()).collect();
    session.state.locked = Some(PackageList { packages: closure }.fingerprint());
    Ok(())
}

/// Name and version of every package that is fully installed.
fn installed(status: &std::path::Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let (mut name, mut version, mut good) = (String::new(), String::new(), false);
    let mut finish = |name: &mut String, version: &mut String, good: &mut bool| {
        let (name, version) = (std::mem::take(name), std::mem::take(version));
        if std::mem::take(good) && !name.is_empty() {
            found.insert(name, version);
        }
    };
    for line in BufReader::new(fs::File::open(status)?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            finish(&mut name, &mut version, &mut good);
        } else if let Some(value) = line.strip_prefix("Package: ") {
            value.clone_into(&mut name);
        } else if let Some(value) = line.strip_prefix("Version: ") {
            value.clone_into(&mut version);
        } else if let Some(value) = line.strip_prefix("Status: ") {
            good = value.ends_with(" ok installed");
        }
    }
    finish(&mut name, &mut version, &mut good);
    Ok(found)
}

/// Fetches and installs `missing`, each reported on its own line.
fn install(session: &mut Session<'_>, missing: &[&LockedPackage]) -> Result<(), ApplyError> {
    let folder = session.tools.folder.join("packages");
    fs::create_dir_all(&folder)
        .map_err(|source| ApplyError::Io { path: folder.clone(), source })?;
    let mut files = Vec::new();
    for (index, package) in missing.iter().enumerate() {
        let text = format!("Fetching package {} of {}: {}", index + 1, missing.len(), package.name);
        (session.tools.progress)(&text);
        // Named by the hash: what is there is whole and checked.
        let path = folder.join(format!("{}.deb", package.sha256));
        if !path.exists() {
            session.tools.source.package(package, &path)?;
        }
        files.push(path);
    }
    (session.tools.progress)(&format!("Installing {} packages", missing.len()));
    let started = Instant::now();
    let policy = Policy::set(session.tools.tree)?;
    let result = unpack_and_configure(session, &files);
    drop(policy);
    let millis = started.elapsed();
    tracing::info!(packages = missing.len(), ?millis, "dpkg is done");
    result?;
    for package in missing {
        session.state.installed.insert(package.name.clone());
        session.record("package", &package.name, "", started, Ok(Effect::Changed));
    }
    for file in files {
        if let Err(error) = fs::remove_file(&file) {
            tracing::warn!(path = %file.display(), %error, "cannot remove an installed package file");
        }
    }
    Ok(())
}

/// Some packages can only be unpacked when others are configured (Pre-Depends),
/// so the pair is done again as long as that may help.
fn unpack_and_configure(session: &Session<'_>, files: &[PathBuf]) -> Result<(), ApplyError> {
    let files: Vec<&str> = files.iter().filter_map(|file| file.to_str()).collect();
    let mut last = None;
    for _ in 0..3 {
        let unpack: Vec<&str> = ["--unpack"].into_iter().chain(files.iter().copied()).collect();
        let unpacked = dpkg(session, &unpack)?;
        let configured = dpkg(session, &["--configure", "-a"])?;
        if unpacked.ok() && configured.ok() {
            return Ok(());
        }
        last = Some(if unpacked.ok() { configured } else { unpacked });
    }
    Err(last.map_or_else(
        || ApplyError::Package { name: "*".into(), reason: "dpkg was not run".into() },
        |done| ApplyError::program("dpkg", &done),
    ))
}

fn dpkg(session: &Session<'_>, arguments: &[&str]) -> Result<Finished, ApplyError> {
    let command: Vec<&str> =
        ["dpkg"].into_iter().chain(OPTIONS).chain(arguments.iter().copied()).collect();
    let mut call = Call::new(&command, DPKG_LIMIT);
    call.environment = vec![("DEBIAN_FRONTEND".into(), "noninteractive".into())];
    let run = session.tools.system.run(&call);
    run.map_err(|source| ApplyError::Start { program: "dpkg".into(), source })
}

/// Removes what the agent itself installed, or what the list before held, and the
/// closure no longer holds. When what was changed by hand is put back, everything
/// goes that the closure does not hold.
fn purge(
    session: &mut Session<'_>,
    closure: &[LockedPackage],
    installed: &BTreeMap<String, String>,
) {
    let own: Vec<String> = if session.tools.intent == Intent::PutBack {
        package_drift::extra(closure, installed)
    } else {
        session.before.installed.union(&session.before.listed).cloned().collect()
    };
    let gone: Vec<String> = own
        .into_iter()
        .filter(|name| !closure.iter().any(|package| package.name == *name))
        .collect();
    session.state.installed.retain(|name| !gone.contains(name));
    let gone: Vec<String> = gone.into_iter().filter(|name| installed.contains_key(name)).collect();
    if gone.is_empty() {
        return;
    }
    let started = Instant::now();
    let policy = Policy::set(session.tools.tree);
    let arguments: Vec<&str> =
        ["--purge"].into_iter().chain(gone.iter().map(String::as_str)).collect();
    let done = policy.and_then(|_policy| dpkg(session, &arguments));
    for name in &gone {
        let result = match &done {
            Ok(done) if done.ok() => Ok(Effect::Changed),
            Ok(done) => Err(ApplyError::program("dpkg --purge", done)),
            Err(error) => {
                Err(ApplyError::Package { name: name.clone(), reason: error.to_string() })
            }
        };
        if result.is_err() {
            // Still there, so still ours to remove another time.
            session.state.installed.insert(name.clone());
        }
        session.record("package", name, "", started, result);
    }
}

/// Debian's switch against services that packages start, there for as long as
/// this lives. One that somebody else put there is left alone.
struct Policy<'a> {
    tree: &'a Tree,
    own: bool,
}

impl<'a> Policy<'a> {
    fn set(tree: &'a Tree) -> Result<Self, ApplyError> {
        let place = tree.place(POLICY, Parents::Make)?;
        let present = place.read(64 * 1024)?;
        // Our own text may have stayed from an agent that was killed.
        let own = place.kind()?.is_none() || present.as_deref() == Some(POLICY_TEXT.as_bytes());
        if own {
            let uid = rustix::process::geteuid().as_raw();
            let gid = rustix::process::getegid().as_raw();
            place.write(POLICY_TEXT.as_bytes(), Access { uid, gid, mode: 0o755 })?;
        }
        Ok(Self { tree, own })
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        if !self.own {
            return;
        }
        let removed = self.tree.place(POLICY, Parents::MustExist).and_then(|place| place.remove());
        if let Err(error) = removed {
            tracing::error!(%error, "cannot remove the policy against starting services");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fully_installed_packages_count() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "Package: a\nStatus: install ok installed\nVersion: 1-1\nDescription: x\n \
                    Version: no\n\nPackage: b\nStatus: deinstall ok config-files\nVersion: 2\n\n\
                    Package: c\nStatus: install ok half-configured\nVersion: 3\n\n\
                    Package: d\nStatus: hold ok installed\nVersion: 1:4\n";
        fs::write(file.path(), text).unwrap();
        let found = installed(file.path()).unwrap();
        let wanted = [("a".to_owned(), "1-1".to_owned()), ("d".to_owned(), "1:4".to_owned())];
        assert_eq!(found, BTreeMap::from(wanted));
    }
}
