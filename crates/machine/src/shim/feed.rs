//! What the guest prints: into the history, the log, and line by line past the
//! VMM, which knows what some lines mean.

use std::path::Path;

use super::history::History;
use super::log::ConsoleLog;
use super::note;
use crate::console::plain;
use crate::vmm::{Sign, Vmm};

/// What a new reader of the console is shown at most.
const HISTORY: usize = 128 << 10;

/// Size at which the log is turned over.
const LOG: u64 = 4 << 20;

/// A longer line is cut: it is looked at for signs only.
const LINE: usize = 1024;

/// The console's output side.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) history: History,
    log: ConsoleLog,
    /// The log could not be written, and this was noted.
    log_fails: bool,
    line: Vec<u8>,
    last_line: Option<String>,
}

impl Feed {
    pub(super) fn begin(run_dir: &Path) -> std::io::Result<Self> {
        Ok(Self {
            history: History::new(HISTORY),
            log: ConsoleLog::begin(run_dir, LOG)?,
            log_fails: false,
            line: Vec::new(),
            last_line: None,
        })
    }

    /// The last line that is not blank, finished or not.
    pub(super) fn last_line(&self) -> Option<String> {
        let current = plain(&String::from_utf8_lossy(&self.line));
        if current.trim().is_empty() { self.last_line.clone() } else { Some(current) }
    }

    /// Takes what the guest printed and gives the signs in it.
    pub(super) fn take(&mut self, bytes: &[u8], vmm: &dyn Vmm) -> Vec<Sign> {
        self.history.push(bytes);
        let written = self.log.append(bytes);
        if let (Err(e), false) = (&written, self.log_fails) {
            note(&format!("cannot write console.log: {e}"));
        }
        self.log_fails = written.is_err();
        let mut signs = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(self.line.len());
            self.line.extend(&piece[..piece.len().min(room)]);
            if !piece.ends_with(b"\n") {
                continue;
            }
            let line = plain(&String::from_utf8_lossy(&self.line));
            self.line.clear();
            if !line.trim().is_empty() {
                signs.extend(vmm.sign(&line));
                self.last_line = Some(line);
            }
        }
        signs
    }
}
