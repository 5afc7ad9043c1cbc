//! Names every file and folder below `GRIDGATE_HOME`, and writes files atomically.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// `GRIDGATE_HOME`.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

impl Home {
    /// The home at this path; nothing is made yet.
    pub fn new(path: impl Into<PathBuf>) -> Home {
        Home(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.0.join("daemon.sock")
    }

    /// Held locked by the running daemon.
    pub fn lock_file(&self) -> PathBuf {
        self.0.join("daemon.pid")
    }

    /// The depot.
    pub fn depot(&self) -> PathBuf {
        self.0.join("depot")
    }

    /// What probes have found of the VMMs on this host.
    pub fn verdicts(&self) -> PathBuf {
        self.0.join("probes.json")
    }

    /// All sites.
    pub fn sites(&self) -> PathBuf {
        self.0.join("sites")
    }

    /// What imports brought, by site.
    pub fn imports(&self) -> PathBuf {
        self.0.join("imports")
    }

    /// One site's folder.
    pub fn site(&self, name: &str) -> SiteDir {
        SiteDir {
            path: self.sites().join(name),
            imported: self.imports().join(name),
            tag: self.tag(name),
        }
    }

    /// Tells this home's kernel objects (namespaces, cgroups) from those of another home on the same host.
    fn tag(&self, site: &str) -> String {
        let digest = Sha256::digest(self.0.as_os_str().as_encoded_bytes());
        format!("{site}-{}", hex::encode(&digest[..3]))
    }
}

/// `sites/<site>`.
#[derive(Clone, Debug)]
pub struct SiteDir {
    path: PathBuf,
    imported: PathBuf,
    tag: String,
}

impl SiteDir {
    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The profile as last brought up: `SiteSource` as JSON.
    pub fn source(&self) -> PathBuf {
        self.path.join("source.json")
    }
    /// The profile's text, for people.
    pub fn profile(&self) -> PathBuf {
        self.path.join("site.toml")
    }
    /// The package lock.
    pub fn lock(&self) -> PathBuf {
        self.path.join("site.lock")
    }
    /// Earlier package locks, which a rollback may need.
    pub fn earlier_locks(&self) -> PathBuf {
        self.path.join("locks")
    }
    /// Lock and profile that an import brought; outside the site, which may not be there yet.
    pub fn imported(&self) -> &Path {
        &self.imported
    }
    /// The CA's folder.
    pub fn ca(&self) -> PathBuf {
        self.path.join("ca")
    }
    /// The site's secrets.
    pub fn secrets(&self) -> PathBuf {
        self.path.join("secrets")
    }
    /// The administrator's ssh key and known hosts.
    pub fn ssh(&self) -> PathBuf {
        self.path.join("ssh")
    }
    /// Result of the last site checks.
    pub fn checks(&self) -> PathBuf {
        self.path.join("log/checks.json")
    }
    /// All nodes.
    pub fn nodes(&self) -> PathBuf {
        self.path.join("nodes")
    }
    /// One node's folder.
    pub fn node(&self, name: &str) -> NodeDir {
        NodeDir { path: self.nodes().join(name) }
    }
    /// Name of the site's network namespace.
    pub fn namespace(&self) -> String {
        format!("gg-{}", self.tag)
    }
    /// A node's cgroup, below each controller's root.
    pub fn cgroup(&self, node: &str) -> String {
        format!("gridgate/{}/{node}", self.tag)
    }
    /// The site's part of every cgroup hierarchy.
    pub fn cgroup_root(&self) -> String {
        format!("gridgate/{}", self.tag)
    }
}

/// `sites/<site>/nodes/<node>`.
#[derive(Clone, Debug)]
pub struct NodeDir {
    path: PathBuf,
}

impl NodeDir {
    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The published node profile.
    pub fn profile(&self) -> PathBuf {
        self.path.join("config/profile.json")
    }
    /// The node's bearer token.
    pub fn token(&self) -> PathBuf {
        self.path.join("config/token")
    }
    /// The packages the node must have: `images::Installed`.
    pub fn packages(&self) -> PathBuf {
        self.path.join("config/packages.json")
    }
    /// The VMM that `gridgate convert` has put the node on: `choice::Moved`.
    pub fn moved(&self) -> PathBuf {
        self.path.join("config/vmm.json")
    }
    /// The installation under way or last done: `install::installation::Installation`.
    pub fn installation(&self) -> PathBuf {
        self.path.join("config/installation.json")
    }
    /// Records of installations.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }
    /// The record of one installation.
    pub fn install_log(&self, number: u32) -> PathBuf {
        self.log().join(format!("install-{number}.json"))
    }
    /// The installer's initial RAM file system with this node's one-time token.
    pub fn installer(&self) -> PathBuf {
        self.path.join("config/installer.cpio")
    }
    /// The disk.
    pub fn disk(&self) -> PathBuf {
        self.path.join("fs/disk.img")
    }
    /// Journal of the node's update, while there is something to tell.
    pub fn update(&self) -> PathBuf {
        self.path.join("config/update.json")
    }
    /// The disk from before an update, by the fingerprint of the package list on it.
    pub fn earlier_disk(&self, packages: &str) -> PathBuf {
        self.path.join(format!("fs/before-{packages}.img"))
    }
    /// Sockets, console log, state of the machine.
    pub fn run(&self) -> PathBuf {
        self.path.join("run")
    }
}

/// Makes a folder and its parents, readable by root only.
pub fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file (0600) so that at any moment either the old or the new content stands there.
pub fn write_atomic(path: &Path, content: &[u8]) -> io::Result<()> {
    let parent = path.parent().ok_or_else(|| io::Error::other("a file has a parent folder"))?;
    private_dir(parent)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.new"));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(parent)?.sync_all()
}
