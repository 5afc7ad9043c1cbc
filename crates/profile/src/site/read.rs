//! The way from a site's files to the site.

use std::sync::Arc;

use super::declare::{self, Declared, DeclaredRole};
use super::{Site, SiteFiles, resolve, roles};
use crate::component::Library;
use crate::component::library::Catalogue;
use crate::document;
use crate::fault::{FaultSink, Faults};
use crate::source::Source;

/// Reads and checks a site's files, with the shipped components and roles.
///
/// # Errors
/// Everything that is wrong with them, at once.
pub fn parse_site(files: &SiteFiles) -> Result<Site, Faults> {
    parse_site_with(files, &Catalogue::shipped())
}

/// [`parse_site`] with other components and roles than the shipped ones.
///
/// # Errors
/// Everything that is wrong with the files, at once.
pub fn parse_site_with(files: &SiteFiles, catalogue: &Catalogue) -> Result<Site, Faults> {
    let sink = FaultSink::default();
    let library = Arc::new(Library::load(catalogue, &files.components, &sink));
    let shipped = shipped_roles(catalogue, &library, &sink);
    let source = Source::new(files.name.clone(), files.text.clone());
    let mut site = None;
    document::read(&source, &sink, |root| {
        let declared: Declared = declare::read(root, &library);
        let roles = roles::resolve(&shipped, &declared.roles, &sink);
        site = resolve::resolve(&declared, roles, Arc::clone(&library), &sink);
    });
    sink.finish(site)
}

fn shipped_roles(catalogue: &Catalogue, library: &Library, sink: &FaultSink) -> Vec<DeclaredRole> {
    let source = Source::new("shipped/roles.toml", catalogue.roles.clone());
    let mut roles = Vec::new();
    document::read(&source, sink, |root| {
        roles = declare::roles(root, library);
        root.finish();
    });
    roles
}
