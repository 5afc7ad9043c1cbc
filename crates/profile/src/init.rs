//! The site profile that `gridgate init` writes.

use crate::names;

/// A commented site profile for a site of this name; it parses clean for any
/// valid site name.
pub fn init_text(name: &str) -> String {
    include_str!("init.toml").replace("@name@", name)
}

/// Whether a site can have this name.
///
/// # Errors
/// The rule that is broken, as a sentence.
pub fn check_site_name(name: &str) -> Result<(), &'static str> {
    names::site(name)
}

#[cfg(test)]
mod tests;
