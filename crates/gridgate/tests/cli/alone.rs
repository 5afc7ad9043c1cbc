//! Commands that need no daemon.

use std::path::Path;

use crate::fake::{Ran, gridgate};

fn run(words: &[&str]) -> Ran {
    Ran::of(gridgate(Path::new("/nonexistent/home"), words).output().expect("gridgate runs"))
}

#[test]
fn a_profile_with_faults_gives_code_two() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("site.toml");
    std::fs::write(&file, "[site]\nname = \"dublin\"\ndomian = \"dublin.test\"\n")
        .expect("a profile");
    let path = file.display().to_string();

    let ran = run(&["profile", "check", &path]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("domian"), "{}", ran.err);
    assert!(!ran.err.contains('\u{1b}'), "{}", ran.err);

    let ran = run(&["profile", "check", &path, "--json"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let json: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(json["valid"], false);
    assert_eq!(json["faults"][0]["file"], "site.toml");
    assert_eq!(ran.err, "");
}

#[test]
fn what_init_writes_has_no_faults() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("dublin").display().to_string();
    assert_eq!(run(&["init", &dir]).code, 0);
    let ran = run(&["profile", "check", &dir]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.starts_with("site dublin has no faults"), "{}", ran.out);

    let ran = run(&["init", &dir]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("is left alone"), "{}", ran.err);
}

#[test]
fn a_home_that_cannot_be_made_is_the_hosts_fault() {
    let ran =
        Ran::of(gridgate(Path::new("/proc/home"), &["list"]).output().expect("gridgate runs"));
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.starts_with("error: /proc/home cannot be made\n"), "{}", ran.err);
}

#[test]
fn wrong_words_give_code_two_and_help_none() {
    assert_eq!(run(&["upp"]).code, 2);
    assert_eq!(run(&["exec", "ce", "ls"]).code, 2, "a command stands after --");
    assert_eq!(run(&["shim"]).code, 64, "hidden commands are not for people");
    assert_eq!(run(&["up", "--help"]).code, 0);
}

#[test]
fn doctor_says_how_each_thing_stands() {
    let ran = run(&["doctor", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let findings = json.as_array().expect("a list");
    let missing = findings.iter().any(|finding| finding["verdict"] == "missing");
    assert_eq!(ran.code, if missing { 3 } else { 0 });
    assert!(findings.iter().any(|finding| finding["name"] == "taps"), "{}", ran.out);
}

#[test]
fn completions_and_manual_know_the_commands() {
    assert!(run(&["completions", "bash"]).out.contains("destroy"));
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("man1").display().to_string();
    assert_eq!(run(&["man", &dir]).code, 0);
    assert!(folder.path().join("man1/gridgate-profile-check.1").exists());
}

#[test]
fn the_documentation_names_every_command() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let docs = std::fs::read_to_string(docs).expect("docs/cli.md");
    let help = run(&["--help"]).out;
    let commands = help.split("Commands:").nth(1).and_then(|rest| rest.split("Options").next());
    for line in commands.expect("a list of commands").lines() {
        // A command's line is set in by two blanks; further lines of its text by more.
        let Some(name) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) else {
            continue;
        };
        let name = name.split(' ').next().unwrap_or_default();
        assert!(docs.contains(&format!("`gridgate {name}")), "docs/cli.md does not name {name}");
    }
}
