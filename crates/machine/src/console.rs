//! The reader's and writer's side of a guest's console.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::spec::RunDir;

/// How much of the log's end is looked at for the last line.
const TAIL: u64 = 4096;

/// What a console is opened for. Many may watch; one may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsoleAccess {
    /// Read only; what is written is thrown away.
    Watch,
    /// Read and write; refused while another writes.
    Write,
    /// Read and write; another writer is told and disconnected.
    Steal,
}

/// An open console: reads give the history, then what the guest prints; the end
/// of the stream is the end of the machine, or that somebody stole the console.
#[derive(Debug)]
pub struct Console {
    stream: UnixStream,
}

impl Console {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// The plain stream, for an event loop of the caller's.
    #[must_use]
    pub fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// A second handle, to read in one thread and write in another.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { stream: self.stream.try_clone()? })
    }
}

impl Read for Console {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl AsFd for Console {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The last line of the console's log that is not blank.
pub(crate) fn last_line(run_dir: &Path) -> Option<String> {
    let files = RunDir(run_dir);
    last_line_of(&files.console_log()).or_else(|| last_line_of(&files.old_console_log()))
}

fn last_line_of(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.rsplit(['\n', '\r']).map(plain).find(|line| !line.trim().is_empty())
}

/// Without control characters and the escape sequences of ECMA-48 (colours, titles).
pub(crate) fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                Some('[') => {
                    chars.by_ref().find(|c| ('\u{40}'..='\u{7e}').contains(c));
                }
                Some(']') => {
                    chars.by_ref().find(|c| matches!(c, '\u{7}' | '\u{9c}'));
                }
                _ => {}
            },
            '\t' => plain.push(' '),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_bells_are_no_part_of_a_line() {
        assert_eq!(plain("[\u{1b}[0;32m  OK  \u{1b}[0m] Up\u{7} \r"), "[  OK  ] Up");
        assert_eq!(plain("~ # \u{1b}[6n"), "~ #");
        assert_eq!(plain("cut \u{1b}["), "cut");
    }

    #[test]
    fn last_line_passes_over_blank_ones_and_the_rotation() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last_line(dir.path()), None);
        std::fs::write(dir.path().join("console.log.old"), "a\nb\n").unwrap();
        std::fs::write(dir.path().join("console.log"), "").unwrap();
        assert_eq!(last_line(dir.path()).as_deref(), Some("b"));
        std::fs::write(dir.path().join("console.log"), "c\r\nlogin: \r\n\n").unwrap();
        assert_eq!(last_line(dir.path()).as_deref(), Some("login:"));
    }
}
