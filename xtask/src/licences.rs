//! Whether every dependency's licence is one that the project accepts.
//!
//! It reads `cargo metadata`, so it sees what the lock file pins, for all
//! platforms, with build and test dependencies.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::spdx;

/// Licences that let the project be given away under its own, `MIT OR Apache-2.0`.
const ACCEPTED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "OpenSSL",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// Fails with a line for each dependency whose licence is not accepted.
pub fn check() -> Result<()> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    let faults: Vec<String> = packages.iter().filter_map(fault).collect();
    if !faults.is_empty() {
        bail!("licences that are not accepted (xtask/src/licences.rs):\n{}", faults.join("\n"));
    }
    writeln!(std::io::stdout(), "{} packages, all licences accepted", packages.len())?;
    Ok(())
}

fn metadata() -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run `cargo metadata`")?;
    if !output.status.success() {
        bail!("`cargo metadata` ended with {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no JSON")
}

/// What is wrong with a package's licence, if anything.
fn fault(package: &Value) -> Option<String> {
    let name = package["name"].as_str().unwrap_or("a package without a name");
    let version = package["version"].as_str().unwrap_or("?");
    let Some(licence) = package["license"].as_str() else {
        return Some(format!("  {name} {version}: names no licence"));
    };
    match spdx::satisfied(licence, ACCEPTED) {
        Ok(true) => None,
        Ok(false) => Some(format!("  {name} {version}: {licence}")),
        Err(error) => Some(format!("  {name} {version}: `{licence}` cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_dependency_has_a_licence_that_is_accepted() {
        check().unwrap();
    }

    #[test]
    fn a_fault_names_package_and_licence() {
        let package = |licence: Value| json!({"name": "x", "version": "1.0.0", "license": licence});
        assert_eq!(fault(&package("MIT OR GPL-2.0".into())), None);
        assert_eq!(fault(&package("AGPL-3.0".into())).unwrap(), "  x 1.0.0: AGPL-3.0");
        assert!(fault(&package(Value::Null)).unwrap().contains("no licence"));
        assert!(fault(&package("MIT OR".into())).unwrap().contains("cannot be read"));
    }
}
