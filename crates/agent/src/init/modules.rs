//! Loads kernel modules: those that any machine needs, and those that a device asks for by its alias, each after what it
//! depends on. Formats: modules.dep(5); aliases are patterns as in fnmatch(3).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{CommandLine, say};

/// Names of modules that no device asks for.
const ALWAYS: &str = "/gridgate/modules";

/// Where devices say what they are.
const DEVICES: &str = "/sys/devices";

/// The modules of this kernel that the initial RAM file system holds.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    release: String,
    folder: PathBuf,
    index: Index,
    loaded: BTreeSet<String>,
    /// What devices asked for and was looked up.
    asked: BTreeSet<String>,
    /// Where parameters of modules stand.
    line: CommandLine,
}

/// What depmod(8) found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Index {
    /// By name: the module's file and the files it depends on, nearest first.
    files: BTreeMap<String, Vec<String>>,
    /// Patterns and the names of modules.
    aliases: Vec<(String, String)>,
}

impl Index {
    fn parse(dependencies: &str, aliases: &str) -> Index {
        let line = |line: &str| {
            let (file, needs) = line.split_once(':')?;
            let files = [file].into_iter().chain(needs.split_whitespace());
            Some((name(file), files.map(str::to_owned).collect()))
        };
        let alias = |line: &str| {
            let mut words = line.strip_prefix("alias ")?.rsplitn(2, ' ');
            let module = words.next()?.to_owned();
            Some((words.next()?.trim().to_owned(), module))
        };
        Index {
            files: dependencies.lines().filter_map(line).collect(),
            aliases: aliases.lines().filter_map(alias).collect(),
        }
    }

    /// Files to load for a module, in order: what it depends on first.
    fn order(&self, module: &str) -> Vec<&str> {
        let files = self.files.get(module).into_iter().flatten();
        files.map(String::as_str).rev().collect()
    }

    fn matching<'a>(&'a self, alias: &'a str) -> impl Iterator<Item = &'a str> {
        let fits =
            move |(pattern, _): &&(String, String)| fits(pattern.as_bytes(), alias.as_bytes());
        self.aliases.iter().filter(fits).map(|(_, module)| module.as_str())
    }
}

impl Modules {
    /// Reads the index. A kernel may have no modules at all.
    pub(crate) fn read(line: &CommandLine) -> Modules {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let folder = Path::new("/lib/modules").join(&release);
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let index = Index::parse(&text("modules.dep"), &text("modules.alias"));
        if index.files.is_empty() {
            tracing::debug!(release, "the initial RAM file system has no modules for this kernel");
        }
        Modules { release, folder, index, line: line.clone(), ..Modules::default() }
    }

    /// The kernel's release.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// Loads what no device asks for.
    pub(crate) fn load_always(&mut self) {
        let names = fs::read_to_string(ALWAYS).unwrap_or_default();
        for module in names.lines() {
            self.load(module);
        }
    }

    /// Loads what the devices ask for, until no new device asks for anything.
    pub(crate) fn load_wanted(&mut self) {
        if self.index.aliases.is_empty() {
            return;
        }
        loop {
            let mut found = BTreeSet::new();
            collect(Path::new(DEVICES), &mut found);
            let new: Vec<String> = found.difference(&self.asked).cloned().collect();
            let wanted: BTreeSet<String> = new
                .iter()
                .flat_map(|alias| self.index.matching(alias))
                .filter(|module| !self.loaded.contains(*module))
                .map(str::to_owned)
                .collect();
            self.asked.extend(new);
            if wanted.is_empty() {
                return;
            }
            for module in wanted {
                self.load(&module);
            }
        }
    }

    /// Loads a module after what it depends on. What fails is said and is not tried again.
    fn load(&mut self, module: &str) {
        let files: Vec<String> = self.index.order(module).into_iter().map(str::to_owned).collect();
        for file in files {
            if !self.loaded.insert(name(&file)) {
                continue;
            }
            let parameters = self.line.parameters_of(&name(&file));
            match insert(&self.folder.join(&file), &parameters) {
                // Built in, or for a processor or device that is not there.
                Err(error) if is_needless(&error) => tracing::debug!(file, %error, "not loaded"),
                Err(error) => {
                    say(format_args!("cannot load the kernel module {file}: {error}"));
                }
                Ok(()) => {}
            }
        }
    }
}

fn is_needless(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AlreadyExists || error.raw_os_error() == Some(libc::ENODEV)
}

fn insert(path: &Path, parameters: &str) -> io::Result<()> {
    let parameters = CString::new(parameters)?;
    Ok(rustix::system::finit_module(File::open(path)?, &parameters, 0)?)
}

/// A module's name, from its file's: `-` and `_` are one there.
fn name(path: &str) -> String {
    let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

/// What all devices below a folder ask for.
fn collect(folder: &Path, asked: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            collect(&entry.path(), asked);
        } else if entry.file_name() == "modalias"
            && let Ok(alias) = fs::read_to_string(entry.path())
        {
            asked.insert(alias.trim().to_owned());
        }
    }
}

/// fnmatch(3) with `*`, `?` and `[…]`, which is all that aliases use.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let Some((&first, rest)) = pattern.split_first() else { return text.is_empty() };
    match (first, text.split_first()) {
        (b'*', _) => (0..=text.len()).any(|skipped| fits(rest, &text[skipped..])),
        (_, None) => false,
        (b'?', Some((_, behind))) => fits(rest, behind),
        (b'[', Some((letter, behind))) => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            in_set(&rest[..end], *letter) && fits(&rest[end + 1..], behind)
        }
        (_, Some((letter, behind))) => first == *letter && fits(rest, behind),
    }
}

fn in_set(set: &[u8], letter: u8) -> bool {
    match set {
        [from, b'-', to, rest @ ..] => (*from..=*to).contains(&letter) || in_set(rest, letter),
        [one, rest @ ..] => *one == letter || in_set(rest, letter),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_module_depends_on_comes_first() {
        let index = Index::parse("a/ext4.ko: a/jbd2.ko b/crc-16.ko\na/jbd2.ko:\n", "");
        assert_eq!(index.order("ext4"), ["b/crc-16.ko", "a/jbd2.ko", "a/ext4.ko"]);
        assert!(index.order("other").is_empty());
    }

    #[test]
    fn devices_find_their_modules() {
        let aliases = "# x\nalias virtio:d00000002v* virtio_blk\nalias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
            alias acpi*:PNP0A0[38]:* x\n";
        let index = Index::parse("", aliases);
        let find = |alias: &str| index.matching(alias).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(find("virtio:d00000002v00001AF4"), ["virtio_blk"]);
        assert_eq!(find("pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00"), ["virtio_pci"]);
        assert_eq!(find("acpi:PNP0A03:"), ["x"]);
        assert!(find("acpi:PNP0A05:").is_empty());
    }

    proptest! {
        #[test]
        fn a_text_fits_itself_and_a_star(text in "[a-z:0-9]{0,30}", cut in 0_usize..30) {
            prop_assert!(fits(text.as_bytes(), text.as_bytes()));
            let pattern = format!("{}*", &text[..cut.min(text.len())]);
            prop_assert!(fits(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
