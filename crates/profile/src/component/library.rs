//! All components a site can use: the shipped ones and the site's own.

use std::collections::BTreeMap;

use include_dir::{Dir, include_dir};

use super::{Component, order, read};
use crate::fault::{FaultCode, FaultSink};
use crate::site::ComponentFiles;
use crate::suggestion;

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/components");
static ROLES: &str = include_str!("../../roles.toml");

/// What the binary brings along: components and roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Component folders by name.
    pub components: BTreeMap<String, ComponentFiles>,
    /// Text of the shipped `roles.toml`.
    pub roles: String,
}

impl Catalogue {
    /// The components and roles embedded in this build.
    pub fn shipped() -> Self {
        let components = SHIPPED
            .dirs()
            .map(|folder| {
                let name = folder.path().display().to_string();
                let mut files = ComponentFiles::new();
                collect(folder, &name, &mut files);
                (name, files)
            })
            .collect();
        Self { components, roles: ROLES.to_owned() }
    }
}

fn collect(folder: &Dir<'_>, root: &str, files: &mut ComponentFiles) {
    for file in folder.files() {
        if let Ok(path) = file.path().strip_prefix(root) {
            files.insert(path.display().to_string(), file.contents().to_vec());
        }
    }
    for inner in folder.dirs() {
        collect(inner, root, files);
    }
}

/// Components by name, read and checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Library {
    components: BTreeMap<String, Component>,
}

impl Library {
    /// Reads the shipped components and the site's own, which replace shipped ones
    /// of the same name.
    pub(crate) fn load(
        catalogue: &Catalogue,
        own: &BTreeMap<String, ComponentFiles>,
        sink: &FaultSink,
    ) -> Self {
        let mut components = BTreeMap::new();
        let shipped = catalogue
            .components
            .iter()
            .filter(|(name, _)| !own.contains_key(*name))
            .map(|(name, files)| (name, format!("shipped/components/{name}"), files));
        let own = own.iter().map(|(name, files)| (name, format!("components/{name}"), files));
        for (name, shown_as, files) in shipped.chain(own) {
            if let Some(component) = read::read(name, &shown_as, files, sink) {
                components.insert(name.clone(), component);
            }
        }
        let library = Self { components };
        library.check_requirements(sink);
        library
    }

    /// The component of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Component> {
        self.components.get(name)
    }

    /// All names, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.components.keys().map(String::as_str).collect()
    }

    /// All components, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Component> {
        self.components.values()
    }

    fn check_requirements(&self, sink: &FaultSink) {
        let names = self.names();
        for component in self.components.values() {
            for wanted in &component.requires {
                if self.get(&wanted.value).is_none() {
                    let fault = wanted.spot.fault(FaultCode::UnknownName, "no such component");
                    let hint = suggestion::did_you_mean_or_list(&wanted.value, &names);
                    sink.push(fault.suggest_some(hint));
                }
            }
        }
        order::check_cycles(self, sink);
    }
}
