//! Leaves the initial RAM file system for the machine's own root and runs its init, as switch_root(8) does.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::mount::mount_move;
use rustix::process::{chdir, chroot};

use super::mounts::{BASIC, NEW_ROOT};
use super::{InitError, io};

/// Makes what is mounted at [`NEW_ROOT`] the root and becomes `init`, which looks for its libraries in the folder `libraries`
/// first; comes back only with an error.
pub(crate) fn to_new_root(
    init: &str,
    arguments: &[String],
    libraries: Option<&str>,
) -> Result<(), InitError> {
    for (_, place, _) in BASIC {
        let target = format!("{NEW_ROOT}{place}");
        mount_move(place, &target).map_err(io("move", place))?;
    }
    // Its memory, some 40 MB, comes back with it; this program stays until the exec.
    empty(Path::new("/"));
    chdir(NEW_ROOT).map_err(io("enter", NEW_ROOT))?;
    mount_move(".", "/").map_err(io("make the root of", NEW_ROOT))?;
    chroot(".").map_err(io("change root to", NEW_ROOT))?;
    chdir("/").map_err(io("enter", "/"))?;
    let mut command = Command::new(init);
    command.args(arguments).env_clear().env("PATH", crate::process::PATH).env("TERM", "linux");
    command.envs(libraries.map(|folder| ("LD_LIBRARY_PATH", folder)));
    Err(io("run", init)(command.exec()))
}

/// Removes everything of the initial RAM file system; what is mounted in it is another device.
fn empty(folder: &Path) {
    let Ok(device) = fs::symlink_metadata(folder).map(|metadata| metadata.dev()) else { return };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.dev() != device {
            continue;
        }
        let removed = if metadata.is_dir() {
            empty(&path);
            fs::remove_dir(&path)
        } else {
            fs::remove_file(&path)
        };
        // A mount point stays; it costs nothing.
        if let Err(error) = removed {
            tracing::debug!(path = %path.display(), %error, "stays in memory");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_emptied_without_following_links() {
        let (tree, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(tree.path().join("a/b")).unwrap();
        fs::write(tree.path().join("a/b/c"), "x").unwrap();
        fs::write(other.path().join("kept"), "x").unwrap();
        std::os::unix::fs::symlink(other.path(), tree.path().join("link")).unwrap();
        empty(tree.path());
        assert_eq!(fs::read_dir(tree.path()).unwrap().count(), 0);
        assert!(other.path().join("kept").exists());
    }
}
