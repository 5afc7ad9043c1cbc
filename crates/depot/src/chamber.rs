//! Build chambers: a command run in a root tree, shut off from the host.
//!
//! ```text
//! depot ─spawn→ outer (own mount, pid, ipc, uts, net namespaces) ─spawn→ inner (pid 1) ─spawn→ command
//!    └ dies ────→ killed by the kernel ──────────────────────────→ killed ──────────→ killed with its pid namespace
//! ```
//!
//! Both outer and inner are this program again (`gridgate chamber …`). A chamber has no
//! network but a loopback device, its own `/proc`, a small `/dev`, and empty `/run`,
//! `/tmp` and `/mnt`. Writes that ask to be flushed to disk are not flushed: what is
//! built here is synced once when it is finished, or thrown away. It never mounts
//! anything in the host's mount namespace, so nothing can be left behind.

mod inside;
mod isolate;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Lines of output that an error quotes.
const TAIL_LINES: usize = 15;

/// Exit code of a chamber that could not be set up.
pub(crate) const SETUP_FAILED: i32 = 125;

/// Why a command in a chamber did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ChamberError {
    /// The chamber's program did not start.
    #[error("cannot start the build chamber: {0}")]
    Start(io::Error),
    /// The chamber could not be made (as a rule: not root).
    #[error("the build chamber cannot be set up: {0}")]
    Setup(String),
    /// The package's maintainer script failed.
    #[error("package {package} failed in {step}; its last lines:\n{tail}")]
    Package {
        /// Which package.
        package: String,
        /// dpkg's step, e.g. `--configure`.
        step: String,
        /// The last lines of output.
        tail: String,
    },
    /// The command failed.
    #[error("{what} failed with exit code {code}; its last lines:\n{tail}")]
    Command {
        /// What was run.
        what: String,
        /// Its exit code.
        code: i32,
        /// The last lines of output.
        tail: String,
    },
}

/// How the chamber sees its root tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// As it is.
    Write,
    /// Nothing in it can be changed.
    ReadOnly,
}

/// A chamber to be.
#[derive(Clone, Debug)]
pub(crate) struct Chamber {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Chamber {
    /// A chamber on `root`; `program` has the `chamber` subcommand.
    pub(crate) fn new(program: &Path, root: &Path, access: Access) -> Chamber {
        let mut arguments = vec!["chamber".into(), "--root".into(), root.into()];
        if access == Access::ReadOnly {
            arguments.push("--read-only".into());
        }
        Chamber { program: program.to_owned(), arguments }
    }

    /// Shows a folder of the host at `/mnt/<name>`.
    pub(crate) fn bind(mut self, source: &Path, name: &str, access: Access) -> Chamber {
        let mut bind = source.as_os_str().to_owned();
        bind.push(format!(":{name}"));
        if access == Access::ReadOnly {
            bind.push(":ro");
        }
        self.arguments.extend(["--bind".into(), bind]);
        self
    }

    /// Sets a variable of the command's environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Chamber {
        self.arguments.extend(["--env".into(), format!("{name}={value}").into()]);
        self
    }

    /// Runs a command to its end and gives what it printed.
    pub(crate) fn run<S: AsRef<OsStr>>(self, command: &[S]) -> Result<String, ChamberError> {
        let (mut reader, writer) = io::pipe().map_err(ChamberError::Start)?;
        let second = writer.try_clone().map_err(ChamberError::Start)?;
        let mut outer = Command::new(&self.program);
        outer.args(&self.arguments).arg("--").args(command);
        outer.stdin(Stdio::null()).stdout(writer).stderr(second);
        let mut child = outer.spawn().map_err(ChamberError::Start)?;
        // Its copies of the pipe's end must be closed for the reader to see the end.
        drop(outer);
        let mut output = Vec::new();
        reader.read_to_end(&mut output).map_err(ChamberError::Start)?;
        let status = child.wait().map_err(ChamberError::Start)?;
        let output = String::from_utf8_lossy(&output).into_owned();
        if status.success() {
            return Ok(output);
        }
        let what = command.first().map(|c| c.as_ref().to_string_lossy().into_owned());
        Err(failure(what.unwrap_or_default(), status.code().unwrap_or(-1), &output))
    }

    /// Runs a shell script, given on the command line, stopping at its first failure.
    pub(crate) fn script(self, script: &str) -> Result<String, ChamberError> {
        self.run(&["/bin/sh", "-ec", script])
    }
}

fn failure(what: String, code: i32, output: &str) -> ChamberError {
    let tail = tail(output);
    if code == SETUP_FAILED {
        return ChamberError::Setup(tail);
    }
    match failing_package(output) {
        Some((package, step)) => {
            ChamberError::Package { package, step, tail: complaint(output).unwrap_or(tail) }
        }
        None => ChamberError::Command { what, code, tail },
    }
}

fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// What was said up to dpkg's first complaint: with many packages the end is about others.
fn complaint(output: &str) -> Option<String> {
    let start = output.find("\ndpkg: error processing ")? + 1;
    // The complaint's own second line gives the exit code.
    let end = output[start..].match_indices('\n').nth(1).map_or(output.len(), |(at, _)| start + at);
    Some(tail(&output[..end]))
}

/// The package and step of dpkg's first complaint.
fn failing_package(output: &str) -> Option<(String, String)> {
    let said = output.lines().find_map(|l| l.strip_prefix("dpkg: error processing "))?;
    let said = said.strip_prefix("package ").or_else(|| said.strip_prefix("archive "))?;
    let (package, rest) = said.split_once(' ')?;
    let package = package.rsplit('/').next().unwrap_or(package);
    Some((package.to_owned(), rest.trim_matches(|c| "():".contains(c)).to_owned()))
}

/// Entry of the hidden subcommand `chamber`; `arguments` are those after that
/// word. Gives the exit code.
pub fn chamber_main(arguments: &[OsString]) -> i32 {
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == "--inside" => inside::run(rest),
        _ => isolate::run(arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(problem) => {
            use std::io::Write;
            // The depot reads it from the pipe; nothing can be done when that is gone.
            let _ = writeln!(io::stderr(), "{problem}");
            SETUP_FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_package_whose_script_failed() {
        let output = "Setting up x (1) ...\nboom\n\
            dpkg: error processing package x (--configure):\n \
            installed x package post-installation script subprocess returned error exit status 1\n";
        match failure("apt-get".to_owned(), 100, output) {
            ChamberError::Package { package, step, tail } => {
                assert_eq!((package.as_str(), step.as_str()), ("x", "--configure"));
                assert!(tail.contains("boom") && tail.contains("status 1"), "{tail}");
                assert!(!tail.contains("others"), "{tail}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn quotes_only_the_last_lines() {
        let output: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let error = failure("x".to_owned(), 1, &output).to_string();
        assert!(
            error.contains("line 99") && error.contains("line 85") && !error.contains("line 84")
        );
    }
}
