//! Unpacking by this process, package by package as they come.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use gridgate_deb::Deb;
use gridgate_deb::unpacker::{Conffiles, Outcome, Unpacker};
use gridgate_protocol::agent_api::LockedPackage;
use gridgate_protocol::install_api::{InstallFailure, Order, Recipe, Stage};

use super::chamber::Chamber;
use super::pool::Pool;
use crate::install::again;
use crate::install::progress::Progress;

/// What unpacking needs.
pub(super) struct Unpacking<'a, 'o> {
    pub(super) chamber: &'a Chamber,
    pub(super) pool: &'a Pool<'o>,
    pub(super) progress: &'a Progress,
}

impl Unpacking<'_, '_> {
    /// Unpacks the base, all of it: dpkg itself is in it. Gives the packages that dpkg must unpack once more.
    pub(super) fn base<'o>(
        &self,
        order: &'o Order,
        recipe: &Recipe,
    ) -> Result<Vec<&'o LockedPackage>, InstallFailure> {
        let (all, kept) = (count(order), |path: &Path| is_kept(path, recipe));
        let root = self.chamber.root();
        self.run(&order.base, Conffiles::Live, (0, all), &|deb| deb.unpack(root, &kept))
    }

    /// Unpacks all others. Gives those that dpkg must unpack.
    pub(super) fn others<'o>(
        &self,
        order: &'o Order,
    ) -> Result<Vec<&'o LockedPackage>, InstallFailure> {
        let counts = (order.base.len(), count(order));
        self.run(&order.packages, Conffiles::Beside, counts, &|_| Ok(()))
    }

    fn run<'o>(
        &self,
        packages: &'o [LockedPackage],
        conffiles: Conffiles,
        (before, all): (usize, usize),
        left: &dyn Fn(&Deb) -> io::Result<()>,
    ) -> Result<Vec<&'o LockedPackage>, InstallFailure> {
        let fault = |what: &str, e: io::Error| again(Stage::Unpack, format!("{what}: {e}"));
        let unpacker = Unpacker::new(self.chamber.root(), conffiles)
            .map_err(|e| fault("read the root's own database of packages", e))?;
        let mut for_dpkg = Vec::new();
        for (number, package) in packages.iter().enumerate() {
            self.pool.wait_for(before + number, Stage::Unpack)?;
            self.progress.doing(format!("unpacking {}", package.name));
            let file = self.pool.file(package);
            let unpack = || {
                let deb = Deb::new(File::open(&file)?)?;
                let outcome = unpacker.unpack(&deb)?;
                match outcome {
                    Outcome::Unpacked => fs::remove_file(&file)?,
                    Outcome::ForDpkg(_) => left(&deb)?,
                }
                Ok(outcome)
            };
            let outcome = unpack().map_err(|e| fault(&format!("unpack {}", package.name), e))?;
            if let Outcome::ForDpkg(why) = outcome {
                tracing::debug!(package = package.name, why, "left to dpkg");
                for_dpkg.push(package);
            }
            let done = before + number + 1 - for_dpkg.len();
            self.progress.go_on(None, Some((number32(done), number32(all))));
            self.progress.check()?;
        }
        unpacker.close().map_err(|e| fault("write the root's database of packages", e))?;
        Ok(for_dpkg)
    }
}

fn count(order: &Order) -> usize {
    order.base.len() + order.packages.len()
}

fn number32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Whether a package's path (relative, `./usr/…`) is unpacked.
fn is_kept(path: &Path, recipe: &Recipe) -> bool {
    let path = path.strip_prefix(".").unwrap_or(path);
    let Some(text) = path.to_str() else { return true };
    !recipe.left_out.iter().any(|folder| text.starts_with(folder.as_str()))
        || recipe.kept.iter().any(|end| text.ends_with(end.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told_by_the_recipe() {
        let recipe = Recipe {
            left_out: vec!["usr/share/doc/".into()],
            kept: vec!["/copyright".into()],
            ..Recipe::default()
        };
        let kept = |path: &str| is_kept(Path::new(path), &recipe);
        assert!(kept("./usr/bin/ls") && kept("./usr/share/doc/bash/copyright"));
        assert!(!kept("./usr/share/doc/bash/README"));
    }
}
