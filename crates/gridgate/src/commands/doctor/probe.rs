//! What is looked at. Each probe tries the thing itself where that leaves no trace, and never changes the host.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gridgate_depot::Mirrors;
use gridgate_server::host::{Domain, Ground, memory_for};
use gridgate_server::verdicts::Engine;
use rustix::fs::{Mode, OFlags};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::{Finding, Verdict};
use crate::commands::ssh::on_path;
use crate::show::figures::bytes;

/// Free space below which a site with five nodes and its depot does not fit, bytes.
const DISK_NEEDED: u64 = 6 << 30;

/// Available memory below which a site with five nodes is cramped, bytes.
const MEMORY_NEEDED: u64 = 1536 << 20;

/// Controllers that limit a machine.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Looks at everything.
pub fn all(home: &Path, mirror: Option<&str>) -> Vec<Finding> {
    vec![
        root(),
        namespaces(),
        cgroups(),
        tun(),
        disk(home),
        reflink(home),
        memory(),
        packages(mirror),
        ssh(),
    ]
}

fn ok(name: &'static str, seen: impl Into<String>) -> Finding {
    Finding { name, verdict: Verdict::Ok, seen: seen.into(), mend: None, probe: None }
}

fn missing(name: &'static str, seen: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding {
        name,
        verdict: Verdict::Missing,
        seen: seen.into(),
        mend: Some(mend.into()),
        probe: None,
    }
}

fn optional(name: &'static str, seen: impl Into<String>) -> Finding {
    Finding { name, verdict: Verdict::Optional, seen: seen.into(), mend: None, probe: None }
}

fn root() -> Finding {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        ok("root", "yes")
    } else {
        missing("root", format!("user id {}", uid.as_raw()), "sudo gridgate doctor")
    }
}

/// Makes them on a thread that ends at once, and they with it.
fn namespaces() -> Finding {
    let make = || {
        let kinds = UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWIPC;
        // SAFETY: the flags do not include FILES, and this thread does nothing more: nothing can use a
        // descriptor, mount or network that it no longer shares.
        unsafe { unshare_unsafe(kinds) }
    };
    let pid = Path::new("/proc/self/ns/pid").exists();
    match std::thread::spawn(make).join() {
        Ok(Ok(())) if pid => ok("namespaces", "mount, network, IPC, process"),
        Ok(Ok(())) => missing("namespaces", "no process namespaces", "a kernel with CONFIG_PID_NS"),
        Ok(Err(error)) => missing(
            "namespaces",
            format!("refused: {}", io::Error::from(error)),
            "run as root; in a container, give it CAP_SYS_ADMIN (e.g. docker run --privileged)",
        ),
        Err(_) => missing("namespaces", "the probe ended abruptly", "run it again"),
    }
}

fn cgroups() -> Finding {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let found = controllers(&mounts, |folder| {
        fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default()
    });
    let lacking: Vec<&str> = CONTROLLERS
        .into_iter()
        .filter(|wanted| !found.iter().any(|(controller, _)| controller == wanted))
        .collect();
    let seen: Vec<String> =
        found.iter().map(|(controller, version)| format!("{controller} ({version})")).collect();
    if lacking.is_empty() {
        ok("control groups", seen.join(", "))
    } else {
        missing(
            "control groups",
            format!("without {}", lacking.join(", ")),
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        )
    }
}

/// Which of the wanted controllers are on which version, from `/proc/self/mounts`.
fn controllers(
    mounts: &str,
    version_two: impl Fn(&Path) -> String,
) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, folder, kind, options, ..] = fields[..] else { continue };
        let (version, names) = match kind {
            "cgroup" => ("v1", options.replace(',', " ")),
            "cgroup2" => ("v2", version_two(Path::new(folder))),
            _ => continue,
        };
        for wanted in CONTROLLERS {
            if names.split_whitespace().any(|name| name == wanted) {
                found.push((wanted, version));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn tun() -> Finding {
    match File::options().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => ok("taps", "/dev/net/tun"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            missing("taps", format!("/dev/net/tun: {error}"), "run as root")
        }
        Err(error) => missing(
            "taps",
            format!("/dev/net/tun: {error}"),
            "modprobe tun && mkdir -p /dev/net && mknod /dev/net/tun c 10 200",
        ),
    }
}

fn disk(home: &Path) -> Finding {
    let place = existing(home);
    match rustix::fs::statvfs(&place) {
        Ok(stat) => {
            let free = stat.f_bavail * stat.f_frsize;
            let seen = format!("{} free at {}", bytes(free), place.display());
            if free >= DISK_NEEDED {
                ok("disk", seen)
            } else {
                missing(
                    "disk",
                    format!("{seen}; a site needs about {}", bytes(DISK_NEEDED)),
                    "free some, or name another place with --home DIR",
                )
            }
        }
        Err(error) => {
            missing("disk", io::Error::from(error).to_string(), "name a place with --home DIR")
        }
    }
}

/// Clones one unnamed file into another: they vanish when they are closed.
fn reflink(home: &Path) -> Finding {
    let place = existing(home);
    let unnamed = || {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::open(&place, flags, Mode::RUSR | Mode::WUSR).map(File::from)
    };
    let clone = || -> io::Result<()> {
        let (mut from, to) = (unnamed()?, unnamed()?);
        from.write_all(&[1; 4096])?;
        rustix::fs::ioctl_ficlone(&to, &from)?;
        Ok(())
    };
    match clone() {
        Ok(()) => ok("clones", "the file system shares blocks: disks are made at once"),
        Err(_) => optional("clones", "the file system does not share blocks: disks are copied"),
    }
}

fn memory() -> Finding {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let Some(here) = available(&text) else {
        return optional("memory", "/proc/meminfo does not say how much is available");
    };
    // Xen's guests do not have this host's memory: it is itself one of Xen's domains.
    let of_xen =
        (Ground::now().xen == Domain::Privileged).then(|| memory_for(Engine::Xen)).flatten();
    let (available, seen) = match of_xen {
        Some(free) => {
            (free, format!("{} free in Xen, {} available here", bytes(free), bytes(here)))
        }
        None => (here, format!("{} available", bytes(here))),
    };
    if available >= MEMORY_NEEDED {
        ok("memory", seen)
    } else {
        missing(
            "memory",
            format!("{seen}; a site of five nodes wants {}", bytes(MEMORY_NEEDED)),
            "end other programs, or make the site smaller (nodes.wn.count)",
        )
    }
}

/// `MemAvailable` in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn packages(mirror: Option<&str>) -> Finding {
    match Mirrors::discover(mirror, None) {
        Ok(mirrors) => {
            let proxy = mirrors.proxy.map(|proxy| format!(" through {proxy}")).unwrap_or_default();
            ok("Debian mirror", format!("{}{proxy}", mirrors.debian))
        }
        Err(error) => missing(
            "Debian mirror",
            error.to_string(),
            "gridgate up --mirror http://HOST/debian, or GRIDGATE_MIRROR; a filled depot needs none",
        ),
    }
}

fn ssh() -> Finding {
    match on_path("ssh") {
        Some(path) => ok("ssh client", path.display().to_string()),
        None => optional("ssh client", "none; gridgate ssh uses the one from the site's packages"),
    }
}

/// The folder itself, or the nearest one above it that is there.
fn existing(folder: &Path) -> PathBuf {
    folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_of_a_hybrid_host() {
        let mounts = "\
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nosuid 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,nosuid,memory 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,cpu,cpuacct 0 0
tmpfs /run tmpfs rw 0 0
";
        let found = controllers(mounts, |_| "pids hugetlb".to_owned());
        assert_eq!(found, [("cpu", "v1"), ("memory", "v1"), ("pids", "v2")]);
    }

    #[test]
    fn available_memory() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn the_nearest_folder_above() {
        assert_eq!(existing(Path::new("/proc/self/no/such/folder")), Path::new("/proc/self"));
    }
}
