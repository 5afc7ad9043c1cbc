//! The grid operations' command lines: one place to change when a tool changes.
//!
//! Each works on shell words: `"$url"`, or a literal that is quoted already.

use super::script::quoted;

/// Removes a file on the SE. `globus-url-copy` cannot, Debian has no `uberftp`,
/// and `gfal-rm` aborts at times over gsiftp. From `nordugrid-arc-client` with
/// `nordugrid-arc-plugins-gridftp`.
pub const DELETE_COMMAND: &str = "arcrm";

/// The checks' folder in the user's home on the UI: it holds the proxy.
pub(crate) const FOLDER: &str = ".gridgate-check";

/// Tells whether the gatekeeper lets the user in.
pub(crate) fn authenticate(ce: &str) -> String {
    format!("globusrun -a -r {}", quoted(ce))
}

/// Runs a program of the CE's through a job manager.
pub(crate) fn job(ce: &str, manager: &str, program: &str) -> String {
    format!("globus-job-run {} {program}", quoted(&format!("{ce}/{manager}")))
}

/// Stages a local script and runs it through a job manager.
pub(crate) fn staged_job(ce: &str, manager: &str, script: &str) -> String {
    format!("globus-job-run {} -s {script}", quoted(&format!("{ce}/{manager}")))
}

/// Lists a directory, whose URL ends with `/`, and keeps the entries that have
/// this text in their names: a full directory must not push them out of the
/// output. (The directory's own URL is printed even when the server refuses.)
pub(crate) fn list(url: &str, text: &str) -> String {
    format!("sh -c 'globus-url-copy -list \"$1\" | grep -F -e \"$2\"' sh {url} {text}")
}

/// Copies between URLs; `file://` and an absolute path is here.
pub(crate) fn copy(from: &str, to: &str) -> String {
    format!("globus-url-copy {from} {to}")
}

/// Removes a file. The tool's own settings folder goes where it is removed again.
pub(crate) fn delete(url: &str) -> String {
    format!("env HOME=\"$work\" {DELETE_COMMAND} {url}")
}
