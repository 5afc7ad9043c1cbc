//! What the launches of a site need of kernels and VMM trees: fetched or found once, then shared by its nodes.
//!
//! The kernel modules of User-Mode Linux stand in every role image, so that a node's disk boots on any VMM; its
//! kernel is therefore fetched whenever images are built.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gridgate_depot::{Depot, Mirrors, Uml};
use gridgate_machine::VmmSpec;
use gridgate_protocol::site_api::ErrorKind;

use crate::arrangement::{self, Arrangement};
use crate::failure::{Failure, Hint, caused, failure};
use crate::home::SiteDir;
use crate::images::{self, Reporter};
use crate::site::Site;
use crate::task::Task;
use crate::verdicts::Engine;
use crate::wait::blocking;
use crate::wanted::Wanted;

/// What is at hand, by VMM.
#[derive(Clone, Debug, Default)]
pub struct Vmms {
    uml: Option<Arc<Uml>>,
}

/// What a task needs of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// What the machines that will be started run on.
    pub launches: BTreeSet<Engine>,
    /// Whether role images are built.
    pub images: bool,
}

/// Where missing packages may come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Debian mirror that was asked for.
    pub mirror: Option<String>,
    /// What the client's environment says of mirror and proxies.
    pub environment: BTreeMap<String, String>,
}

impl Vmms {
    /// Like [`Vmms::fetch`], for machines of a site whose images are there. Without a known mirror, what the
    /// depot holds must do.
    pub async fn gather(
        site: &Arc<Site>,
        wanted: &Arc<Wanted>,
        needs: Needs,
        sources: Sources,
        task: &Arc<Task>,
    ) -> Result<Vmms, Failure> {
        let (site, wanted, task) = (site.clone(), wanted.clone(), task.clone());
        blocking(move || {
            let depot = images::depot(&site.home.depot())?;
            let (flag, profile) = (sources.mirror.as_deref(), wanted.site.mirror.as_deref());
            let mirrors = images::mirrors(flag, profile, &sources.environment).unwrap_or_default();
            Vmms::fetch(&depot, &mirrors, &site.dir, &needs, &task)
        })
        .await?
    }

    /// Fetches or finds what is needed. Blocking.
    pub fn fetch(
        depot: &Depot,
        mirrors: &Mirrors,
        dir: &SiteDir,
        needs: &Needs,
        task: &Arc<Task>,
    ) -> Result<Vmms, Failure> {
        let mut vmms = Vmms::default();
        let uml = needs.launches.contains(&Engine::Uml);
        if uml || needs.images {
            let lock = images::lock(dir)?;
            let found = depot.uml(mirrors, lock.as_ref(), &Reporter::new(task.clone()));
            vmms.uml = Some(Arc::new(found.map_err(|e| {
                caused(ErrorKind::Host, "the User Mode Linux kernel could not be fetched", &e)
                    .hint("what was fetched is kept: `gridgate up` goes on from there")
            })?));
        }
        Ok(vmms)
    }

    /// What the depot holds already; asks nobody.
    pub fn present(depot: &Depot, dir: &SiteDir) -> Vmms {
        let lock = images::lock(dir).ok().flatten();
        let uml = depot.uml(&Mirrors::default(), lock.as_ref(), &gridgate_depot::Silent);
        Vmms { uml: uml.ok().map(Arc::new) }
    }

    /// User-Mode Linux, if it is at hand.
    pub fn uml(&self) -> Option<&Uml> {
        self.uml.as_deref()
    }

    /// The VMM of a machine.
    ///
    /// # Errors
    /// When it was not fetched: a fault of the program.
    pub fn spec(&self, arrangement: Arrangement) -> Result<VmmSpec, Failure> {
        let absent = || {
            failure(ErrorKind::Internal, format!("{arrangement} was not fetched before a launch"))
        };
        match arrangement {
            Arrangement::Uml(security) => {
                let uml = self.uml().ok_or_else(absent)?;
                Ok(VmmSpec::Uml {
                    root: uml.root.clone(),
                    kernel: uml.kernel.clone(),
                    initramfs: None,
                    security: arrangement::security(security),
                })
            }
            Arrangement::Kvm(_) | Arrangement::Tcg(_) | Arrangement::Xen(_) => Err(absent()),
        }
    }
}
