//! The program with the hidden commands that the tests need: `shim`, `jail`, `xen-keeper`, and
//! `start SPEC`, a starter that stays until its standard input ends.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let code = match words[..] {
        ["shim", run_dir] => gridgate_machine::shim_main(Path::new(run_dir)),
        ["jail", run_dir] => gridgate_machine::jail_main(Path::new(run_dir)),
        ["xen-keeper", run_dir] => gridgate_machine::keeper_main(Path::new(run_dir)),
        ["start", spec] => start(Path::new(spec)),
        _ => 64,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Starts the machine, says so with a line, and stays.
fn start(spec: &Path) -> i32 {
    let started = std::fs::read(spec)
        .map_err(|e| e.to_string())
        .and_then(|text| serde_json::from_slice(&text).map_err(|e| e.to_string()))
        .and_then(|spec| gridgate_machine::start(&spec).map_err(|e| e.to_string()));
    let line = match &started {
        Ok(_) => "started\n".to_owned(),
        Err(e) => format!("{e}\n"),
    };
    let told = std::io::stdout().write_all(line.as_bytes());
    let stayed = std::io::stdin().read_to_end(&mut Vec::new());
    i32::from(told.is_err() || stayed.is_err() || started.is_err())
}
