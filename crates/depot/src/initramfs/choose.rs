//! Which kernel modules an initial RAM file system holds, by the indexes that depmod(8) makes.

use std::collections::{BTreeMap, BTreeSet};

/// What a virtual machine needs to reach its disk and its network, by module names. A kernel has some of them built in
/// and lacks others; that is no fault. Each is unpacked at every start, which an emulated processor feels.
const WANTED: [&str; 13] = [
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "virtio_console",
    "virtio_balloon",
    "xen_blkfront",
    "xen_netfront",
    "ext4",
    "crc32c_generic",
    "crc32c_intel",
    "crc32c",
];

/// Those that no device asks for: they are loaded on any machine.
pub(crate) const ALWAYS: [&str; 5] =
    ["ext4", "crc32c_generic", "crc32c_intel", "crc32c", "virtio_mmio"];

/// The chosen part of a module folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Paths of modules, relative to the folder.
    pub(crate) files: BTreeSet<String>,
    /// Their lines of `modules.dep`.
    pub(crate) dependencies: String,
    /// Their lines of `modules.alias`.
    pub(crate) aliases: String,
}

/// Chooses the wanted modules and all that they depend on.
pub(crate) fn choose(dependencies: &str, aliases: &str) -> Chosen {
    let lines: BTreeMap<&str, &str> =
        dependencies.lines().filter_map(|line| line.split_once(':')).collect();
    let wanted = lines.keys().filter(|path| WANTED.contains(&name(path).as_str()));
    let mut open: Vec<&str> = wanted.copied().collect();
    let mut chosen = Chosen::default();
    while let Some(path) = open.pop() {
        if chosen.files.insert(path.to_owned()) {
            open.extend(lines.get(path).into_iter().flat_map(|needs| needs.split_whitespace()));
        }
    }
    for path in &chosen.files {
        let needs = lines.get(path.as_str()).copied().unwrap_or_default();
        chosen.dependencies += &format!("{path}:{needs}\n");
    }
    let names: BTreeSet<String> = chosen.files.iter().map(|path| name(path)).collect();
    let is_chosen = |line: &&str| line.rsplit_once(' ').is_some_and(|(_, n)| names.contains(n));
    for line in aliases.lines().filter(is_chosen) {
        chosen.aliases += line;
        chosen.aliases.push('\n');
    }
    chosen
}

/// A module's name, from its file's: `-` and `_` are one there.
fn name(path: &str) -> String {
    let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_brings_what_it_depends_on() {
        let dependencies = "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko\n\
            kernel/fs/jbd2/jbd2.ko: kernel/lib/crc.ko\nkernel/lib/crc.ko:\nkernel/sound/x.ko:\n\
            kernel/drivers/block/xen-blkfront.ko:\n";
        let aliases = "# made\nalias xen:vbd xen_blkfront\nalias pci:x x\nalias fs-ext4 ext4\n";
        let chosen = choose(dependencies, aliases);
        let files: Vec<&str> = chosen.files.iter().map(String::as_str).collect();
        assert_eq!(
            files,
            [
                "kernel/drivers/block/xen-blkfront.ko",
                "kernel/fs/ext4/ext4.ko",
                "kernel/fs/jbd2/jbd2.ko",
                "kernel/lib/crc.ko"
            ]
        );
        assert!(chosen.dependencies.contains("ext4.ko: kernel/fs/jbd2/jbd2.ko\n"));
        assert_eq!(chosen.aliases, "alias xen:vbd xen_blkfront\nalias fs-ext4 ext4\n");
    }
}
