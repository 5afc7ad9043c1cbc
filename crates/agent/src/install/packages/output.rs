//! What programs say while they install packages: the last of it is kept for a failure, and what dpkg complains of.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::process::ExitStatus;

use gridgate_protocol::install_api::{InstallFailure, Stage};

use crate::install::never;

/// Lines that are kept.
const KEPT: usize = 30;

/// Lines that follow dpkg's complaint and belong to it: the script's exit code.
const AFTER: usize = 1;

/// Longest line that is kept, bytes.
const LINE: usize = 400;

/// What was heard.
#[derive(Default)]
pub(super) struct Output {
    last: VecDeque<String>,
    package: Option<String>,
    /// Lines that still belong to the complaint.
    open: usize,
}

impl Output {
    /// Hears all that comes out of `pipe`; `seen` hears every line too.
    pub(super) fn listen(pipe: impl Read, seen: &mut dyn FnMut(&str)) -> io::Result<Self> {
        let mut output = Self::default();
        for line in BufReader::new(pipe).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line[..line.len().min(LINE)]).into_owned();
            seen(&line);
            output.hear(line);
        }
        Ok(output)
    }

    /// After the first complaint nothing matters any more: what follows is about other packages.
    fn hear(&mut self, line: String) {
        if self.package.is_some() && self.open == 0 {
            return;
        }
        self.open = self.open.saturating_sub(1);
        if self.package.is_none() {
            self.package = failed_package(&line);
            self.open = self.package.as_ref().map_or(0, |_| AFTER);
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// What the end of the program means that said all this.
    pub(super) fn judge(
        self,
        name: &str,
        status: ExitStatus,
        stage: Stage,
    ) -> Result<(), InstallFailure> {
        if status.success() {
            return Ok(());
        }
        let what = match &self.package {
            Some(package) => format!("the package {package} could not be installed"),
            None => format!("{name}: {status}"),
        };
        let output = self.last.iter().map(|line| format!("{line}\n")).collect();
        Err(InstallFailure { package: self.package, output, ..never(stage, what) })
    }
}

/// dpkg(1) names what failed: `dpkg: error processing package NAME (--configure):`, or an archive's file.
fn failed_package(line: &str) -> Option<String> {
    let rest = line.strip_prefix("dpkg: error processing ")?;
    let rest = rest.strip_prefix("package ").or_else(|| rest.strip_prefix("archive "))?;
    let name = rest.split_whitespace().next()?.rsplit('/').next()?;
    Some(name.split(':').next().unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail() -> ExitStatus {
        std::process::Command::new("/bin/sh").args(["-c", "exit 1"]).status().unwrap()
    }

    #[test]
    fn the_package_that_failed_is_named_with_what_it_said() {
        let mut said: Vec<String> = (0..99).map(|n| format!("Setting up package {n}")).collect();
        said.extend(
            [
                "munge: cannot make a key",
                "dpkg: error processing package munge:amd64 (--configure):",
                " installed munge package post-installation script subprocess returned error exit status 1",
                "Setting up another",
                "dpkg: error processing package other (--configure):",
            ]
            .map(str::to_owned),
        );
        let mut heard = 0;
        let output = Output::listen(said.join("\n").as_bytes(), &mut |_| heard += 1).unwrap();
        assert_eq!(heard, said.len());
        let failure = output.judge("dpkg", fail(), Stage::Configure).unwrap_err();
        assert_eq!(failure.package.as_deref(), Some("munge"));
        assert!(failure.what.contains("munge") && failure.output.contains("cannot make a key"));
        assert!(failure.output.trim_end().ends_with("exit status 1"), "{}", failure.output);
        assert!(!failure.again, "the same script says the same");
    }

    #[test]
    fn a_program_that_fails_otherwise_is_named_itself() {
        let output = Output::listen(&b"E: no room\n"[..], &mut |_| {}).unwrap();
        let failure = output.judge("/bin/sh", fail(), Stage::Unpack).unwrap_err();
        assert_eq!((failure.package, failure.output.as_str()), (None, "E: no room\n"));
        assert!(failure.what.starts_with("/bin/sh: exit status"), "{}", failure.what);
    }
}
