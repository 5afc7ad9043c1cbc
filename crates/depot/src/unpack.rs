//! Unpacks packages into a root on all cores, straight from the store, each as soon as it is known to be whole.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use gridgate_deb::Deb;
use gridgate_deb::unpacker::{Conffiles, Outcome, Unpacker};

use crate::build::cores;
use crate::error::DepotError;
use crate::larder::Larder;
use crate::lock::PinnedPackage;

/// An unpacking.
pub(crate) struct Unpacking<'a> {
    pub(crate) larder: &'a Larder<'a>,
    pub(crate) root: &'a Path,
    pub(crate) conffiles: Conffiles,
    /// What is done, beside, with packages that dpkg must unpack.
    pub(crate) left: &'a (dyn Fn(&Deb) -> io::Result<()> + Sync),
}

impl Unpacking<'_> {
    /// Unpacks `packages`, which the larder was asked for. Gives the names of those that dpkg must unpack.
    pub(crate) fn run(&self, packages: &[PinnedPackage]) -> Result<BTreeSet<String>, DepotError> {
        let unpacker = Unpacker::new(self.root, self.conffiles)
            .map_err(DepotError::io("read dpkg's database in", self.root))?;
        let next = AtomicUsize::new(0);
        let work = || {
            let mut left = BTreeSet::new();
            while let Some(pin) = packages.get(next.fetch_add(1, Ordering::Relaxed)) {
                match self.one(&unpacker, pin) {
                    Ok(Outcome::Unpacked) => {}
                    Ok(Outcome::ForDpkg(_)) => {
                        left.insert(pin.name.clone());
                    }
                    Err(error) => {
                        // The others finish what they are at and begin nothing new.
                        next.store(packages.len(), Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            Ok(left)
        };
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..cores()).map(|_| scope.spawn(work)).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join();
            threads.into_iter().map(|t| join(t).unwrap_or(Err(DepotError::Stopped))).collect()
        });
        let mut left = BTreeSet::new();
        for outcome in outcomes {
            left.extend(outcome?);
        }
        unpacker.close().map_err(DepotError::io("write dpkg's database in", self.root))?;
        Ok(left)
    }

    fn one(&self, unpacker: &Unpacker, pin: &PinnedPackage) -> Result<Outcome, DepotError> {
        self.larder.controls(std::slice::from_ref(pin))?;
        let stored = self.larder.stored(pin);
        let unpack = || {
            let deb = Deb::new(File::open(&stored)?)?;
            let outcome = unpacker.unpack(&deb)?;
            if let Outcome::ForDpkg(why) = outcome {
                tracing::debug!(package = pin.name, why, "left to dpkg");
                (self.left)(&deb)?;
            }
            Ok(outcome)
        };
        unpack().map_err(|error: io::Error| DepotError::Package {
            name: pin.name.clone(),
            problem: error.to_string(),
        })
    }
}
