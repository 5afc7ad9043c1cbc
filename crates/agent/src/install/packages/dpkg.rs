//! dpkg of the new root, as the depot uses it for role images.

use std::fs;
use std::io;

use gridgate_protocol::agent_api::LockedPackage;
use gridgate_protocol::install_api::{InstallFailure, Order, Recipe, Stage};

use super::chamber::Chamber;
use super::pool::{FOLDER, Pool};
use crate::install::again;
use crate::install::progress::Progress;

/// Has dpkg unpack what was left to it, first what everything takes for granted, and configure the base.
pub(super) fn base(
    left: &[&LockedPackage],
    recipe: &Recipe,
    chamber: &Chamber,
    pool: &Pool<'_>,
    progress: &Progress,
) -> Result<(), InstallFailure> {
    let options = recipe.dpkg.join(" ");
    let is_first = |package: &&&LockedPackage| recipe.first.contains(&package.name);
    let mut script = recipe.prepare.clone();
    for name in &recipe.first {
        script += &match left.iter().find(|package| package.name == *name) {
            Some(package) => {
                format!("dpkg --force-depends {options} --install {}\n", shown(package, pool))
            }
            None => format!("dpkg --force-depends {options} --configure {name}\n"),
        };
    }
    let others: String =
        left.iter().filter(|p| !is_first(p)).map(|p| format!(" {}", shown(p, pool))).collect();
    if !others.is_empty() {
        script += &format!("dpkg --force-depends {options} --unpack{others}\n");
    }
    script += &format!("dpkg {options} --configure --pending\n");
    progress.doing("the base's own scripts");
    run(&script, chamber, Stage::Unpack, &mut |line| watch(line, progress))
        .map_err(|failure| named(failure, left))
}

/// Brings all of the closure to its end, and nothing else: what is left is unpacked, and all is configured, as the
/// depot does it.
pub(super) fn others(
    order: &Order,
    left: &[&LockedPackage],
    recipe: &Recipe,
    chamber: &Chamber,
    pool: &Pool<'_>,
    progress: &Progress,
) -> Result<(), InstallFailure> {
    let fault = |e: io::Error| again(Stage::Unpack, format!("prepare the root for dpkg: {e}"));
    let is_new = |name: &str| order.packages.iter().any(|package| package.name == name);
    let markers = recipe.markers.iter().filter(|(package, _)| is_new(package));
    let markers: Vec<_> =
        markers.map(|(_, path)| chamber.root().join(path.trim_start_matches('/'))).collect();
    for marker in &markers {
        let made = marker.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(marker, "")).map_err(fault)?;
    }
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let all = count(order.base.len() + order.packages.len());
    let mut unpacked = all - count(left.len());
    let mut configured = count(order.base.len());
    let script = steps(order, left, recipe, pool);
    run(&script, chamber, Stage::Unpack, &mut |line| {
        if line.starts_with("Unpacking ") {
            unpacked += 1;
            progress.go_on(None, Some((unpacked, all)));
        }
        if line.starts_with("Setting up ") {
            if unpacked == all && progress.stage() == Stage::Unpack {
                progress.begin(Stage::Configure, "");
            }
            configured += 1;
            if progress.stage() == Stage::Configure {
                progress.go_on(None, Some((configured, all)));
            }
        }
        watch(line, progress);
    })
    // It may have come to configure them.
    .map_err(|failure| InstallFailure { stage: progress.stage(), ..named(failure, left) })?;
    for marker in &markers {
        fs::remove_file(marker).map_err(fault)?;
    }
    Ok(())
}

/// dpkg's calls for what is left, each package after what must be configured before it is unpacked.
fn steps(order: &Order, left: &[&LockedPackage], recipe: &Recipe, pool: &Pool<'_>) -> String {
    let options = recipe.dpkg.join(" ");
    let (mut script, mut files) = (String::new(), String::new());
    let unpack = |files: &mut String| match std::mem::take(files) {
        files if files.is_empty() => String::new(),
        files => format!("dpkg {options} --no-triggers --unpack{files}\n"),
    };
    for package in &order.packages {
        let early = order.early.iter().flatten();
        for step in early.filter(|step| step.before == package.name) {
            script += &unpack(&mut files);
            script += &format!("dpkg {options} --configure {}\n", step.names.join(" "));
        }
        if left.contains(&package) {
            files += &format!(" {}", shown(package, pool));
        }
    }
    script += &unpack(&mut files);
    script + &format!("dpkg {options} --configure --pending\n")
}

/// A package's file as the new root has it.
fn shown(package: &LockedPackage, pool: &Pool<'_>) -> String {
    let path = pool.file(package);
    format!("{FOLDER}/{}", path.file_name().unwrap_or_default().to_string_lossy())
}

fn run(
    script: &str,
    chamber: &Chamber,
    stage: Stage,
    seen: &mut dyn FnMut(&str),
) -> Result<(), InstallFailure> {
    chamber.run(&["/bin/sh", "-e", "-c", script], &[], stage, seen)
}

/// A package that fails while it is unpacked is known to dpkg by its file, which has its hash for a name.
fn named(failure: InstallFailure, left: &[&LockedPackage]) -> InstallFailure {
    let Some(file) = &failure.package else { return failure };
    let sha256 = file.trim_end_matches(".deb");
    let Some(found) = left.iter().find(|package| package.sha256 == sha256) else { return failure };
    let what = failure.what.replace(file.as_str(), &found.name);
    InstallFailure { what, package: Some(found.name.clone()), ..failure }
}

/// What dpkg does just now, in its words.
fn watch(line: &str, progress: &Progress) {
    let is_news = ["Unpacking ", "Setting up ", "Processing triggers for "];
    if is_news.iter().any(|beginning| line.starts_with(beginning)) {
        progress.doing(line.trim_end_matches(" ...").to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_failed_is_told_by_its_packages_name() {
        let package = LockedPackage {
            name: "munge".into(),
            version: "1".into(),
            architecture: "all".into(),
            sha256: "0f".repeat(32),
            size: 1,
        };
        let file = format!("{}.deb", package.sha256);
        let what = format!("the package {file} could not be installed");
        let mut failure = crate::install::never(Stage::Unpack, what);
        failure.package = Some(file);
        let failure = named(failure, &[&package]);
        assert_eq!(failure.what, "the package munge could not be installed");
        assert_eq!(failure.package.as_deref(), Some("munge"));
    }
}
