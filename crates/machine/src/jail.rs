//! What the VMM process may see and do.
use std::path::Path;
/// Hidden command `jail RUN_DIR`: becomes the VMM. Returns only on failure.
#[must_use]
pub fn jail_main(run_dir: &Path) -> i32 {
    let _ = run_dir;
    1
}
