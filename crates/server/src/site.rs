//! One site in the daemon's memory: what it wants, what its agents say, its task under way.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use gridgate_depot::Depot;
use gridgate_grid::ca::{CertificateRequest, ServerIdentity, SiteCa};
use gridgate_net::PublishedPort;
use gridgate_profile::Publish;
use gridgate_protocol::site_api::{CheckRun, ErrorKind};

use crate::failure::{Failure, caused, failure};
use crate::home::{Home, SiteDir};
use crate::install::{ArchiveService, InstallServer, Installations, Links};
use crate::task::{Begun, Slot, Task};
use crate::wanted::Wanted;

/// A site that this daemon knows.
pub struct Site {
    /// Site name.
    pub name: String,
    /// Its folder.
    pub dir: SiteDir,
    /// The home it is in.
    pub home: Home,
    /// When this daemon took it up.
    pub opened: Instant,
    /// What the agents say and are told.
    pub links: Links,
    /// Nodes that install themselves.
    pub installations: Installations,
    wanted: RwLock<Option<Arc<Wanted>>>,
    ca: RwLock<Option<Arc<SiteCa>>>,
    task: Slot,
    services: Mutex<Services>,
    checks: Mutex<Option<CheckRun>>,
}

/// What runs in the daemon on the site's behalf; ends when dropped.
#[derive(Default)]
pub struct Services {
    /// The install server.
    pub install: Option<InstallServer>,
    /// The package service.
    pub archive: Option<ArchiveService>,
    /// Forwarders of published ports, by node.
    pub ports: Vec<(String, Publish, PublishedPort)>,
}

impl Site {
    /// A site of which nothing is known but its name.
    pub fn new(home: &Home, name: &str) -> Arc<Site> {
        let dir = home.site(name);
        let checks =
            std::fs::read(dir.checks()).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Arc::new(Site {
            name: name.to_owned(),
            installations: Installations::load(&dir),
            dir,
            home: home.clone(),
            opened: Instant::now(),
            links: Links::new(),
            wanted: RwLock::new(None),
            ca: RwLock::new(None),
            task: Slot::default(),
            services: Mutex::new(Services::default()),
            checks: Mutex::new(checks),
        })
    }

    /// What the site must be; none before its first `up`.
    pub fn wanted(&self) -> Option<Arc<Wanted>> {
        self.wanted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The node that has this address.
    pub fn node_at(&self, address: IpAddr) -> Option<String> {
        let wanted = self.wanted()?;
        let nodes = wanted.compiled.nodes.iter();
        let mut there = nodes.filter(|node| IpAddr::V4(node.profile.address) == address);
        there.next().map(|node| node.name.clone())
    }

    /// Takes over what the site must be from now on.
    pub fn set_wanted(&self, wanted: Wanted, ca: SiteCa) -> Arc<Wanted> {
        let wanted = Arc::new(wanted);
        *self.ca.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(ca));
        *self.wanted.write().unwrap_or_else(PoisonError::into_inner) = Some(wanted.clone());
        wanted
    }

    /// Takes back what the site must be, after a profile that could not be followed.
    pub fn set_back(&self, wanted: Option<Arc<Wanted>>) {
        *self.wanted.write().unwrap_or_else(PoisonError::into_inner) = wanted;
    }

    /// Works on the services; never held across an await.
    pub fn services<T>(&self, work: impl FnOnce(&mut Services) -> T) -> T {
        work(&mut self.services.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The task under way.
    pub fn task(&self) -> Option<Arc<Task>> {
        self.task.current()
    }

    /// Begins a task, or gives the equal one under way (`false`), or refuses.
    pub fn begin(&self, name: &str, request: String) -> Result<(Arc<Task>, bool), Failure> {
        self.task.begin(&self.name, name, request)
    }

    /// The same; a task under way that `yields` gives up, and ends before the new one's work begins.
    pub fn begin_instead(
        &self,
        name: &str,
        request: String,
        yields: impl FnOnce(&Task) -> bool,
    ) -> Result<Begun, Failure> {
        self.task.begin_instead(&self.name, name, request, yields)
    }

    /// Result of the last site checks.
    pub fn checks(&self) -> Option<CheckRun> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the result of a run of the site checks.
    pub fn set_checks(&self, run: CheckRun) {
        let kept = serde_json::to_vec_pretty(&run)
            .map_err(std::io::Error::other)
            .and_then(|json| crate::home::write_atomic(&self.dir.checks(), &json));
        if let Err(e) = kept {
            tracing::warn!(site = self.name, "the checks' result could not be kept: {e}");
        }
        *self.checks.lock().unwrap_or_else(PoisonError::into_inner) = Some(run);
    }

    /// Signs a request for a certificate that a node's profile names.
    pub fn sign(&self, csr: &str, request: &CertificateRequest) -> Result<String, Failure> {
        self.ca()?
            .sign(csr, request)
            .map_err(|e| caused(ErrorKind::Node, "the certificate request was refused", &e))
    }

    /// The install server's own certificate and key.
    pub fn server_identity(&self, name: &str) -> Result<ServerIdentity, Failure> {
        self.ca()?.server_identity(&self.dir.ca(), name).map_err(|e| {
            caused(ErrorKind::Host, "the install server's certificate could not be made", &e)
        })
    }

    /// The CA's certificate, PEM.
    pub fn ca_certificate(&self) -> Result<String, Failure> {
        Ok(self.ca()?.certificate_pem().to_owned())
    }

    fn ca(&self) -> Result<Arc<SiteCa>, Failure> {
        let ca = self.ca.read().unwrap_or_else(PoisonError::into_inner).clone();
        ca.ok_or_else(|| failure(ErrorKind::Internal, "the site's CA is not open"))
    }

    /// A secret of the site, made when it is missing.
    pub fn secret(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let wanted = self.wanted();
        let spec = wanted
            .as_ref()
            .and_then(|wanted| wanted.compiled.secrets.iter().find(|secret| secret.name == name))
            .ok_or_else(|| {
                failure(ErrorKind::NotFound, format!("the site has no secret {name}"))
            })?;
        let format = match spec.format {
            gridgate_profile::SecretFormat::Raw => gridgate_grid::secrets::Format::Raw,
            gridgate_profile::SecretFormat::Hex => gridgate_grid::secrets::Format::Hex,
            gridgate_profile::SecretFormat::Base64 => gridgate_grid::secrets::Format::Base64,
        };
        gridgate_grid::secrets::ensure(&self.dir.secrets(), name, spec.bytes as usize, format)
            .map_err(|e| {
                caused(ErrorKind::Host, format!("the secret {name} could not be made"), &e)
            })
    }

    /// The stored package of this hash.
    pub fn package_file(&self, sha256: &str) -> Option<PathBuf> {
        Depot::open(&self.home.depot()).ok()?.package_file(sha256)
    }
}
