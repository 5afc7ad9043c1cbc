//! The machine crate's conformance suite inside the lab: its test program and the program
//! with the hidden commands, at the paths that they were compiled with.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Lab, boot, guest, parts, payload};

/// Runs it; the test program's exit code.
pub(crate) fn run(lab: Lab, arguments: &[OsString]) -> Result<i32> {
    let programs = built("conformance")?;
    let test = programs
        .iter()
        .find(|path| path.parent().is_some_and(|folder| folder.ends_with("deps")))
        .context("cargo built no conformance suite")?;
    let parts = parts::get()?;
    let mut files = programs.iter().map(payload::Entry::same).collect::<Result<Vec<_>>>()?;
    files.extend(guest::entries(lab.hypervisor, &parts)?);
    let test = payload::Entry::same(test)?.to;
    let mut command = vec![test.into_os_string(), "--include-ignored".into()];
    if arguments.iter().all(|argument| argument.as_encoded_bytes().starts_with(b"-")) {
        command.push(lab.hypervisor.promises().into());
    }
    command.push(format!("--test-threads={}", lab.hypervisor.processors()).into());
    command.extend(arguments.iter().cloned());
    let script =
        format!("export GRIDGATE_LAB_GUEST={}\n{}", guest::FOLDER, payload::script(&command)?);
    let payload = payload::write(&files, &script)?;
    boot::run(&parts, lab, payload.into(), boot::Mode::Command)
}

/// Builds an integration test and its package's programs, and tells where they are. As a part of the whole workspace, so
/// that beside `cargo test --workspace` there is nothing to build: its dependencies have the same features then.
pub(super) fn built(test: &str) -> Result<Vec<PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--quiet", "--no-run", "--message-format", "json"])
        .args(["--workspace", "--test", test])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("{test} does not build");
    }
    let executable = |line: &[u8]| {
        let message: serde_json::Value = serde_json::from_slice(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    };
    Ok(output.stdout.split(|byte| *byte == b'\n').filter_map(executable).collect())
}
