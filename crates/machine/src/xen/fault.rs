//! What `xl` says when a domain cannot be made, in our words. Pure. The texts are those of
//! libxl and libxenguest 4.20, one sample each in the tests.

use std::path::{Path, PathBuf};

use super::{Identity, Xen};
use crate::error::StartFailure;
use crate::spec::{MachineSpec, XenBoot};

/// Why `xl create` failed, from what it wrote on standard error.
/// `free` is the memory that no domain has, MiB.
pub(super) fn of_create(
    said: &str,
    spec: &MachineSpec,
    xen: &Xen,
    free: Option<u64>,
) -> StartFailure {
    let create = |why: String| StartFailure::Host { step: "create its domain".into(), why };
    let has = |part: &str| said.contains(part);
    if has("already exists") {
        return create(format!(
            "a domain named {} is there and is not this machine's; it was left alone. Rename or destroy it",
            Identity::of(spec).name
        ));
    }
    if has("Out of memory") || has("Cannot allocate memory") || has("failed to free memory") {
        let free = free.map_or(String::new(), |free| format!(", {free} MiB are free"));
        return create(format!(
            "Xen has no {} MiB for it{free}; stop a domain, or give this one less memory",
            spec.memory >> 20
        ));
    }
    if has("no loader found") || has("Invalid kernel") {
        let why = "is not a kernel that Xen can load";
        return match (xen.boot, spec.disks.first()) {
            (XenBoot::Pygrub, Some(disk)) => {
                StartFailure::Disk { disk: disk.path.clone(), why: format!("its kernel {why}") }
            }
            _ => kernel(&xen.kernel, why),
        };
    }
    if let Some(path) = between(said, "failed to open file '", "'") {
        return kernel(Path::new(path), "cannot be opened");
    }
    if let Some(path) = between(said, "failed to stat: ", ":") {
        return StartFailure::Disk { disk: path.into(), why: "is not there".into() };
    }
    if let Some(words) = after(said, "script: ") {
        return create(words.to_owned());
    }
    create(first_error(said).unwrap_or("xl says nothing of the reason").to_owned())
}

fn kernel(kernel: &Path, why: &str) -> StartFailure {
    StartFailure::Kernel { kernel: PathBuf::from(kernel), why: why.into() }
}

/// The first of libxl's lines is the cause of the others, without where in its source it is.
fn first_error(said: &str) -> Option<&str> {
    let line = said.lines().find(|line| line.contains("error:"))?;
    let (_, words) = line.split_once("error: ")?;
    let words = words.split_once(": ").map_or(words, |(_, words)| words);
    Some(match words.split_once(':') {
        Some((domain, words)) if domain.starts_with("Domain ") => words.trim(),
        _ => words.trim(),
    })
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.split_once(mark)?.1.trim()))
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    Some(text.split_once(from)?.1.split_once(to)?.0)
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
