//! Root trees kept for later builds: the base, and what roles had in common.
//!
//! A root counts when its `root.json` is there; that is written last, after its tree
//! has been written to disk. Trees without it are removed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::DepotError;
use crate::files;
use crate::hash;
use crate::inputs::RECIPE;
use crate::lock::PinnedPackage;
use crate::store::{Store, remove_tree};
use crate::tree;

const NOTE: &str = "root.json";

/// A root tree with its packages, configured.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    /// Its folder in the depot's `roots/`.
    folder: PathBuf,
    /// All packages in it, sorted.
    pub(crate) packages: Vec<PinnedPackage>,
}

#[derive(Serialize, Deserialize)]
struct Note {
    recipe: String,
    packages: Vec<PinnedPackage>,
}

impl Root {
    /// The tree.
    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// dpkg's view of the tree.
    pub(crate) fn status(&self) -> Result<String, DepotError> {
        let path = self.tree().join("var/lib/dpkg/status");
        fs::read_to_string(&path).map_err(DepotError::io("read", &path))
    }

    /// Whether all its packages are among `packages`.
    pub(crate) fn is_part_of(&self, packages: &[PinnedPackage]) -> bool {
        let all: BTreeSet<&PinnedPackage> = packages.iter().collect();
        self.packages.iter().all(|package| all.contains(package))
    }

    /// Seals its tree, so that damage is found later.
    pub(crate) fn seal(&self) -> Result<(), DepotError> {
        crate::seal::close(&self.folder, &["tree"])
    }

    /// Makes it count, its tree being on disk.
    pub(crate) fn note(&self) -> Result<(), DepotError> {
        let note = Note { recipe: RECIPE.to_owned(), packages: self.packages.clone() };
        let text = serde_json::to_vec_pretty(&note).unwrap_or_default();
        files::write_whole(&self.folder.join(NOTE), &text)
    }

    /// Moves a finished tree to its final name.
    pub(crate) fn keep(
        store: &Store,
        tree: &Path,
        packages: Vec<PinnedPackage>,
    ) -> Result<Root, DepotError> {
        let hashes = packages.iter().map(|p| (p.name.as_str(), p.sha256.as_str()));
        let key = hash::key([("recipe", RECIPE)].into_iter().chain(hashes));
        let root = Root { folder: store.folder("roots").join(key), packages };
        remove_tree(&root.folder)?;
        files::make_dir(&root.folder)?;
        match fs::rename(tree, root.tree()) {
            Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
                tree::copy(tree, &root.tree())?;
            }
            other => other.map_err(DepotError::io("keep", tree))?,
        }
        Ok(root)
    }
}

/// The roots that count; unfinished ones are removed.
pub(crate) fn kept(store: &Store) -> Result<Vec<Root>, DepotError> {
    let dir = store.folder("roots");
    let mut roots = Vec::new();
    for entry in fs::read_dir(&dir).map_err(DepotError::io("read", &dir))? {
        let folder = entry.map_err(DepotError::io("read", &dir))?.path();
        let note = fs::read(folder.join(NOTE)).ok();
        match note.and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok()) {
            Some(note) if note.recipe == RECIPE => {
                roots.push(Root { folder, packages: note.packages });
            }
            Some(_) => {}
            None => remove_tree(&folder)?,
        }
    }
    Ok(roots)
}
