//! Reads a site profile and the components beside it, as they are; judging them is others' work.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gridgate_profile::SiteFiles;
use gridgate_protocol::site_api::SiteSource;

use crate::failure::Failure;

/// Reads the profile `file` (or `site.toml` in the folder `file`) and `components/` beside it.
pub fn read_source(file: &Path) -> Result<SiteSource, Failure> {
    let file = if file.is_dir() { file.join("site.toml") } else { file.to_owned() };
    let path = std::path::absolute(&file).map_err(|e| unreadable(&file, &e))?;
    let text = fs::read_to_string(&path).map_err(|e| unreadable(&file, &e))?;
    let folder = path.parent().unwrap_or(Path::new("/")).join("components");
    let components = if folder.is_dir() { components(&folder)? } else { BTreeMap::new() };
    Ok(SiteSource { path, text, components })
}

/// The same files as the profile's parser takes them.
pub fn site_files(source: &SiteSource) -> SiteFiles {
    let bytes = |files: &BTreeMap<String, String>| {
        files.iter().map(|(name, text)| (name.clone(), text.clone().into_bytes())).collect()
    };
    let name = source.path.file_name().map_or_else(
        || source.path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    SiteFiles {
        name,
        text: source.text.clone(),
        components: source
            .components
            .iter()
            .map(|(name, files)| (name.clone(), bytes(files)))
            .collect(),
    }
}

fn components(folder: &Path) -> Result<BTreeMap<String, BTreeMap<String, String>>, Failure> {
    let mut components = BTreeMap::new();
    for path in entries(folder)? {
        if path.is_dir() {
            let mut files = BTreeMap::new();
            read_folder(&path, "", &mut files)?;
            components.insert(name(&path)?, files);
        }
    }
    Ok(components)
}

/// Reads a component's files; those in subfolders are named by their path within the component.
fn read_folder(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, String>,
) -> Result<(), Failure> {
    for path in entries(folder)? {
        let within = format!("{prefix}{}", name(&path)?);
        if path.is_dir() {
            read_folder(&path, &format!("{within}/"), files)?;
        } else {
            let text = fs::read_to_string(&path).map_err(|e| unreadable(&path, &e))?;
            files.insert(within, text);
        }
    }
    Ok(())
}

/// What stands in a folder, sorted; editors' leftovers (hidden files) are none of ours.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let read = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut paths = read().map_err(|e| unreadable(folder, &e))?;
    let hidden = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    paths.retain(|path| !hidden(path));
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned)
        .ok_or_else(|| Failure::input(format!("the name of {} is not UTF-8", path.display())))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::input(format!("{} cannot be read", path.display())).because(error);
    match error.kind() {
        io::ErrorKind::NotFound => failure.hint("gridgate init DIR writes a site profile"),
        io::ErrorKind::InvalidData => failure.hint("profiles and components are UTF-8 text"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_come_with_the_profile() {
        let folder = tempfile::tempdir().expect("a folder");
        let component = folder.path().join("components/motd/parts");
        fs::create_dir_all(&component).expect("folders");
        fs::write(folder.path().join("site.toml"), "[site]\n").expect("a profile");
        fs::write(component.join("text.j2"), "hello\n").expect("a template");
        fs::write(component.join("../component.toml"), "").expect("a component");
        fs::write(component.join("../.swap"), "").expect("a leftover");

        let source = read_source(folder.path()).expect("a source");

        assert_eq!(source.path, folder.path().join("site.toml"));
        let names: Vec<&String> = source.components["motd"].keys().collect();
        assert_eq!(names, ["component.toml", "parts/text.j2"]);
        assert_eq!(site_files(&source).components["motd"]["parts/text.j2"], b"hello\n");
    }

    #[test]
    fn a_missing_profile_is_an_input_fault() {
        let failure = read_source(Path::new("/nowhere/site.toml")).expect_err("nothing there");
        assert_eq!(failure.exit_code(), 2);
    }
}
