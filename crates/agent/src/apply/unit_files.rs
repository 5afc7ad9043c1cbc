//! The links by which systemd knows what is enabled and what is masked, made and
//! removed directly: that is all that `systemctl enable` and `mask` do for an
//! ordinary unit, without a program to start. What is not ordinary is left to
//! systemctl.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::{ApplyError, Effect};
use crate::place::{Parents, Tree};

const ETC: &str = "/etc/systemd/system";

/// Where unit files lie, in systemd's order.
const FOLDERS: [&str; 4] =
    [ETC, "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];

/// Where generators put units (mounts of fstab); those cannot be enabled.
const GENERATED: [&str; 3] =
    ["/run/systemd/generator.early", "/run/systemd/generator", "/run/systemd/generator.late"];

/// How a unit can be enabled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Enabling {
    /// With these links (path and target); none for a static unit.
    Links(Vec<(String, String)>),
    /// Only by systemctl.
    Systemctl,
}

/// Finds out how `unit` is enabled.
pub(super) fn enabling(tree: &Tree, unit: &str) -> Enabling {
    let Some((path, text)) = unit_file(tree, unit) else {
        let generated = GENERATED.iter().any(|folder| exists(tree, &format!("{folder}/{unit}")));
        // Mounts come from fstab, which may be read only at the next reload.
        let static_kind = [".mount", ".swap", ".target"].iter().any(|end| unit.ends_with(end));
        return if generated || static_kind {
            Enabling::Links(Vec::new())
        } else {
            Enabling::Systemctl
        };
    };
    match install_links(unit, &path, &text) {
        Some(links) => Enabling::Links(links),
        None => Enabling::Systemctl,
    }
}

/// Makes the links that are missing.
pub(super) fn enable(tree: &Tree, links: &[(String, String)]) -> Result<Effect, ApplyError> {
    let mut effect = Effect::Unchanged;
    for (path, target) in links {
        let place = tree.place(path, Parents::Make)?;
        // Any link of this name counts, as for systemctl; its target does not matter.
        if place.kind()? != Some(FileType::Symlink) {
            place.link(target)?;
            effect = Effect::Changed;
        }
    }
    Ok(effect)
}

/// Removes every link by which `unit` is enabled.
pub(super) fn disable(tree: &Tree, unit: &str) -> Result<Effect, ApplyError> {
    let mut effect = Effect::Unchanged;
    let folder = tree.host_path(ETC);
    for entry in entries(&folder)? {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let kind = entry.file_type().map_err(|source| io_error(&entry.path(), source))?;
        let pulls = name.ends_with(".wants") || name.ends_with(".requires");
        let path = if kind.is_dir() && pulls {
            format!("{ETC}/{name}/{unit}")
        } else if kind.is_symlink() && name != unit && is_alias(&entry.path(), unit) {
            format!("{ETC}/{name}")
        } else {
            continue;
        };
        let place = tree.place(&path, Parents::MustExist)?;
        if place.kind()? == Some(FileType::Symlink) {
            place.remove()?;
            effect = Effect::Changed;
        }
    }
    Ok(effect)
}

/// Masks `unit`.
pub(super) fn mask(tree: &Tree, unit: &str) -> Result<Effect, ApplyError> {
    let place = tree.place(&format!("{ETC}/{unit}"), Parents::Make)?;
    match place.kind()? {
        Some(FileType::Symlink) if place.target()?.as_deref() == Some(Path::new("/dev/null")) => {
            Ok(Effect::Unchanged)
        }
        // An alias or a link of `systemctl link`: masking takes its place.
        None | Some(FileType::Symlink) => {
            place.link("/dev/null")?;
            Ok(Effect::Changed)
        }
        Some(_) => Err(ApplyError::MaskBlocked(unit.to_owned())),
    }
}

/// Takes a mask away, if there is one.
pub(super) fn unmask(tree: &Tree, unit: &str) -> Result<Effect, ApplyError> {
    let place = tree.place(&format!("{ETC}/{unit}"), Parents::Make)?;
    if place.kind()? == Some(FileType::Symlink)
        && place.target()?.as_deref() == Some(Path::new("/dev/null"))
    {
        place.remove()?;
        return Ok(Effect::Changed);
    }
    Ok(Effect::Unchanged)
}

/// Mounts of fstab (but for `noauto`), as systemd's generator made them at the
/// last reload.
pub(super) fn generated_mounts(tree: &Tree) -> Vec<String> {
    let targets = ["local-fs.target", "remote-fs.target"];
    let folders =
        targets.iter().flat_map(|target| [format!("{target}.wants"), format!("{target}.requires")]);
    let mut mounts: Vec<String> = folders
        .filter_map(|folder| {
            fs::read_dir(tree.host_path("/run/systemd/generator").join(folder)).ok()
        })
        .flat_map(|entries| entries.flatten())
        .filter_map(|entry| entry.file_name().into_string().ok())
        // The root, `-.mount`, is mounted, and its name would be read as an option.
        .filter(|name| name.ends_with(".mount") && !name.starts_with('-'))
        .collect();
    mounts.sort();
    mounts.dedup();
    mounts
}

/// The line of systemctl's complaints that is about `unit`.
pub(super) fn refusal(complaints: &str, unit: &str) -> Option<String> {
    let stem = unit.rsplit_once('.').map_or(unit, |(stem, _)| stem);
    complaints
        .lines()
        .find(|line| {
            line.split(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | ',' | ':'))
                .map(|word| word.trim_end_matches('.'))
                .any(|word| word == unit || word == stem)
        })
        // Stopping what is not there is no failure.
        .filter(|line| !line.contains("not loaded"))
        .map(|line| line.trim().to_owned())
}

/// Path and text of the unit's file; for an instance, its template's.
fn unit_file(tree: &Tree, unit: &str) -> Option<(String, String)> {
    let template = template_of(unit);
    let names = std::iter::once(unit).chain(template.as_deref());
    for name in names {
        for folder in FOLDERS {
            let path = format!("{folder}/{name}");
            if let Ok(text) = fs::read_to_string(tree.host_path(&path)) {
                return Some((path, text));
            }
        }
    }
    None
}

/// `a@.service` for `a@b.service`.
fn template_of(unit: &str) -> Option<String> {
    let (prefix, rest) = unit.split_once('@')?;
    let (_, suffix) = rest.rsplit_once('.')?;
    Some(format!("{prefix}@.{suffix}"))
}

/// The links of an `[Install]` section; none when it asks for more than links in
/// `.wants` and `.requires` folders.
fn install_links(unit: &str, path: &str, text: &str) -> Option<Vec<(String, String)>> {
    let mut links = Vec::new();
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| section == "[Install]") else {
            continue;
        };
        let folder = match key.trim() {
            "WantedBy" => "wants",
            "RequiredBy" => "requires",
            _ if line.starts_with(['#', ';']) => continue,
            // Alias, Also, DefaultInstance, UpheldBy: not ours.
            _ => return None,
        };
        if value.contains(['%', '\\']) {
            return None;
        }
        for target in value.split_whitespace() {
            links.push((format!("{ETC}/{target}.{folder}/{unit}"), path.to_owned()));
        }
    }
    Some(links)
}

fn is_alias(link: &Path, unit: &str) -> bool {
    fs::read_link(link).is_ok_and(|target| target.file_name().is_some_and(|name| name == unit))
}

fn exists(tree: &Tree, path: &str) -> bool {
    tree.host_path(path).symlink_metadata().is_ok()
}

fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>, ApplyError> {
    match fs::read_dir(folder).and_then(Iterator::collect) {
        Ok(entries) => Ok(entries),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(io_error(folder, source)),
    }
}

fn io_error(path: &Path, source: io::Error) -> ApplyError {
    ApplyError::Io { path: PathBuf::from(path), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let tree = Tree::new(root.path());
        (root, tree)
    }

    #[test]
    fn an_ordinary_unit_is_enabled_and_disabled_by_its_links() {
        let unit = "[Unit]\nWants=x\n[Install]\n# Alias=no\nWantedBy=multi-user.target a.target\n";
        let (root, tree) = tree(&[("usr/lib/systemd/system/slurmd.service", unit)]);
        let Enabling::Links(links) = enabling(&tree, "slurmd.service") else { panic!() };
        assert_eq!(links.len(), 2);
        assert_eq!(enable(&tree, &links).unwrap(), Effect::Changed);
        assert_eq!(enable(&tree, &links).unwrap(), Effect::Unchanged);
        let link = root.path().join("etc/systemd/system/multi-user.target.wants/slurmd.service");
        assert_eq!(
            fs::read_link(&link).unwrap(),
            Path::new("/usr/lib/systemd/system/slurmd.service")
        );
        assert_eq!(disable(&tree, "slurmd.service").unwrap(), Effect::Changed);
        assert_eq!(disable(&tree, "slurmd.service").unwrap(), Effect::Unchanged);
        assert!(link.symlink_metadata().is_err());
    }

    #[test]
    fn instances_use_their_template_and_odd_units_go_to_systemctl() {
        let (_root, tree) = tree(&[
            ("usr/lib/systemd/system/xrootd@.service", "[Install]\nWantedBy=multi-user.target\n"),
            (
                "usr/lib/systemd/system/ssh.service",
                "[Install]\nWantedBy=m.target\nAlias=sshd.service\n",
            ),
            ("usr/lib/systemd/system/static.service", "[Service]\nExecStart=x\n"),
        ]);
        let link = "/etc/systemd/system/multi-user.target.wants/xrootd@grid.service";
        let target = "/usr/lib/systemd/system/xrootd@.service";
        assert_eq!(
            enabling(&tree, "xrootd@grid.service"),
            Enabling::Links(vec![(link.into(), target.into())])
        );
        assert_eq!(enabling(&tree, "ssh.service"), Enabling::Systemctl);
        assert_eq!(enabling(&tree, "static.service"), Enabling::Links(vec![]));
        assert_eq!(enabling(&tree, "sysv.service"), Enabling::Systemctl);
        assert_eq!(enabling(&tree, "home.mount"), Enabling::Links(vec![]));
    }

    #[test]
    fn a_mask_comes_and_goes_but_never_over_a_file() {
        let (_root, tree) = tree(&[("etc/systemd/system/own.service", "")]);
        assert_eq!(mask(&tree, "getty.service").unwrap(), Effect::Changed);
        assert_eq!(mask(&tree, "getty.service").unwrap(), Effect::Unchanged);
        assert_eq!(unmask(&tree, "getty.service").unwrap(), Effect::Changed);
        assert_eq!(unmask(&tree, "getty.service").unwrap(), Effect::Unchanged);
        assert!(matches!(mask(&tree, "own.service"), Err(ApplyError::MaskBlocked(_))));
    }

    #[test]
    fn complaints_are_given_to_the_unit_they_name() {
        let text = "Failed to start b.service: Unit b.service not found.\n\
                    Failed to stop c.service: Unit c.service not loaded.\n";
        assert!(refusal(text, "b.service").is_some());
        assert_eq!(refusal(text, "c.service"), None);
        assert_eq!(refusal(text, "bb.service"), None);
    }
}
