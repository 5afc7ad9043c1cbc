//! How packages become a system, as data: a node that installs itself from packages follows what the depot does
//! when it makes a role image, so that both end the same.

use crate::{apt, base, ext4, finish};

/// The recipe. Paths are absolute in the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Arguments of mke2fs(8) for the root's file system, before the device.
    pub mke2fs: Vec<String>,
    /// Folders made first, with their modes.
    pub folders: Vec<(String, u32)>,
    /// Symbolic links made next: path and target.
    pub links: Vec<(String, String)>,
    /// Files written before any package.
    pub before: Vec<RecipeFile>,
    /// Beginnings (without a leading slash) of packages' paths that are not unpacked.
    pub left_out: Vec<String>,
    /// Ends of paths among them that are unpacked all the same.
    pub kept: Vec<String>,
    /// A shell script when the base is unpacked.
    pub prepare: String,
    /// Packages installed before all others, one by one.
    pub first: Vec<String>,
    /// Options of dpkg.
    pub dpkg: Vec<String>,
    /// Empty files that are there while a package is configured: package and path.
    pub markers: Vec<(String, String)>,
    /// A shell script after the overlay, with the kernel's release in `RELEASE`.
    pub finish: String,
    /// Folders that are emptied in the end.
    pub emptied: Vec<String>,
    /// Files that are removed in the end; `*` at the end of one stands for anything.
    pub removed: Vec<String>,
    /// Files written in the end.
    pub after: Vec<RecipeFile>,
}

/// A file of the recipe, owned by root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeFile {
    /// Where.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Whole content.
    pub text: String,
}

/// What role images are made by.
pub fn recipe() -> Recipe {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let file = |(path, mode, text): &(&str, u32, &str)| RecipeFile {
        path: format!("/{path}"),
        mode: *mode,
        text: (*text).to_owned(),
    };
    let owned = |(a, b): &(&str, &str), slash: &str| ((*a).to_owned(), format!("{slash}{b}"));
    Recipe {
        mke2fs: texts(&[&ext4::ROOT[..], &["-E", ext4::ROOT_EXTENDED]].concat()),
        folders: base::FOLDERS.iter().map(|(path, mode)| (format!("/{path}"), *mode)).collect(),
        links: base::merged().map(|name| (format!("/{name}"), format!("usr/{name}"))).collect(),
        before: base::FILES.iter().map(file).collect(),
        left_out: texts(&base::LEFT_OUT),
        kept: texts(&base::KEPT),
        prepare: base::PREPARE.to_owned(),
        first: texts(&base::FIRST),
        dpkg: texts(&["--force-unsafe-io", "--force-confold"]),
        markers: apt::MARKERS.iter().map(|marker| owned(marker, "/")).collect(),
        finish: finish::SCRIPT.to_owned(),
        emptied: texts(&finish::EMPTIED),
        removed: texts(&finish::REMOVED)
            .into_iter()
            .chain(["/etc/ssh/ssh_host_*".to_owned()])
            .collect(),
        after: finish::WRITTEN.iter().map(file).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_absolute() {
        let recipe = recipe();
        let files = recipe.before.iter().chain(&recipe.after).map(|file| &file.path);
        let folders = recipe.folders.iter().map(|(path, _)| path);
        let links = recipe.links.iter().chain(&recipe.markers).map(|(_, path)| path);
        let paths = files.chain(folders).chain(&recipe.emptied).chain(&recipe.removed);
        assert!(paths.chain(links.filter(|l| !l.starts_with("usr"))).all(|p| p.starts_with('/')));
        assert!(recipe.left_out.iter().all(|path| !path.starts_with('/')));
    }
}
