//! Installs packages into a root.
//!
//! ```text
//! unpack, on all cores ─→ [what is left to dpkg: unpack ─→ configure what the next need for unpacking] … ─→ configure all
//! ```
//!
//! dpkg does all of it but for unpacking what is files only, and does it as it does it for apt: apt is only asked
//! where the order cannot be told.

use std::collections::BTreeSet;
use std::path::Path;

use gridgate_deb::unpacker::Conffiles;

use crate::apt;
use crate::chamber::{Access, Chamber, ChamberError};
use crate::error::DepotError;
use crate::files;
use crate::larder::Larder;
use crate::late;
use crate::lock::PinnedPackage;
use crate::order::{Set, Step};
use crate::store::remove_tree;
use crate::unpack::Unpacking;

/// dpkg's options, as in apt's settings.
const OPTIONS: &str = "--force-unsafe-io --force-confold";

/// An installation into a root that has been configured.
pub(crate) struct Install<'a> {
    pub(crate) program: &'a Path,
    /// Whose root it is, for errors.
    pub(crate) subject: &'a str,
    pub(crate) root: &'a Path,
    /// A folder of our own.
    pub(crate) pool: &'a Path,
    pub(crate) larder: &'a Larder<'a>,
    pub(crate) way: Way,
}

/// How packages are installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As said above.
    Quick,
    /// By apt alone.
    Apt,
}

impl Install<'_> {
    /// Installs exactly `packages`, which the larder was asked for.
    pub(crate) fn run(&self, packages: &[PinnedPackage]) -> Result<(), DepotError> {
        let controls = self.larder.controls(packages)?;
        let markers = self.markers(packages)?;
        let steps = Set::new(packages, &controls).steps().ok();
        match steps.filter(|_| self.way == Way::Quick) {
            Some((order, steps)) => self.follow(&order, &steps)?,
            None => {
                let all: Vec<_> = packages.iter().zip(&controls).collect();
                let stored = |pin: &PinnedPackage| self.larder.stored(pin);
                apt::install(self.program, self.subject, self.root, self.pool, &all, &stored)?;
            }
        }
        let remove =
            |marker| std::fs::remove_file(marker).map_err(DepotError::io("remove", marker));
        markers.iter().try_for_each(|marker| remove(marker))
    }

    fn follow(&self, order: &[PinnedPackage], steps: &[Step]) -> Result<(), DepotError> {
        let (larder, root, conffiles) = (self.larder, self.root, Conffiles::Beside);
        let left = Unpacking { larder, root, conffiles, left: &|_| Ok(()) }.run(order)?;
        for step in steps {
            match step {
                Step::Unpack(range) => self.unpack(&order[range.clone()], &left)?,
                Step::Configure(names) => self.dpkg(&format!("--configure {}", names.join(" ")))?,
            }
        }
        self.configure()
    }

    fn configure(&self) -> Result<(), DepotError> {
        let script = format!("dpkg {OPTIONS} --configure --pending");
        let Some(late) = late::prepare(&self.pool.join("late"), self.root)? else {
            return self.script(self.chamber(), &script);
        };
        let chamber = self.chamber().bind(&late.dir, late::NAME, Access::Write);
        self.script(chamber, &late.around(&script))?;
        remove_tree(&late.dir)
    }

    /// Has dpkg unpack those of `packages` that are left to it.
    fn unpack(
        &self,
        packages: &[PinnedPackage],
        left: &BTreeSet<String>,
    ) -> Result<(), DepotError> {
        let left = packages.iter().filter(|pin| left.contains(&pin.name));
        let files: String = left.map(|pin| format!(" {}", shown(self.larder, pin))).collect();
        if files.is_empty() {
            return Ok(());
        }
        self.dpkg(&format!("--no-triggers --unpack{files}"))
    }

    fn dpkg(&self, what: &str) -> Result<(), DepotError> {
        let chamber = self.chamber().bind(&self.larder.packages(), "pool", Access::ReadOnly);
        self.script(chamber, &format!("dpkg {OPTIONS} {what}"))
    }

    fn chamber(&self) -> Chamber {
        Chamber::new(self.program, self.root, Access::Write)
    }

    fn script(&self, chamber: Chamber, script: &str) -> Result<(), DepotError> {
        let failed =
            |source: ChamberError| DepotError::Chamber { subject: self.subject.to_owned(), source };
        chamber.script(script).map(drop).map_err(failed)
    }

    /// Makes the files that keep scripts from making secrets.
    fn markers(&self, packages: &[PinnedPackage]) -> Result<Vec<std::path::PathBuf>, DepotError> {
        let is_new = |name: &str| packages.iter().any(|pin| pin.name == name);
        let markers = apt::MARKERS.iter().filter(|(package, _)| is_new(package));
        let markers: Vec<_> = markers.map(|(_, path)| self.root.join(path)).collect();
        for marker in &markers {
            files::make_dir(marker.parent().unwrap_or(self.root))?;
            std::fs::write(marker, "").map_err(DepotError::io("write", marker))?;
        }
        Ok(markers)
    }
}

/// A stored package's file in a chamber that is shown the store as `/mnt/pool`.
pub(crate) fn shown(larder: &Larder<'_>, pin: &PinnedPackage) -> String {
    let stored = larder.stored(pin);
    let inside = stored.strip_prefix(larder.packages()).unwrap_or(&stored);
    format!("/mnt/pool/{}", inside.display())
}
