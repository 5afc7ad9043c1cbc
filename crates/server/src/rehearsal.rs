//! An install server without machines, for tests and measurements: a site of many nodes, each ready to install
//! itself or with an agent that waits, served on the host's loopback with the same code, certificates and tokens
//! as in a site's network.

mod agents;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gridgate_depot::{Depot, RoleImage, Silent};
use gridgate_protocol::agent_api::{LockedPackage, PackageList, PublishedProfile};
use gridgate_protocol::install_api::{
    DataOrder, DiskOrder, InstallOutcome, InstallRecord, Method, Order,
};
use gridgate_protocol::site_api::{ApiError, ErrorKind, SiteSource};

use crate::failure::{Failure, caused};
use crate::home::Home;
use crate::images::Installed;
use crate::install::{self, InstallServer, record};
use crate::site::Site;
use crate::wanted::{self, Wanted};

/// Key under which a rehearsed image lies in the depot.
const KEY: &str = "00000000000000000000000000000001";

/// A running rehearsal; it ends when dropped.
pub struct Rehearsal {
    /// Where it listens.
    pub address: SocketAddr,
    /// The CA's certificate, PEM.
    pub ca: String,
    /// The home's depot.
    pub depot: PathBuf,
    site: Arc<Site>,
    _server: InstallServer,
}

/// What the nodes install.
pub enum Play {
    /// This file system.
    Image(PathBuf),
    /// These `.deb` files.
    Packages(Vec<PathBuf>),
}

impl Rehearsal {
    /// Opens the stage in an empty or used home; call it inside a tokio runtime.
    pub fn open(home: &Path, nodes: u32) -> Result<Rehearsal, Box<ApiError>> {
        let home = Home::new(home);
        let (wanted, ca) = wanted::compile(&home, source(nodes))?;
        let site = Site::new(&home, &wanted.site.name);
        site.set_wanted(wanted, ca);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| host(&e))?;
        let address = listener.local_addr().map_err(|e| host(&e))?;
        let server = install::serve_on(&site, listener, Ipv4Addr::LOCALHOST)?;
        let ca = site.ca_certificate()?;
        Ok(Rehearsal { address, ca, depot: home.depot(), site, _server: server })
    }

    /// Makes every node ready; gives their names and one-time tokens. Blocking.
    pub fn ready(&self, play: &Play) -> Result<Vec<(String, String)>, Box<ApiError>> {
        let depot = Depot::open(&self.depot)
            .map_err(|e| caused(ErrorKind::Host, "the depot could not be opened", &e))?;
        let (method, image, packages) = match play {
            Play::Image(path) => (Method::Image, put_image(&depot, &self.depot, path)?, Vec::new()),
            Play::Packages(debs) => {
                (Method::Packages, String::new(), put_packages(&self.depot, debs)?)
            }
        };
        let wanted = self.wanted()?;
        let mut tokens = Vec::new();
        for node in &wanted.compiled.nodes {
            let list = PackageList { packages: packages.clone() };
            let installed = Installed { names: Vec::new(), image: image.clone(), list };
            let number = record::next(&self.site.dir.node(&node.name));
            let record = record(&node.name, number, method);
            let order = order(node, number, method, packages.clone());
            self.site.installations.open(order, installed, record)?;
            tokens.push((node.name.clone(), self.site.installations.new_token(&node.name)?));
        }
        Ok(tokens)
    }

    fn wanted(&self) -> Result<Arc<Wanted>, Failure> {
        let unknown = || crate::failure::failure(ErrorKind::Internal, "the site is not known");
        self.site.wanted().ok_or_else(unknown)
    }

    /// The record of a node's last installation.
    pub fn record(&self, node: &str) -> Option<InstallRecord> {
        self.site.installations.look(node).map(|look| look.record)
    }

    /// A new one-time token, as for another launch of the installer.
    pub fn relaunch(&self, node: &str) -> Result<String, Box<ApiError>> {
        self.site.installations.new_token(node)
    }
}

fn host(error: &dyn std::error::Error) -> Failure {
    caused(ErrorKind::Host, "the rehearsal could not begin", error)
}

fn source(nodes: u32) -> SiteSource {
    let text = format!(
        "[site]\nname = \"rehearsal\"\ndomain = \"rehearsal.test\"\n[network]\nprefix = \"198.51.100.0/24\"\n\
         [users.alice]\nfull_name = \"Alice Example\"\n[nodes.n]\nrole = \"wn\"\ncount = {nodes}\n\
         [nodes.ce]\nrole = \"ce\"\n"
    );
    SiteSource { path: "/rehearsal/site.toml".into(), text, components: Default::default() }
}

/// Puts a file system into the depot as a role image, cut into pieces; gives its key.
fn put_image(depot: &Depot, folder: &Path, path: &Path) -> Result<String, Failure> {
    let place = folder.join("images").join(KEY);
    let put = || -> io::Result<u64> {
        fs::create_dir_all(&place)?;
        let target = place.join("image.ext4");
        if !target.exists() {
            fs::hard_link(path, &target).or_else(|_| fs::copy(path, &target).map(drop))?;
        }
        Ok(fs::metadata(target)?.len())
    };
    let size = put().map_err(|e| host(&e))?;
    let image = RoleImage {
        role: "wn".into(),
        key: KEY.into(),
        path: place.join("image.ext4"),
        size,
        used: 0,
        packages: Vec::new(),
        reused: true,
    };
    depot.image_pieces(&image, &Silent).map_err(|e| host(&e))?;
    Ok(KEY.into())
}

/// Puts package files into the depot.
fn put_packages(folder: &Path, debs: &[PathBuf]) -> Result<Vec<LockedPackage>, Failure> {
    use sha2::{Digest, Sha256};
    let put = |deb: &PathBuf| -> io::Result<LockedPackage> {
        let bytes = fs::read(deb)?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        fs::write(folder.join(format!("packages/{}/{sha256}.deb", &sha256[..2])), &bytes)?;
        Ok(LockedPackage {
            name: deb.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            version: "1".into(),
            architecture: "all".into(),
            sha256,
            size: bytes.len() as u64,
        })
    };
    debs.iter().map(put).collect::<io::Result<_>>().map_err(|e| host(&e))
}

fn record(node: &str, number: u32, method: Method) -> InstallRecord {
    InstallRecord {
        number,
        site: "rehearsal".into(),
        node: node.into(),
        method,
        profile: String::new(),
        image: None,
        begun: jiff::Timestamp::now().to_string(),
        ended: None,
        outcome: InstallOutcome::UnderWay,
        launches: 0,
        stages: Vec::new(),
        doing: String::new(),
        pieces: 0,
        disk: None,
        kernel: None,
        clock_off_s: None,
        last_line: None,
    }
}

fn order(
    node: &gridgate_profile::CompiledNode,
    number: u32,
    method: Method,
    packages: Vec<LockedPackage>,
) -> Order {
    let data = node.data.iter();
    let data = data.map(|d| DataOrder { name: d.name.clone(), size: d.size, wipe: false });
    Order {
        number,
        session: String::new(),
        method,
        disk: DiskOrder {
            seed: crate::disks::SEED_SIZE,
            swap: node.swap,
            data: data.collect(),
            abandoned: Vec::new(),
            root_least: 1 << 20,
        },
        profile: PublishedProfile {
            version: node.profile.version(),
            profile: node.profile.clone(),
            packages: None,
        },
        base: Vec::new(),
        packages,
        early: None,
        recipe: None,
        resume: None,
        clock: 0,
    }
}
