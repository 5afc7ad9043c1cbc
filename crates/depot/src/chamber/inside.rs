//! The inner half: pid 1 of the chamber's namespaces. Mounts, changes root, runs.

use std::ffi::{CStr, OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, unmount,
};
use rustix::process::{Signal, chdir, pivot_root, set_parent_process_death_signal, setsid};

/// The chamber's host name; the roots' `/etc/hosts` knows it, so `hostname -f` answers.
pub(crate) const HOST_NAME: &str = "chamber";

/// Device files that a chamber has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What to do, from the arguments.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    root: PathBuf,
    read_only: bool,
    binds: Vec<Bind>,
    environment: Vec<(OsString, OsString)>,
    command: Vec<OsString>,
}

#[derive(Debug, PartialEq, Eq)]
struct Bind {
    source: PathBuf,
    name: String,
    read_only: bool,
}

/// Sets the chamber up and runs the command in it.
pub(super) fn run(arguments: &[OsString]) -> Result<i32, String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| format!("prctl: {e}"))?;
    if parent_is_gone() {
        return Err("its parent is gone".to_owned());
    }
    setsid().map_err(|e| format!("setsid: {e}"))?;
    let plan = Plan::parse(arguments)?;
    enter(&plan).map_err(|(what, error)| format!("{what}: {error}"))?;
    // Both are conveniences for packages' scripts; neither is needed by dpkg or apt.
    let _ = rustix::system::sethostname(HOST_NAME.as_bytes());
    gridgate_deb::quiet_sync::install().map_err(|e| format!("filter of system calls: {e}"))?;
    let (program, rest) = plan.command.split_first().ok_or("no command")?;
    let status = Command::new(program)
        .args(rest)
        .env_clear()
        .envs(plan.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .status()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    Ok(status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(super::SETUP_FAILED))
}

/// Whether the other end of standard input has been closed.
fn parent_is_gone() -> bool {
    let stdin = io::stdin();
    let mut wanted = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::HUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut wanted, Some(&now)).is_ok_and(|count| count > 0)
}

impl Plan {
    fn parse(arguments: &[OsString]) -> Result<Plan, String> {
        let path = "/usr/sbin:/usr/bin:/sbin:/bin";
        let fixed = [
            ("PATH", path),
            ("HOME", "/root"),
            ("LANG", "C.UTF-8"),
            ("TERM", "dumb"),
            ("DEBIAN_FRONTEND", "noninteractive"),
            ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ];
        let mut plan = Plan::default();
        plan.environment.extend(fixed.map(|(name, value)| (name.into(), value.into())));
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{} needs a value", word.display()));
            match word.as_bytes() {
                b"--root" => plan.root = value()?.into(),
                b"--read-only" => plan.read_only = true,
                b"--bind" => plan.binds.push(Bind::parse(value()?)?),
                b"--env" => plan.environment.push(variable(value()?)?),
                b"--" => {
                    plan.command = words.cloned().collect();
                    break;
                }
                _ => return Err(format!("unknown argument {}", word.display())),
            }
        }
        if !plan.root.is_absolute() || plan.command.is_empty() {
            return Err("--root with an absolute path and a command are needed".to_owned());
        }
        Ok(plan)
    }
}

impl Bind {
    /// `SOURCE:NAME[:ro]`
    fn parse(text: &OsStr) -> Result<Bind, String> {
        let malformed = || format!("--bind {} is not SOURCE:NAME[:ro]", text.display());
        let bytes = text.as_bytes();
        let (bytes, read_only) = match bytes.strip_suffix(b":ro") {
            Some(rest) => (rest, true),
            None => (bytes, false),
        };
        let colon = bytes.iter().rposition(|b| *b == b':').ok_or_else(malformed)?;
        let name = std::str::from_utf8(&bytes[colon + 1..]).map_err(|_| malformed())?;
        let simple = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase());
        if !simple || colon == 0 {
            return Err(malformed());
        }
        let source = PathBuf::from(OsStr::from_bytes(&bytes[..colon]));
        Ok(Bind { source, name: name.to_owned(), read_only })
    }
}

fn variable(text: &OsStr) -> Result<(OsString, OsString), String> {
    let bytes = text.as_bytes();
    let at = bytes.iter().position(|b| *b == b'=').ok_or("--env needs NAME=VALUE")?;
    let part = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    Ok((part(&bytes[..at]), part(&bytes[at + 1..])))
}

type Step<T> = Result<T, (String, io::Error)>;

fn step<T, E: Into<io::Error>>(what: impl Into<String>, outcome: Result<T, E>) -> Step<T> {
    outcome.map_err(|error| (what.into(), error.into()))
}

fn enter(plan: &Plan) -> Step<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    step("mount --make-rprivate /", mount_change("/", private))?;
    let root = &plan.root;
    step(format!("bind {}", root.display()), mount_bind(root, root))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for folder in ["proc", "dev", "run", "tmp", "mnt"] {
        let path = root.join(folder);
        if !path.is_dir() {
            step(format!("make /{folder}"), fs::create_dir(&path))?;
        }
    }
    step("mount /proc", mount("proc", root.join("proc"), c"proc", flags, None::<&CStr>))?;
    let small = MountFlags::NOSUID | MountFlags::NODEV;
    for (folder, options) in
        [("dev", c"mode=755"), ("run", c"mode=755"), ("tmp", c"mode=1777"), ("mnt", c"mode=755")]
    {
        let target = root.join(folder);
        step(format!("mount /{folder}"), mount("tmpfs", target, c"tmpfs", small, options))?;
    }
    make_devices(&root.join("dev"))?;
    for bind in &plan.binds {
        let target = root.join("mnt").join(&bind.name);
        step("make a mount point", fs::create_dir(&target))?;
        step(format!("bind {}", bind.source.display()), mount_bind(&bind.source, &target))?;
        if bind.read_only {
            remount_read_only(&target)?;
        }
    }
    if plan.read_only {
        remount_read_only(root)?;
    }
    step("chdir", chdir(root))?;
    step("pivot_root", pivot_root(".", "."))?;
    step("unmount the host's root", unmount(".", UnmountFlags::DETACH))?;
    step("chdir", chdir("/"))
}

fn remount_read_only(target: &Path) -> Step<()> {
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    step(format!("remount {}", target.display()), mount_remount(target, flags, c""))
}

fn make_devices(dev: &Path) -> Step<()> {
    for name in DEVICES {
        let target = dev.join(name);
        step(format!("make /dev/{name}"), fs::File::create(&target))?;
        step(format!("bind /dev/{name}"), mount_bind(Path::new("/dev").join(name), &target))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        step(format!("link /dev/{name}"), symlink(target, dev.join(name)))?;
    }
    step("make /dev/shm", fs::create_dir(dev.join("shm")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn plans() {
        let plan = Plan::parse(&words(
            "--root /r --read-only --bind /a:b/c:pool:ro --bind /x:y --env A=b=c -- ls --root",
        ))
        .unwrap();
        assert_eq!((plan.root.as_path(), plan.read_only), (Path::new("/r"), true));
        let bind = |source: &str, name: &str, read_only| Bind {
            source: source.into(),
            name: name.into(),
            read_only,
        };
        assert_eq!(plan.binds, [bind("/a:b/c", "pool", true), bind("/x", "y", false)]);
        assert_eq!(plan.command, words("ls --root"));
        assert!(plan.environment.contains(&("A".into(), "b=c".into())));
        for bad in ["--root r -- ls", "--root /r", "--bind x -- y", "--bind /a:../b -- y", "--what"]
        {
            assert!(Plan::parse(&words(bad)).is_err(), "{bad}");
        }
    }
}
