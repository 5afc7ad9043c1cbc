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

/// Runs a program of the CE's through a job manager. (`globus-job-run` is a shell
/// script that writes this description and calls this program.)
pub(crate) fn job(ce: &str, manager: &str, program: &str) -> String {
    submit(ce, manager, &quoted(&format!("&(executable=\"{program}\")")))
}

/// Stages a local script, whose path may have variables of the shell in it, and
/// runs it through a job manager.
pub(crate) fn staged_job(ce: &str, manager: &str, script: &str) -> String {
    let description = format!(r##""&(executable=\$(GLOBUSRUN_GASS_URL) # \"{script}\")""##);
    submit(ce, manager, &description)
}

/// Submits a job and waits for it and its output.
fn submit(ce: &str, manager: &str, description: &str) -> String {
    format!("globusrun -s -r {} {description}", quoted(&format!("{ce}/{manager}")))
}

/// Lists a directory, whose URL ends with `/`. (That URL is printed even when the
/// server refuses.)
pub(crate) fn list(url: &str) -> String {
    format!("globus-url-copy -list {url}")
}

/// Copies between URLs, and makes the directory that it copies to; `file://` and an absolute path is here.
pub(crate) fn copy(from: &str, to: &str) -> String {
    format!("globus-url-copy -cd {from} {to}")
}

/// Copies, one after the other and with one login, what a file lists that
/// [`copies`] wrote, and makes the directories that it copies to.
pub(crate) fn copy_all(list: &str) -> String {
    format!("globus-url-copy -cd -f {list}")
}

/// Writes the list for [`copy_all`].
pub(crate) fn copies(list: &str, pairs: &[(&str, &str)]) -> String {
    let words: Vec<String> = pairs.iter().map(|(from, to)| format!("{from} {to}")).collect();
    format!("printf '\"%s\" \"%s\"\\n' {} >{list}", words.join(" "))
}

/// Removes files, and directories that are empty by then. The tool makes a settings folder in `$HOME`.
pub(crate) fn delete(urls: &str) -> String {
    format!("{DELETE_COMMAND} {urls}")
}
