//! The site profile that `gridgate init` writes.

/// A commented site profile for a site of this name; it parses clean for any
/// valid site name.
pub fn init_text(name: &str) -> String {
    include_str!("init.toml").replace("@name@", name)
}

#[cfg(test)]
mod tests;
