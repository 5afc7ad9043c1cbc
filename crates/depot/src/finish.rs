//! Turns an installed root into one that boots as many nodes: overlay, modules,
//! caches built now, identities and leftovers removed.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use crate::chamber::{Access, Chamber, ChamberError};
use crate::error::DepotError;
use crate::image::{Overlay, RoleImageRequest};
use crate::modules::Modules;
use crate::store::remove_tree;
use crate::tree;

/// How many symbolic links a path may lead over.
const LINKS: usize = 32;

/// `/etc/hosts` of a finished image; the agent writes the node's own.
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// Files written in the end, with their modes.
pub(crate) const WRITTEN: [(&str, u32, &str); 4] = [
    ("etc/machine-id", 0o644, ""),
    ("etc/hosts", 0o644, HOSTS),
    ("etc/.updated", 0o644, ""),
    ("var/.updated", 0o644, ""),
];

/// Everything a first boot would do, done once here.
pub(crate) const SCRIPT: &str = "\
if test -n \"$RELEASE\" && command -v depmod; then depmod \"$RELEASE\"; fi\n\
ldconfig\n\
if command -v systemd-sysusers; then systemd-sysusers; fi\n\
if command -v journalctl; then journalctl --update-catalog; fi\n";

/// Folders whose content goes.
pub(crate) const EMPTIED: [&str; 4] =
    ["/var/lib/apt/lists", "/var/cache/apt", "/var/log/apt", "/var/cache/ldconfig"];

/// Files that go: leftovers, and secrets of one machine, which an image must not give
/// to all.
pub(crate) const REMOVED: [&str; 11] = [
    // systemd takes it for a machine without an identity of its own: all nodes would have the same.
    "/var/lib/dbus/machine-id",
    "/etc/munge/munge.key",
    "/usr/sbin/policy-rc.d",
    "/var/log/dpkg.log",
    "/var/log/alternatives.log",
    "/var/log/bootstrap.log",
    "/var/lib/dpkg/status-old",
    "/var/lib/dpkg/available",
    "/var/cache/debconf/config.dat-old",
    "/var/cache/debconf/templates.dat-old",
    "/var/lib/systemd/random-seed",
];

/// Finishes the root of one role.
pub(crate) fn finish(
    program: &Path,
    root: &Path,
    request: &RoleImageRequest,
    modules: Option<&Modules>,
) -> Result<(), DepotError> {
    if let Some(modules) = modules {
        let folder = resolve(root, "/usr/lib/modules")?;
        crate::files::make_dir(&folder)?;
        let target = folder.join(&modules.release);
        remove_tree(&target)?;
        tree::copy(&modules.path, &target)?;
    }
    lay_over(root, request)?;
    let release = modules.map_or("", |modules| modules.release.as_str());
    let chamber = Chamber::new(program, root, Access::Write).env("RELEASE", release);
    let failed =
        |source: ChamberError| DepotError::Chamber { subject: request.role.clone(), source };
    chamber.script(SCRIPT).map_err(failed)?;
    clean(root)
}

fn lay_over(root: &Path, request: &RoleImageRequest) -> Result<(), DepotError> {
    let overlay = &request.overlay;
    for file in &overlay.files {
        let path = place(root, &file.path)?;
        fs::write(&path, &file.content).map_err(DepotError::io("write", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode & 0o7777))
            .map_err(DepotError::io("set permissions of", &path))?;
    }
    let is_there = |path: &str| fs::symlink_metadata(root.join(&path[1..])).is_ok();
    for (path, target) in links(overlay, &is_there) {
        let path = place(root, &path)?;
        symlink(&target, &path).map_err(DepotError::io("make", &path))?;
    }
    Ok(())
}

/// All links of an overlay, path and target; `is_there` tells whether a path (absolute) is in the root.
pub(crate) fn links<'a>(
    overlay: &'a Overlay,
    is_there: &'a dyn Fn(&str) -> bool,
) -> impl Iterator<Item = (String, String)> + 'a {
    let masked = overlay.masked_units.iter().map(|unit| (unit_path(unit), "/dev/null".to_owned()));
    let enabled = overlay.enabled_units.iter().map(move |(unit, folder)| {
        let link = format!("/etc/systemd/system/{folder}/{unit}");
        (link, enabled_target(is_there, unit))
    });
    let links = overlay.links.iter().map(|link| (link.path.clone(), link.target.clone()));
    masked.chain(enabled).chain(links)
}

/// Where a masked unit's link goes.
fn unit_path(unit: &str) -> String {
    if unit.contains('/') {
        format!("/etc/systemd/{unit}")
    } else {
        format!("/etc/systemd/system/{unit}")
    }
}

/// Where a unit's own file is; an instance's is its template's.
fn enabled_target(is_there: &dyn Fn(&str) -> bool, unit: &str) -> String {
    let template = match unit.split_once('@') {
        Some((name, rest)) if !rest.starts_with('.') => {
            let ending = rest.rsplit_once('.').map_or("service", |(_, ending)| ending);
            format!("{name}@.{ending}")
        }
        _ => unit.to_owned(),
    };
    let own = format!("/etc/systemd/system/{template}");
    if is_there(&own) { own } else { format!("/usr/lib/systemd/system/{template}") }
}

/// The place of a new file or link: its folder made, what was there removed.
fn place(root: &Path, path: &str) -> Result<PathBuf, DepotError> {
    let full = Path::new(path);
    let (Some(folder), Some(name)) = (full.parent(), full.file_name()) else {
        let source = io::Error::other("it is not a path of a file");
        return Err(DepotError::Io { action: "place", path: full.to_owned(), source });
    };
    let folder = resolve(root, &folder.to_string_lossy())?;
    crate::files::make_dir(&folder)?;
    let place = folder.join(name);
    match fs::remove_file(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DepotError::io("replace", &place)(error))
        }
        _ => Ok(place),
    }
}

/// A path in the root as the host sees it; links in it are followed as they would be
/// inside, so that an absolute one does not lead to the host's own files.
fn resolve(root: &Path, path: &str) -> Result<PathBuf, DepotError> {
    let mut open: Vec<std::ffi::OsString> = parts(Path::new(path));
    let mut inside = PathBuf::new();
    let mut links = 0;
    while let Some(part) = open.pop() {
        if part == ".." {
            inside.pop();
            continue;
        }
        let next = inside.join(&part);
        match fs::read_link(root.join(&next)) {
            Ok(target) => {
                links += 1;
                if links > LINKS {
                    let source = io::Error::from_raw_os_error(libc::ELOOP);
                    return Err(DepotError::io("follow", &root.join(next))(source));
                }
                if target.is_absolute() {
                    inside = PathBuf::new();
                }
                open.extend(parts(&target));
            }
            Err(_) => inside = next,
        }
    }
    Ok(root.join(inside))
}

/// A path's parts, last first.
fn parts(path: &Path) -> Vec<std::ffi::OsString> {
    let part = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(part).collect()
}

/// Removes what is in a folder, which stays as it is.
fn empty(folder: &Path) -> Result<(), DepotError> {
    for entry in fs::read_dir(folder).map_err(DepotError::io("read", folder))? {
        let path = entry.map_err(DepotError::io("read", folder))?.path();
        if path.is_dir() && !path.is_symlink() {
            remove_tree(&path)?;
        } else {
            fs::remove_file(&path).map_err(DepotError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn clean(root: &Path) -> Result<(), DepotError> {
    for folder in EMPTIED {
        let path = resolve(root, folder)?;
        if path.is_dir() {
            empty(&path)?;
        }
    }
    let keys = resolve(root, "/etc/ssh")?;
    let entries = fs::read_dir(&keys).into_iter().flatten().flatten().map(|e| e.path());
    let is_key = |path: &PathBuf| {
        path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"ssh_host_"))
    };
    let removed = REMOVED.iter().map(|path| root.join(&path[1..]));
    for path in entries.filter(is_key).chain(removed) {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(DepotError::io("remove", &path)(e));
            }
            _ => {}
        }
    }
    let partial = root.join("var/cache/apt/archives/partial");
    crate::files::make_dir(&partial)?;
    crate::files::make_dir(&root.join("var/lib/apt/lists/partial"))?;
    for (path, mode, text) in WRITTEN {
        let path = root.join(path);
        fs::write(&path, text).map_err(DepotError::io("write", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(DepotError::io("set permissions of", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{OverlayFile, OverlayLink};

    fn request() -> RoleImageRequest {
        let mut request = RoleImageRequest::default();
        let file = |path: &str, text: &str| OverlayFile {
            path: path.to_owned(),
            mode: 0o750,
            content: text.as_bytes().to_vec(),
        };
        let overlay = &mut request.overlay;
        overlay.files = vec![file("/var/run/x", "run"), file("/etc/systemd/system/a.service", "a")];
        overlay.masked_units = vec!["b.mount".to_owned(), "system-generators/g".to_owned()];
        overlay.enabled_units = vec![
            ("a.service".to_owned(), "multi-user.target.wants".to_owned()),
            ("t@one.service".to_owned(), "basic.target.wants".to_owned()),
        ];
        overlay.links = vec![OverlayLink { path: "/etc/l".to_owned(), target: "/x".to_owned() }];
        request
    }

    #[test]
    fn lays_over_without_leaving_the_root() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("var")).unwrap();
        symlink("/run/../run", root.join("var/run")).unwrap();
        for _ in 0..2 {
            lay_over(root, &request()).unwrap();
        }
        assert_eq!(fs::read(root.join("run/x")).unwrap(), b"run");
        let mode = fs::metadata(root.join("run/x")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o750);
        let link = |path: &str| fs::read_link(root.join(path)).unwrap();
        let system = "etc/systemd/system";
        assert_eq!(link(&format!("{system}/b.mount")), Path::new("/dev/null"));
        assert_eq!(link("etc/systemd/system-generators/g"), Path::new("/dev/null"));
        let own = link(&format!("{system}/multi-user.target.wants/a.service"));
        assert_eq!(own, Path::new("/etc/systemd/system/a.service"));
        let template = link(&format!("{system}/basic.target.wants/t@one.service"));
        assert_eq!(template, Path::new("/usr/lib/systemd/system/t@.service"));
        assert_eq!(link("etc/l"), Path::new("/x"));
    }

    #[test]
    fn a_ring_of_links_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        assert!(resolve(root.path(), "/a/x").is_err());
        assert_eq!(resolve(root.path(), "/../../c").unwrap(), root.path().join("c"));
    }
}
