//! Archives in the kernel's format for initial RAM file systems, `newc`; see the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.
//!
//! Owner is root throughout. Equal entries make equal archives.

use std::io::{self, Write};

/// Bytes that an archive's length is a multiple of, so that another one can follow it.
const BLOCK: u64 = 512;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// Writes one archive.
pub(crate) struct Archive<W> {
    out: W,
    /// Bytes written.
    length: u64,
    /// Number of the next entry: the kernel takes equal ones for hard links.
    number: u32,
}

/// What a header says beside the name.
#[derive(Clone, Copy, Debug, Default)]
struct Fields {
    mode: u32,
    size: u32,
    device: (u32, u32),
}

impl<W: Write> Archive<W> {
    /// An empty archive.
    pub(crate) fn new(out: W) -> Self {
        Self { out, length: 0, number: 1 }
    }

    /// A folder; its parents must have been added.
    pub(crate) fn folder(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.entry(path, Fields { mode: DIRECTORY | mode, ..Fields::default() }, &[])
    }

    /// A file.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        self.entry(path, Fields { mode: REGULAR | mode, size, ..Fields::default() }, content)
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        let size = u32::try_from(target.len()).map_err(io::Error::other)?;
        let fields = Fields { mode: SYMLINK | 0o777, size, ..Fields::default() };
        self.entry(path, fields, target.as_bytes())
    }

    /// A character device.
    pub(crate) fn device(&mut self, path: &str, mode: u32, device: (u32, u32)) -> io::Result<()> {
        self.entry(path, Fields { mode: CHARACTER | mode, device, ..Fields::default() }, &[])
    }

    /// Ends the archive and gives the writer back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.number = 0;
        self.entry("TRAILER!!!", Fields::default(), &[])?;
        self.pad(BLOCK)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, fields: Fields, content: &[u8]) -> io::Result<()> {
        let name = path.trim_start_matches('/');
        let Fields { mode, size, device: (major, minor) } = fields;
        let links = if mode & DIRECTORY != 0 && mode & REGULAR == 0 { 2 } else { 1 };
        let name_size = name.len() + 1;
        let number = self.number;
        let header = format!(
            "070701{number:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}{:08x}{:08x}\
             {major:08x}{minor:08x}{name_size:08x}{:08x}{name}\0",
            0, 0, 0, 0, 0, 0
        );
        self.put(header.as_bytes())?;
        self.pad(4)?;
        self.put(content)?;
        self.pad(4)?;
        self.number += 1;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, multiple: u64) -> io::Result<()> {
        let missing = self.length.next_multiple_of(multiple) - self.length;
        self.put(&vec![0; usize::try_from(missing).map_err(io::Error::other)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    use std::process::{Command, Stdio};

    /// cpio(1) is the judge of the format; every Debian host with an initramfs has it.
    #[test]
    fn cpio_unpacks_what_was_packed() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("/dev", 0o755).unwrap();
        archive.device("/dev/console", 0o600, (5, 1)).unwrap();
        archive.file("/init", 0o755, b"program").unwrap();
        archive.link("/dev/x", "../init").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 512, 0);
        let folder = tempfile::tempdir().unwrap();
        let Ok(mut cpio) = Command::new("cpio")
            .args(["-idmu", "--quiet"])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .spawn()
        else {
            // Without the judge the form of the headers still is checked below.
            assert!(bytes.starts_with(b"070701"));
            return;
        };
        cpio.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(cpio.wait().unwrap().success());
        let at = |path: &str| folder.path().join(path);
        assert_eq!(std::fs::read(at("dev/x")).unwrap(), b"program");
        assert_eq!(std::fs::metadata(at("init")).unwrap().permissions().mode() & 0o7777, 0o755);
        assert!(std::fs::metadata(at("dev/console")).unwrap().file_type().is_char_device());
    }

    #[test]
    fn headers_are_aligned_and_name_their_sizes() {
        let mut archive = Archive::new(Vec::new());
        archive.file("a", 0o644, b"12345").unwrap();
        let bytes = archive.finish().unwrap();
        let field = |n: usize| std::str::from_utf8(&bytes[6 + 8 * n..14 + 8 * n]).unwrap();
        assert_eq!((field(1), field(6), field(11)), ("000081a4", "00000005", "00000002"));
        // 110 bytes of header, 2 of the name: 112; 5 of content, 3 of filling.
        assert_eq!(&bytes[112..120], b"12345\0\0\0");
        assert_eq!(&bytes[120..126], b"070701");
    }
}
