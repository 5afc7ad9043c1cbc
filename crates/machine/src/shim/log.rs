//! `console.log`: all that the guest printed, up to a size; then it becomes
//! `console.log.old` and a new one begins, so that both together are bounded.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::spec::RunDir;

/// The log.
#[derive(Debug)]
pub(super) struct ConsoleLog {
    current: std::path::PathBuf,
    old: std::path::PathBuf,
    file: Option<File>,
    size: u64,
    limit: u64,
}

impl ConsoleLog {
    /// Begins a new log; the one before becomes the old one.
    pub(super) fn begin(run_dir: &Path, limit: u64) -> io::Result<Self> {
        let files = RunDir(run_dir);
        let (current, old) = (files.console_log(), files.old_console_log());
        let mut log = Self { current, old, file: None, size: 0, limit };
        log.rotate()?;
        Ok(log)
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        match std::fs::rename(&self.current, &self.old) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.current)?;
        (self.file, self.size) = (Some(file), 0);
        Ok(())
    }

    /// Adds `bytes`. After a fault, such as a full disk, the next call tries anew.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() || self.size >= self.limit {
            self.rotate()?;
        }
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
            self.size += bytes.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_of_bounded_size_hold_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = ConsoleLog::begin(dir.path(), 10).unwrap();
        for part in ["aaaaaa", "bbbbbb", "cccccc", "dddddd", "e"] {
            log.append(part.as_bytes()).unwrap();
        }
        let read = |name| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("console.log.old"), "ccccccdddddd");
        assert_eq!(read("console.log"), "e");
        ConsoleLog::begin(dir.path(), 10).unwrap();
        assert_eq!(read("console.log.old"), "e");
        assert_eq!(read("console.log"), "");
    }
}
