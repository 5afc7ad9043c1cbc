//! What is carried into one run: files at the paths that they have on the host, so that what
//! a program was compiled with is true there too, and the command. A tar archive that is a
//! disk of the nested computer.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Where the command's script is in the lab.
const SCRIPT: &str = "lab/command";

/// A file for the lab, or a folder with all that is in it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// On the host.
    pub(crate) from: PathBuf,
    /// In the lab, absolute.
    pub(crate) to: PathBuf,
}

impl Entry {
    /// At the path that it has on the host.
    pub(crate) fn same(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let whole =
            path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        Ok(Self { from: whole.clone(), to: whole })
    }
}

/// A shell script that becomes the command.
pub(crate) fn script(command: &[OsString]) -> Result<String> {
    let mut line = String::from("exec");
    for word in command {
        let Some(word) = word.to_str() else { bail!("{word:?} is not UTF-8") };
        line.push_str(&format!(" '{}'", word.replace('\'', r"'\''")));
    }
    line.push('\n');
    Ok(line)
}

/// Writes the archive to a file without a name.
pub(crate) fn write(entries: &[Entry], script: &str) -> Result<File> {
    let file = tempfile::tempfile_in(super::cache()?).context("cannot make the lab's payload")?;
    let mut archive = tar::Builder::new(std::io::BufWriter::with_capacity(1 << 20, file));
    archive.mode(tar::HeaderMode::Deterministic);
    archive.follow_symlinks(false);
    for entry in entries {
        let name = entry.to.strip_prefix("/").unwrap_or(&entry.to);
        let added = match entry.from.is_dir() {
            true => archive.append_dir_all(name, &entry.from),
            false => archive.append_path_with_name(&entry.from, name),
        };
        added.with_context(|| format!("cannot carry {}", entry.from.display()))?;
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(script.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, SCRIPT, script.as_bytes())?;
    let mut file =
        archive.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    // A disk has whole sectors.
    let length = file.seek(SeekFrom::End(0))?;
    file.set_len(length.next_multiple_of(1 << 20))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_quoted() {
        let words = ["echo", "it's", "$HOME"].map(OsString::from);
        assert_eq!(script(&words).unwrap(), "exec 'echo' 'it'\\''s' '$HOME'\n");
    }
}
