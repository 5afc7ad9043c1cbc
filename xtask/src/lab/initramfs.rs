//! Initial RAM file systems in the kernel's format "newc": `usr/gen_init_cpio.c` and
//! `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel.

use super::modules::Module;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// An archive under way.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder; its parent was added before.
    pub(crate) fn folder(&mut self, name: &str) {
        self.add(name, DIRECTORY, &[]);
    }

    /// Adds an executable file.
    pub(crate) fn program(&mut self, name: &str, content: &[u8]) {
        self.add(name, PROGRAM, content);
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, name: &str, content: &[u8]) {
        self.add(name, FILE, content);
    }

    /// Adds modules as `lib/NN-NAME.ko`: loaded in the order of their names.
    pub(crate) fn modules(&mut self, modules: &[Module]) {
        self.folder("lib");
        for (number, module) in modules.iter().enumerate() {
            self.file(&format!("lib/{number:02}-{}.ko", module.name), &module.bytes);
        }
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        // An initramfs of 4 GiB would not fit anywhere.
        let (size, length) = (content.len() as u32, name.len() as u32 + 1);
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, length, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_kernel_reads() {
        let mut archive = Archive::default();
        archive.folder("bin");
        archive.program("init", b"hello");
        let bytes = archive.finish();
        let text = String::from_utf8(bytes.clone()).unwrap();
        // Magic, number, mode of a folder, user, group, links.
        assert!(text.starts_with("07070100000001000041ED000000000000000000000002"), "{text:?}");
        // Header 110 and name 4 make 114: two to the next multiple of four.
        assert_eq!(&bytes[116..122], b"070701");
        assert!(text.contains("init\0\0hello\0\0\x00070701"), "{text:?}");
        assert!(text.ends_with("TRAILER!!!\0\0\0\0"), "{text:?}");
        assert_eq!(bytes.len() % 4, 0);
    }
}
