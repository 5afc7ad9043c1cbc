//! What the installer runs inside the new root: this program again, which changes its root and becomes, or does,
//! what it is told. So every path means what it will mean to the node, and no link in the new root leads out of it.
//!
//! | arguments | does |
//! |---|---|
//! | `inside ROOT run PROGRAM ARGUMENT…` | becomes the program |
//! | `inside ROOT overlay` | unpacks the tar archive on standard input |
//! | `inside ROOT finish` | the last part of the recipe (JSON) on standard input |

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use gridgate_protocol::install_api::Recipe;

use super::say;

/// The word that tells this life from the others.
const INSIDE: &str = "inside";

/// Environment of programs in the new root; the same as in a build chamber.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("TERM", "dumb"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
];

/// Starts this program inside `root`.
pub(crate) fn spawn(
    root: &Path,
    what: &[&str],
    environment: &[(&str, &str)],
    input: Stdio,
    output: (Stdio, Stdio),
) -> io::Result<Child> {
    Command::new("/init")
        .arg(INSIDE)
        .arg(root)
        .args(what)
        .env_clear()
        .envs(ENVIRONMENT)
        .envs(environment.iter().copied())
        .stdin(input)
        .stdout(output.0)
        .stderr(output.1)
        .spawn()
}

/// The life itself; none when the arguments are of another one.
pub(super) fn life(arguments: &[OsString]) -> Option<i32> {
    let [_, word, root, what, rest @ ..] = arguments else { return None };
    if word != INSIDE {
        return None;
    }
    let done = enter(Path::new(root)).and_then(|()| match (what.to_str(), rest) {
        (Some("run"), [program, arguments @ ..]) => Err(become_program(program, arguments)),
        (Some("overlay"), []) => overlay(),
        (Some("finish"), []) => finish(),
        _ => Err(io::Error::other("unknown work")),
    });
    Some(match done {
        Ok(()) => 0,
        Err(error) => {
            say(format_args!("{} in {}: {error}", what.display(), root.display()));
            1
        }
    })
}

fn enter(root: &Path) -> io::Result<()> {
    rustix::process::chroot(root)?;
    rustix::process::chdir("/")?;
    Ok(())
}

fn become_program(program: &OsStr, arguments: &[OsString]) -> io::Error {
    // Without it everything is as right, and slower.
    if let Err(error) = gridgate_deb::quiet_sync::install() {
        say(format_args!("programs flush to the disk: {error}"));
    }
    Command::new(program).args(arguments).exec()
}

fn overlay() -> io::Result<()> {
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(1 << 20, io::stdin()));
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_overwrite(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = Path::new("/").join(entry.path()?);
        // A link, or a file where a link was, replaces what is there.
        if !entry.header().entry_type().is_dir()
            && path.symlink_metadata().is_ok_and(|m| !m.is_dir())
        {
            fs::remove_file(&path)?;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        if !entry.unpack_in("/")? {
            return Err(io::Error::other(format!("{} leaves the root", path.display())));
        }
    }
    Ok(())
}

fn finish() -> io::Result<()> {
    let recipe: Recipe = serde_json::from_reader(io::stdin())?;
    for folder in &recipe.emptied {
        if Path::new(folder).is_dir() {
            let real = fs::canonicalize(folder)?;
            for entry in fs::read_dir(real)? {
                let path = entry?.path();
                if path.is_dir() && !path.is_symlink() {
                    fs::remove_dir_all(path)?;
                } else {
                    fs::remove_file(path)?;
                }
            }
        }
    }
    for pattern in &recipe.removed {
        for path in matches(pattern) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    for folder in ["/var/cache/apt/archives/partial", "/var/lib/apt/lists/partial"] {
        fs::create_dir_all(folder)?;
    }
    for file in &recipe.after {
        fs::write(&file.path, &file.text)?;
        fs::set_permissions(&file.path, fs::Permissions::from_mode(file.mode))?;
    }
    Ok(())
}

/// The files that a pattern means: itself, or all that begin like it when it ends in `*`.
fn matches(pattern: &str) -> Vec<PathBuf> {
    let Some(beginning) = pattern.strip_suffix('*') else { return vec![pattern.into()] };
    let (folder, name) = beginning.rsplit_once('/').unwrap_or(("", beginning));
    let entries = fs::read_dir(Path::new("/").join(folder.trim_start_matches('/')));
    let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    paths
        .filter(|p| {
            p.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(name.as_bytes()))
        })
        .collect()
}
