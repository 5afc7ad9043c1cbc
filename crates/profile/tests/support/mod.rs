//! Small components and roles, so that tests do not depend on the shipped ones.

#![allow(dead_code, missing_docs)] // each test file uses its part

use std::path::{Path, PathBuf};

use gridgate_profile::{
    Catalogue, Compiled, ComponentFiles, Facts, Faults, Site, SiteFiles, compile, parse_site_with,
};

pub fn catalogue() -> Catalogue {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/catalogue");
    let mut catalogue = Catalogue {
        roles: std::fs::read_to_string(folder.join("roles.toml")).expect("roles.toml"),
        ..Catalogue::default()
    };
    for path in entries(&folder).into_iter().filter(|path| path.is_dir()) {
        catalogue.components.insert(file_name(&path), component_folder(&path));
    }
    catalogue
}

pub fn component_folder(folder: &Path) -> ComponentFiles {
    let read = |file: PathBuf| (file_name(&file), std::fs::read(&file).expect("a file"));
    entries(folder).into_iter().map(read).collect()
}

pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.expect("a folder entry").path()).collect()
}

pub fn file_name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

pub fn facts() -> Facts {
    Facts {
        ca_certificate: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".into(),
        ca_hash: "0a1b2c3d".into(),
        admin_keys: vec!["ssh-ed25519 AAAA admin@host".into()],
    }
}

pub fn files(text: &str) -> SiteFiles {
    SiteFiles { name: "site.toml".into(), text: text.into(), ..SiteFiles::default() }
}

/// Site files with one component of the site's own, given as (file, text) pairs.
pub fn with_component(text: &str, name: &str, contents: &[(&str, &str)]) -> SiteFiles {
    let mut files = files(text);
    let contents = contents.iter().map(|(file, text)| (file.to_string(), text.as_bytes().to_vec()));
    files.components.insert(name.into(), contents.collect());
    files
}

pub fn parsed(files: &SiteFiles) -> Result<Site, Faults> {
    parse_site_with(files, &catalogue())
}

pub fn site(text: &str) -> Site {
    parsed(&files(text)).unwrap_or_else(|faults| panic!("{}", faults.render(false)))
}

pub fn compiled(text: &str) -> Compiled {
    compile(&site(text), &facts()).unwrap_or_else(|faults| panic!("{}", faults.render(false)))
}

/// The faults of files that must have some, in parsing or compiling.
pub fn faults(files: &SiteFiles) -> Faults {
    match parsed(files) {
        Ok(site) => compile(&site, &facts()).expect_err("a fault"),
        Err(faults) => faults,
    }
}

/// `(line, column, field, rule)` of each fault.
pub fn lines(faults: &Faults) -> Vec<String> {
    faults
        .faults
        .iter()
        .map(|fault| {
            let (line, column) = fault.place.source.position(fault.place.span.start);
            format!("{}:{line}:{column} {}: {}", fault.place.source.name, fault.field, fault.rule)
        })
        .collect()
}

/// A profile's head; nodes follow.
pub const HEAD: &str = "[site]\nname = \"dublin\"\ndomain = \"dublin.test\"\n\
                        [network]\nprefix = \"198.51.100.0/24\"\n";
