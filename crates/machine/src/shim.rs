//! The process that owns one machine.
pub(crate) mod request;
use std::path::Path;
/// Hidden command `shim RUN_DIR`.
#[must_use]
pub fn shim_main(run_dir: &Path) -> i32 {
    let _ = run_dir;
    1
}
