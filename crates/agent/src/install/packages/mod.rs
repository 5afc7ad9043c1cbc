//! Method packages: Debian packages, unpacked as they come and configured by the node's own dpkg, in the order
//! and by the recipe that role images are made by, so that both methods end in the same system.
//!
//! ```text
//! mke2fs ─ mount ─┬─ fetch: base ─▶ all others ──────────────────────────────────┐ (a thread)
//!                 └─ unpack base ─ prepare ─ configure base ─ unpack all others ─┴─ configure them ─ overlay ─ finish
//! ```
//! Most packages are unpacked here, in this one process: in a paravirtual machine the programs that dpkg starts for
//! each would take most of the time. What is more than files is left to dpkg ([`gridgate_deb::unpacker`]).
//! Flushes of the file system are left out until the end: a cut-short installation begins again here anyway.

mod chamber;
mod dpkg;
mod output;
mod pool;
mod unpacking;

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use gridgate_protocol::install_api::{InstallFailure, Order, Recipe, Stage};

use super::disk::Part;
use super::progress::Progress;
use super::{again, never};
use crate::client::install::InstallClient;
use chamber::Chamber;
use pool::Pool;
use unpacking::Unpacking;

/// Installs all packages onto the root's partition.
pub(super) fn install(
    client: &InstallClient,
    order: &Order,
    root: &Part,
    progress: &Progress,
) -> Result<(), InstallFailure> {
    let missing = || never(Stage::FileSystems, "the order has no recipe for packages");
    let recipe = order.recipe.as_ref().ok_or_else(missing)?;
    progress.doing("making the root's file system");
    let chamber = Chamber::make(root, &recipe.mke2fs)?;
    let result = prepare(chamber.root(), recipe)
        .map_err(|e| again(Stage::FileSystems, format!("prepare the root: {e}")))
        .and_then(|()| fill(client, order, recipe, &chamber, progress));
    let closed = chamber.close();
    result.and(closed)
}

/// Folders, links and files that are there before any package.
fn prepare(root: &Path, recipe: &Recipe) -> io::Result<()> {
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    for (folder, mode) in &recipe.folders {
        let path = inside(folder);
        fs::create_dir_all(&path)?;
        set_mode(&path, *mode)?;
    }
    for (link, target) in &recipe.links {
        fs::create_dir_all(inside(target))?;
        symlink(target, inside(link))?;
    }
    for file in &recipe.before {
        let path = inside(&file.path);
        fs::write(&path, &file.text)?;
        set_mode(&path, file.mode)?;
    }
    Ok(())
}

fn fill(
    client: &InstallClient,
    order: &Order,
    recipe: &Recipe,
    chamber: &Chamber,
    progress: &Progress,
) -> Result<(), InstallFailure> {
    progress.begin(Stage::Fetch, "the base's packages");
    let pool = Pool::make(chamber.root(), order)?;
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| pool.fetch(client, progress));
        let installed = install_all(client, order, recipe, chamber, &pool, progress);
        if installed.is_err() {
            pool.give_up();
        }
        let early = || again(Stage::Fetch, "the thread that fetches packages ended early");
        let fetched = fetching.join().unwrap_or_else(|_| Err(early()));
        // When fetching failed, what waited for a package only knows that it did not come.
        fetched.and(installed)
    })
}

fn install_all(
    client: &InstallClient,
    order: &Order,
    recipe: &Recipe,
    chamber: &Chamber,
    pool: &Pool<'_>,
    progress: &Progress,
) -> Result<(), InstallFailure> {
    pool.wait_for(0, Stage::Fetch)?;
    progress.begin(Stage::Unpack, "the base");
    let unpacking = Unpacking { chamber, pool, progress };
    let base = unpacking.base(order, recipe)?;
    dpkg::base(&base, recipe, chamber, pool, progress)?;
    let others = unpacking.others(order)?;
    dpkg::others(order, &others, recipe, chamber, pool, progress)?;
    pool.remove()
        .map_err(|e| again(Stage::Configure, format!("remove the packages' files: {e}")))?;
    finish(client, recipe, chamber, progress)
}

fn finish(
    client: &InstallClient,
    recipe: &Recipe,
    chamber: &Chamber,
    progress: &Progress,
) -> Result<(), InstallFailure> {
    progress.begin(Stage::NodeConfiguration, "what the role has beside its packages");
    let stage = Stage::NodeConfiguration;
    let mut overlay = crate::client::until_reachable(|| client.overlay())
        .map_err(|e| again(stage, format!("the overlay: {e}")))?;
    chamber.feed("overlay", &mut overlay, stage)?;
    let script = ["/bin/sh", "-e", "-c", recipe.finish.as_str()];
    chamber.run(&script, &[("RELEASE", &recipe.release)], stage, &mut |_| {})?;
    let json = serde_json::to_vec(recipe).map_err(|e| never(stage, e))?;
    chamber.feed("finish", &mut json.as_slice(), stage)
}
