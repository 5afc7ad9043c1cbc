//! Xen's toolstack: `xl`, run; the only program of the host that this crate runs. It belongs
//! to the hypervisor, with which it must agree to the version.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::report::{self, Domain, Host};

/// Where programs are when nothing else is said.
pub(super) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Tells which rights this domain has.
const CAPABILITIES: &str = "/proc/xen/capabilities";

/// `xl` of the running hypervisor.
#[derive(Clone, Debug)]
pub(super) struct Toolstack {
    xl: PathBuf,
}

impl Toolstack {
    /// Finds it.
    ///
    /// # Errors
    /// In words: no Xen, not its privileged domain, no toolstack.
    pub(super) fn find() -> io::Result<Self> {
        let rights = std::fs::read_to_string(CAPABILITIES).map_err(|e| {
            io::Error::other(format!(
                "this host does not run Xen ({CAPABILITIES}: {e}): boot its kernel under Xen, and mount xenfs on /proc/xen"
            ))
        })?;
        if !rights.contains("control_d") {
            let why = "this is a guest of Xen: machines can only be made in its privileged domain";
            return Err(io::Error::other(why));
        }
        let version = |part: &str| {
            let path = format!("/sys/hypervisor/version/{part}");
            std::fs::read_to_string(path).map(|text| text.trim().to_owned())
        };
        // Debian keeps one toolstack for each version, and a wrapper in the usual place.
        let own = version("major").and_then(|major| {
            Ok(PathBuf::from(format!("/usr/lib/xen-{major}.{}/bin/xl", version("minor")?)))
        });
        let usual = PATH.split(':').map(|folder| Path::new(folder).join("xl"));
        let found = own.into_iter().chain(usual).find(|path| path.is_file());
        found.map(|xl| Self { xl }).ok_or_else(|| {
            io::Error::other("Xen runs, but there is no xl: install the toolstack of this Xen (Debian: xen-utils)")
        })
    }

    /// `pygrub` of the same toolstack.
    ///
    /// # Errors
    /// When it has none.
    pub(super) fn pygrub(&self) -> io::Result<PathBuf> {
        // Debian's place is beside xl; the others are Xen's own and what some distributions make of it.
        let folders = [self.xl.parent(), Some(Path::new("/usr/lib/xen/bin"))];
        let folders = folders.into_iter().flatten().chain([Path::new("/usr/libexec/xen/bin")]);
        folders.map(|folder| folder.join("pygrub")).find(|path| path.is_file()).ok_or_else(|| {
            io::Error::other(
                "this Xen's toolstack has no pygrub: boot a kernel of the host instead",
            )
        })
    }

    /// Runs `xl`.
    pub(super) fn run(&self, arguments: &[&str]) -> io::Result<Output> {
        Command::new(&self.xl)
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
    }

    /// Runs `xl` and gives what it prints.
    pub(super) fn ask(&self, arguments: &[&str]) -> io::Result<String> {
        let output = self.run(arguments)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let why = said.lines().next().unwrap_or("without a word").to_owned();
        Err(io::Error::other(format!("xl {}: {why}", arguments.join(" "))))
    }

    /// All domains.
    pub(super) fn domains(&self) -> io::Result<Vec<Domain>> {
        Ok(report::domains(&self.ask(&["list", "-v"])?))
    }

    /// The domain with this UUID, also one that is half made or being taken down.
    pub(super) fn domain(&self, uuid: &str) -> io::Result<Option<Domain>> {
        Ok(self.domains()?.into_iter().find(|domain| domain.uuid == uuid))
    }

    /// The host.
    pub(super) fn host(&self) -> io::Result<Host> {
        let text = self.ask(&["info"])?;
        report::host(&text).ok_or_else(|| io::Error::other("xl info is not understood"))
    }
}
