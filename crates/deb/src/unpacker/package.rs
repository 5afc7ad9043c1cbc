//! What a package says of itself: its control archive.

use std::collections::BTreeSet;
use std::io::{self, Read};

use crate::{Deb, malformed};

/// Files of a control archive that dpkg does not keep.
const NOT_KEPT: &str = "control";

pub(super) struct Package {
    /// Everything but the control paragraph.
    pub(super) files: Vec<ControlFile>,
    control: String,
    conffiles: Vec<Vec<u8>>,
}

/// A file of the control archive.
pub(super) struct ControlFile {
    pub(super) name: String,
    /// Permission bits.
    pub(super) mode: u32,
    /// Seconds of Unix time.
    pub(super) modified: u64,
    pub(super) content: Vec<u8>,
}

impl Package {
    pub(super) fn read(deb: &Deb) -> io::Result<Self> {
        let (mut files, mut control) = (Vec::new(), String::new());
        let mut archive = tar::Archive::new(deb.control_archive()?);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if !entry.header().entry_type().is_file() {
                continue;
            }
            if name == NOT_KEPT {
                entry.read_to_string(&mut control)?;
                continue;
            }
            let mode = entry.header().mode()? & 0o7777;
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            let (name, modified) = (name.to_owned(), entry.header().mtime()?);
            files.push(ControlFile { name, mode, modified, content });
        }
        let mut package = Self { files, control, conffiles: Vec::new() };
        if package.field("Package").is_none() || package.field("Version").is_none() {
            return Err(malformed("it has no control paragraph"));
        }
        package.conffiles = package.lines("conffiles");
        Ok(package)
    }

    fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.iter().find(|file| file.name == name).map(|file| &file.content[..])
    }

    /// Lines of a file, without empty ones and comments.
    fn lines(&self, name: &str) -> Vec<Vec<u8>> {
        let lines = self.file(name).unwrap_or_default().split(|byte| *byte == b'\n');
        let lines = lines.map(|line| line.trim_ascii().to_vec());
        lines.filter(|line| !line.is_empty() && line[0] != b'#').collect()
    }

    fn field(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ str| line.strip_prefix(name)?.strip_prefix(':').map(str::len);
        self.control.lines().find_map(|line| value(line).map(|n| line[line.len() - n..].trim()))
    }

    /// Why dpkg must unpack it, if it must.
    pub(super) fn for_dpkg(&self) -> Option<&'static str> {
        let odd = |line: &Vec<u8>| !line.starts_with(b"/") || line.contains(&b' ');
        if self.file("preinst").is_some() {
            return Some("it has a script for before unpacking");
        }
        if self.file("md5sums").is_none() {
            return Some("dpkg must compute its hashes");
        }
        if self.conffiles.iter().any(odd) {
            return Some("its conffiles have flags");
        }
        let plain = |line: &Vec<u8>| line.starts_with(b"activate-noawait ");
        (!self.lines("triggers").iter().all(plain)).then_some("its triggers are more than noted")
    }

    /// Triggers that it activates when it is unpacked.
    pub(super) fn triggers(&self) -> BTreeSet<String> {
        let name = |line: Vec<u8>| {
            let line = String::from_utf8_lossy(&line).into_owned();
            line.split_whitespace().nth(1).map(str::to_owned)
        };
        self.lines("triggers").into_iter().filter_map(name).collect()
    }

    pub(super) fn is_conffile(&self, path: &[u8]) -> bool {
        self.conffiles.iter().any(|conffile| conffile == path)
    }

    /// The beginning of its files' names in the database.
    pub(super) fn stem(&self) -> String {
        let name = self.field("Package").unwrap_or_default();
        match (self.field("Multi-Arch"), self.field("Architecture")) {
            (Some("same"), Some(architecture)) => format!("{name}:{architecture}"),
            _ => name.to_owned(),
        }
    }

    /// Its paragraph in the status file: unpacked, with conffiles that are not in place yet.
    pub(super) fn status(&self) -> String {
        let mut text = self.control.trim_end_matches('\n').to_owned();
        text += "\nStatus: install ok unpacked\n";
        if !self.conffiles.is_empty() {
            text += "Conffiles:\n";
        }
        for conffile in &self.conffiles {
            text += &format!(" {} newconffile\n", String::from_utf8_lossy(conffile));
        }
        text + "\n"
    }
}
