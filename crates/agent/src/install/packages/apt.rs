//! dpkg of the new root, as the depot uses it for role images; and apt, where only that finds an order.

use std::fs::{self, File};
use std::io;

use gridgate_deb::Deb;
use gridgate_protocol::agent_api::LockedPackage;
use gridgate_protocol::install_api::{Early, InstallFailure, Order, Recipe, Stage};

use super::chamber::Chamber;
use super::pool::{FOLDER, Pool};
use crate::install::again;
use crate::install::progress::Progress;

/// apt's settings; its lists and caches go with `/tmp`.
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
"#;

/// Each file was checked by its hash when it came.
const SOURCES: &str = "deb [trusted=yes] file:/mnt/pool ./\n";

const INSTALL: &str = "mkdir -p /tmp/lists/partial /tmp/cache/archives/partial /tmp/log
apt-get -q update
apt-get -q --allow-downgrades install $(cat /mnt/pool/wanted)
";

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
}

/// Brings all of the closure to its end, and nothing else: what is left is unpacked, and all is configured, as the
/// depot does it; apt does it where the order cannot be told.
pub(super) fn others(
    order: &Order,
    left: &[&LockedPackage],
    recipe: &Recipe,
    chamber: &Chamber,
    pool: &Pool<'_>,
    progress: &Progress,
) -> Result<(), InstallFailure> {
    let fault = |e: io::Error| again(Stage::Unpack, format!("prepare the packages for apt: {e}"));
    if order.early.is_none() {
        describe(order, left, recipe, pool).map_err(fault)?;
    }
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
    let script = match &order.early {
        Some(early) => steps(order, early, left, recipe, pool),
        None => INSTALL.to_owned(),
    };
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
    .map_err(|failure| InstallFailure { stage: progress.stage(), ..failure })?;
    for marker in &markers {
        fs::remove_file(marker).map_err(fault)?;
    }
    Ok(())
}

/// dpkg's calls for what is left, each package after what must be configured before it is unpacked.
fn steps(
    order: &Order,
    early: &[Early],
    left: &[&LockedPackage],
    recipe: &Recipe,
    pool: &Pool<'_>,
) -> String {
    let options = recipe.dpkg.join(" ");
    let (mut script, mut files) = (String::new(), String::new());
    let unpack = |files: &mut String| match std::mem::take(files) {
        files if files.is_empty() => String::new(),
        files => format!("dpkg {options} --no-triggers --unpack{files}\n"),
    };
    for package in &order.packages {
        for step in early.iter().filter(|step| step.before == package.name) {
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

/// Writes the index, the list of what is wanted, and the settings beside the packages.
fn describe(
    order: &Order,
    left: &[&LockedPackage],
    recipe: &Recipe,
    pool: &Pool<'_>,
) -> io::Result<()> {
    let mut index = String::new();
    for package in left {
        let control = File::open(pool.file(package)).and_then(Deb::new)?.control()?;
        let LockedPackage { sha256, size, .. } = package;
        index += &format!("{control}Filename: ./{sha256}.deb\nSize: {size}\nSHA256: {sha256}\n\n");
    }
    let wanted = |package: &LockedPackage| format!("{}={}\n", package.name, package.version);
    let wanted: String = order.packages.iter().map(wanted).collect();
    let options: String = recipe.dpkg.iter().map(|option| format!("\"{option}\"; ")).collect();
    let configuration = format!("{CONFIGURATION}Dpkg::Options {{ {options}}};\n");
    let texts = [
        ("Packages", index.as_str()),
        ("wanted", &wanted),
        ("sources.list", SOURCES),
        ("apt.conf", &configuration),
    ];
    texts.iter().try_for_each(|(name, text)| fs::write(pool.folder().join(name), text))
}

fn run(
    script: &str,
    chamber: &Chamber,
    stage: Stage,
    seen: &mut dyn FnMut(&str),
) -> Result<(), InstallFailure> {
    let environment = [("APT_CONFIG", "/mnt/pool/apt.conf")];
    chamber.run(&["/bin/sh", "-e", "-c", script], &environment, stage, seen)
}

/// What dpkg does just now, in its words.
fn watch(line: &str, progress: &Progress) {
    let is_news = ["Unpacking ", "Setting up ", "Processing triggers for "];
    if is_news.iter().any(|beginning| line.starts_with(beginning)) {
        progress.doing(line.trim_end_matches(" ...").to_owned());
    }
}
