//! The base root: a minimal Debian, made by unpacking and then configuring it inside.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::archive::ARCHITECTURE;
use crate::chamber::{Access, Chamber, ChamberError};
use crate::error::DepotError;
use crate::files;
use crate::install::shown;
use crate::larder::Larder;
use crate::lock::PinnedPackage;

/// Folders of a Debian root that are links into `/usr`.
const MERGED: [&str; 3] = ["bin", "lib", "sbin"];

/// Where packages put what an image does without: texts for people, translations.
pub(crate) const LEFT_OUT: [&str; 8] = [
    "usr/share/doc/",
    "usr/share/man/",
    "usr/share/info/",
    "usr/share/groff/",
    "usr/share/lintian/",
    "usr/share/linda/",
    "usr/share/locale/",
    "usr/share/gnome/help/",
];

/// Which of them stay, by their end: licences must.
pub(crate) const KEPT: [&str; 2] = ["/copyright", "usr/share/locale/locale.alias"];

/// The same for dpkg.
const DPKG_CONFIGURATION: &str = "\
# Written by gridgate: what the nodes' images do without.
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/groff/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/linda/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
path-exclude=/usr/share/gnome/help/*
";

/// Keeps packages from starting services while a root is built.
const POLICY: &str = "#!/bin/sh\nexit 101\n";

/// So that `hostname -f` answers in packages' scripts.
const HOSTS: &str = "127.0.0.1 localhost\n127.0.1.1 chamber.gridgate.invalid chamber\n";

/// Folders that are there before any package, with their modes.
pub(crate) const FOLDERS: [(&str, u32); 19] = [
    ("", 0o755),
    ("etc/dpkg/dpkg.cfg.d", 0o755),
    ("usr/sbin", 0o755),
    ("usr/bin", 0o755),
    ("usr/lib", 0o755),
    ("var/lib/dpkg/info", 0o755),
    ("proc", 0o755),
    ("dev", 0o755),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("mnt", 0o755),
    // Manual pages are left out, but packages' scripts make links in these (Java's do).
    ("usr/share/man/man1", 0o755),
    ("usr/share/man/man2", 0o755),
    ("usr/share/man/man3", 0o755),
    ("usr/share/man/man4", 0o755),
    ("usr/share/man/man5", 0o755),
    ("usr/share/man/man6", 0o755),
    ("usr/share/man/man7", 0o755),
    ("usr/share/man/man8", 0o755),
];

/// Files that are there before any package, with their modes.
pub(crate) const FILES: [(&str, u32, &str); 5] = [
    ("etc/dpkg/dpkg.cfg.d/gridgate", 0o644, DPKG_CONFIGURATION),
    ("etc/hosts", 0o644, HOSTS),
    ("var/lib/dpkg/status", 0o644, ""),
    ("var/lib/dpkg/available", 0o644, ""),
    ("usr/sbin/policy-rc.d", 0o755, POLICY),
];

/// What the first packages' scripts take for granted, once the base is unpacked.
pub(crate) const PREPARE: &str = "test -e /usr/bin/awk || ln -s mawk /usr/bin/awk\n";

/// What every base has, configured in this order before the others.
pub(crate) const FIRST: [&str; 2] = ["base-passwd", "base-files"];

/// Whether a path of a package (relative, `./usr/…`) is unpacked by us; the same rule
/// as dpkg's above.
pub(crate) fn is_kept(path: &Path) -> bool {
    let path = path.strip_prefix(".").unwrap_or(path);
    let Some(text) = path.to_str() else { return true };
    !LEFT_OUT.iter().any(|folder| text.starts_with(folder))
        || KEPT.iter().any(|end| text.ends_with(end))
}

/// Names in the root that are links into `/usr`.
pub(crate) fn merged() -> impl Iterator<Item = &'static str> {
    MERGED.into_iter().chain((ARCHITECTURE == "amd64").then_some("lib64"))
}

/// Makes the folders, links and files that must be there before packages are unpacked.
pub(crate) fn prepare(root: &Path) -> Result<(), DepotError> {
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(DepotError::io("set permissions of", path))
    };
    for (folder, bits) in FOLDERS {
        let path = root.join(folder);
        files::make_dir(&path)?;
        mode(&path, bits)?;
    }
    for name in merged() {
        files::make_dir(&root.join(format!("usr/{name}")))?;
        let link = root.join(name);
        symlink(format!("usr/{name}"), &link).map_err(DepotError::io("make", &link))?;
    }
    for (path, bits, text) in FILES {
        write(root, path, text)?;
        mode(&root.join(path), bits)?;
    }
    Ok(())
}

/// Has dpkg bring the unpacked base to its end: it unpacks what was left to it, first what everything takes for
/// granted, and configures all.
pub(crate) fn configure(
    program: &Path,
    root: &Path,
    larder: &Larder<'_>,
    left: &[&PinnedPackage],
) -> Result<(), DepotError> {
    const DPKG: &str = "dpkg --force-unsafe-io";
    let mut script = PREPARE.to_owned();
    for name in FIRST {
        script += &match left.iter().find(|pin| pin.name == name) {
            Some(pin) => format!("{DPKG} --force-depends --install {}\n", shown(larder, pin)),
            None => format!("{DPKG} --force-depends --configure {name}\n"),
        };
    }
    let others = left.iter().filter(|pin| !FIRST.contains(&pin.name.as_str()));
    let files: String = others.map(|pin| format!(" {}", shown(larder, pin))).collect();
    if !files.is_empty() {
        script += &format!("{DPKG} --force-depends --unpack{files}\n");
    }
    script += &format!("{DPKG} --configure --pending\n");
    let chamber = Chamber::new(program, root, Access::Write);
    let chamber = chamber.bind(&larder.packages(), "pool", Access::ReadOnly);
    let failed = |source: ChamberError| DepotError::Chamber { subject: "base".to_owned(), source };
    chamber.script(&script).map(drop).map_err(failed)
}

fn write(root: &Path, path: &str, text: &str) -> Result<(), DepotError> {
    let path = root.join(path);
    fs::write(&path, text).map_err(DepotError::io("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_out_what_dpkg_leaves_out() {
        let kept = |path: &str| is_kept(Path::new(path));
        assert!(kept("./usr/bin/ls") && kept("./usr/share/doc/") && kept("usr/share/perl5/x"));
        assert!(kept("./usr/share/doc/bash/copyright"));
        assert!(!kept("./usr/share/doc/bash/README") && !kept("./usr/share/man/man1/ls.1.gz"));
        for folder in LEFT_OUT {
            assert!(DPKG_CONFIGURATION.contains(&format!("path-exclude=/{folder}*")), "{folder}");
        }
    }
}
