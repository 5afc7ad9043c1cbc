//! The base root: a minimal Debian, made by unpacking and then configuring it inside.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::archive::ARCHITECTURE;
use crate::chamber::{Access, Chamber, ChamberError};
use crate::deb::Flat;
use crate::error::DepotError;
use crate::files;

/// Folders of a Debian root that are links into `/usr`.
const MERGED: [&str; 3] = ["bin", "lib", "sbin"];

/// Where packages put what an image does without: texts for people, translations.
const LEFT_OUT: [&str; 8] = [
    "usr/share/doc/",
    "usr/share/man/",
    "usr/share/info/",
    "usr/share/groff/",
    "usr/share/lintian/",
    "usr/share/linda/",
    "usr/share/locale/",
    "usr/share/gnome/help/",
];

/// Which of them stay: licences must.
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

/// What every base has, configured in this order before the others.
const FIRST: [&str; 2] = ["base-passwd", "base-files"];

/// Whether a path of a package (relative, `./usr/…`) is unpacked by us; the same rule
/// as dpkg's above.
pub(crate) fn is_kept(path: &Path) -> bool {
    let path = path.strip_prefix(".").unwrap_or(path);
    let Some(text) = path.to_str() else { return true };
    !LEFT_OUT.iter().any(|folder| text.starts_with(folder))
        || text.ends_with("/copyright")
        || text == "usr/share/locale/locale.alias"
}

/// Makes the folders and links that must be there before packages are unpacked.
pub(crate) fn prepare(root: &Path) -> Result<(), DepotError> {
    for folder in ["etc/dpkg/dpkg.cfg.d", "usr/sbin", "usr/bin", "usr/lib", "var/lib/dpkg/info"] {
        files::make_dir(&root.join(folder))?;
    }
    let link = |name: &str| {
        let target = root.join(format!("usr/{name}"));
        files::make_dir(&target)?;
        let link = root.join(name);
        symlink(format!("usr/{name}"), &link).map_err(DepotError::io("make", &link))
    };
    MERGED.into_iter().try_for_each(link)?;
    if ARCHITECTURE == "amd64" {
        link("lib64")?;
    }
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(DepotError::io("set permissions of", path))
    };
    mode(root, 0o755)?;
    for folder in ["proc", "dev", "run", "tmp", "mnt"] {
        files::make_dir(&root.join(folder))?;
    }
    mode(&root.join("tmp"), 0o1777)?;
    write(root, "etc/dpkg/dpkg.cfg.d/gridgate", DPKG_CONFIGURATION)?;
    write(root, "etc/hosts", HOSTS)?;
    write(root, "var/lib/dpkg/status", "")?;
    write(root, "var/lib/dpkg/available", "")?;
    write(root, "usr/sbin/policy-rc.d", POLICY)?;
    mode(&root.join("usr/sbin/policy-rc.d"), 0o755)
}

/// Has dpkg install, inside the root, what was unpacked there: first what everything
/// takes for granted, then all others unpacked and configured.
pub(crate) fn configure(
    program: &Path,
    root: &Path,
    debs: &Path,
    flats: &[(&str, &Flat)],
) -> Result<(), DepotError> {
    let file = |flat: &Flat| {
        let name = flat.path.file_name().unwrap_or_default().to_string_lossy();
        format!("/mnt/pool/{name}")
    };
    let (first, others): (Vec<_>, Vec<_>) =
        flats.iter().copied().partition(|(name, _)| FIRST.contains(name));
    let list = |flats: &[(&str, &Flat)]| {
        flats.iter().map(|(_, flat)| file(flat)).collect::<Vec<_>>().join(" ")
    };
    let mut first = first;
    first.sort_by_key(|(name, _)| FIRST.iter().position(|f| f == name));
    let script = format!(
        "test -e /usr/bin/awk || ln -s mawk /usr/bin/awk\n\
         for deb in {}; do dpkg --force-depends --force-unsafe-io --install $deb; done\n\
         dpkg --force-depends --force-unsafe-io --unpack {}\n\
         dpkg --force-unsafe-io --configure --pending\n",
        list(&first),
        list(&others),
    );
    let chamber = Chamber::new(program, root, Access::Write).bind(debs, "pool", Access::ReadOnly);
    let failed = |source: ChamberError| DepotError::Chamber { subject: "base".to_owned(), source };
    chamber.script(&script).map_err(failed)?;
    Ok(())
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
