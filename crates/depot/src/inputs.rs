//! What an image's key is made of, and its record beside the image.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::DepotError;
use crate::ext4::IMAGE_FILE;
use crate::files;
use crate::hash;
use crate::image::{Difference, Input, RoleImage, RoleImageRequest};
use crate::lock::PinnedPackage;
use crate::modules::Modules;
use crate::store::{Store, remove_tree};

/// Changes whenever the way of building does, so that old images are not taken for new.
pub(crate) const RECIPE: &str = "4";

const RECORD: &str = "image.json";

/// `image.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The role for which it was built first.
    pub(crate) role: String,
    /// Name and value of each input.
    pub(crate) inputs: BTreeMap<String, String>,
    /// All packages.
    pub(crate) packages: Vec<PinnedPackage>,
}

/// All inputs of an image.
pub(crate) fn of(
    request: &RoleImageRequest,
    packages: &[PinnedPackage],
    modules: Option<&Modules>,
) -> BTreeMap<String, String> {
    let mut inputs = BTreeMap::from([("recipe".to_owned(), RECIPE.to_owned())]);
    for package in packages {
        let PinnedPackage { version, architecture, sha256, .. } = package;
        let value = format!("{version} {architecture} {sha256}");
        inputs.insert(format!("package {}", package.name), value);
    }
    let overlay = &request.overlay;
    for file in &overlay.files {
        let value = format!("{:04o} {}", file.mode, hash::of_bytes(&file.content));
        inputs.insert(format!("file {}", file.path), value);
    }
    for unit in &overlay.masked_units {
        inputs.insert(format!("masked {unit}"), "yes".to_owned());
    }
    for (unit, folder) in &overlay.enabled_units {
        inputs.insert(format!("enabled {folder}/{unit}"), "yes".to_owned());
    }
    for link in &overlay.links {
        inputs.insert(format!("link {}", link.path), link.target.clone());
    }
    if let Some(modules) = modules {
        let value = format!("{} {}", modules.release, modules.hash);
        inputs.insert("modules".to_owned(), value);
    }
    inputs
}

/// The key of inputs.
pub(crate) fn key(inputs: &BTreeMap<String, String>) -> String {
    hash::key(inputs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// The folder of an image.
pub(crate) fn folder(store: &Store, key: &str) -> PathBuf {
    store.folder("images").join(key)
}

/// The finished image of a key, if the depot holds it.
pub(crate) fn find(store: &Store, role: &str, key: &str) -> Option<RoleImage> {
    let folder = folder(store, key);
    let record = read(&folder)?;
    let path = folder.join(IMAGE_FILE);
    let meta = fs::metadata(&path).ok()?;
    Some(RoleImage {
        role: role.to_owned(),
        key: key.to_owned(),
        path,
        size: meta.len(),
        used: meta.blocks() * 512,
        packages: record.packages,
        reused: true,
    })
}

/// Makes an image count, its file being on disk.
pub(crate) fn note(folder: &Path, record: &Record) -> Result<(), DepotError> {
    let text = serde_json::to_vec_pretty(record).unwrap_or_default();
    files::write_whole(&folder.join(RECORD), &text)
}

/// Removes images that were never finished.
pub(crate) fn remove_unfinished(store: &Store) -> Result<(), DepotError> {
    for folder in folders(store) {
        if !folder.join(RECORD).exists() {
            remove_tree(&folder)?;
        }
    }
    Ok(())
}

/// The finished image whose inputs differ least from `wanted`, by key, and in what.
pub(crate) fn nearest(
    store: &Store,
    role: &str,
    wanted: &BTreeMap<String, String>,
) -> Option<(String, Vec<Difference>)> {
    let candidate = |folder: PathBuf| {
        let record = read(&folder)?;
        let key = folder.file_name()?.to_string_lossy().into_owned();
        Some((record.role != role, differences(wanted, &record.inputs), key))
    };
    let all = folders(store).into_iter().filter_map(candidate);
    let best = all.min_by_key(|(other, differences, key)| (differences.len(), *other, key.clone()));
    best.map(|(_, differences, key)| (key, differences))
}

fn differences(
    wanted: &BTreeMap<String, String>,
    cached: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let mut names: Vec<&String> = wanted.keys().chain(cached.keys()).collect();
    names.sort();
    names.dedup();
    let differing = names.into_iter().filter(|name| wanted.get(*name) != cached.get(*name));
    let difference = |name: &String| Difference {
        name: name.clone(),
        wanted: wanted.get(name).cloned(),
        cached: cached.get(name).cloned(),
    };
    differing.map(difference).collect()
}

/// Inputs for people.
pub(crate) fn listed(inputs: &BTreeMap<String, String>) -> Vec<Input> {
    let input =
        |(name, value): (&String, &String)| Input { name: name.clone(), value: value.clone() };
    inputs.iter().map(input).collect()
}

fn folders(store: &Store) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.folder("images")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn read(folder: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(folder.join(RECORD)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::OverlayFile;

    #[test]
    fn the_key_depends_on_every_input() {
        let mut request = RoleImageRequest::default();
        let first = of(&request, &[], None);
        request.overlay.files.push(OverlayFile {
            path: "/x".to_owned(),
            mode: 0o644,
            content: b"1".to_vec(),
        });
        let second = of(&request, &[], None);
        request.overlay.files[0].mode = 0o600;
        let third = of(&request, &[], None);
        assert!(key(&first) != key(&second) && key(&second) != key(&third));
        let seen = differences(&third, &second);
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].name, "file /x");
        assert_eq!(differences(&first, &first), []);
    }
}
