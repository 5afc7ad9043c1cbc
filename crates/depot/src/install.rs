//! Installs packages into a root with dpkg, while the last of them are still being uncompressed.
//!
//! ```text
//! order ─→ unpack the first ─→ … (configure what the next need for unpacking) … ─→ unpack the last ─→ configure all
//!            └ as many as are ready ┘
//! ```
//!
//! dpkg does all of it, as it does it for apt: apt is only asked where the order cannot be told.

use std::path::Path;

use crate::apt;
use crate::chamber::{Access, Chamber, ChamberError};
use crate::deb::Flat;
use crate::error::DepotError;
use crate::files;
use crate::larder::Larder;
use crate::late;
use crate::lock::PinnedPackage;
use crate::order::{Set, Step};
use crate::store::remove_tree;

/// dpkg is started for at least so many packages: each start reads its database.
const AT_LEAST: usize = 48;

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
    /// Whether no other root to come needs these packages uncompressed.
    pub(crate) last: bool,
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
        let steps = Set::new(packages, &controls).steps();
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
        self.larder.prefer(order);
        for step in steps {
            match step {
                Step::Unpack(range) => self.unpack(&order[range.clone()])?,
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

    fn unpack(&self, mut packages: &[PinnedPackage]) -> Result<(), DepotError> {
        while !packages.is_empty() {
            let flats = self.larder.wait_some(packages, AT_LEAST)?;
            let file = |flat: &Flat| {
                format!(" /mnt/pool/{}", flat.path.file_name().unwrap_or_default().display())
            };
            let files: String = flats.iter().map(file).collect();
            self.dpkg(&format!("--no-triggers --unpack{files}"))?;
            if self.last {
                discard(&flats)?;
            }
            packages = &packages[flats.len()..];
        }
        Ok(())
    }

    fn dpkg(&self, what: &str) -> Result<(), DepotError> {
        let chamber = self.chamber().bind(self.larder.dir(), "pool", Access::ReadOnly);
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

/// Removes uncompressed packages that no root to come needs, before they are ever
/// written to disk.
pub(crate) fn discard(flats: &[Flat]) -> Result<(), DepotError> {
    let remove = |flat: &Flat| {
        std::fs::remove_file(&flat.path).map_err(DepotError::io("remove", &flat.path))
    };
    flats.iter().try_for_each(remove)
}
