//! The storage checks' scripts under a real shell, with stand-ins for the grid
//! tools that keep their files in a local folder.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use gridgate_grid::checks::{
    DELETE_COMMAND, GridUser, Host, Planned, SiteCheck, SiteFacts, Verdict, judge, site_checks,
};
use gridgate_protocol::agent_api::RunResult;

/// As the real one: lists with the directory's URL first, copies both ways, and
/// reads its standard input, which must not be the script.
const COPY: &str = r#"#!/bin/sh
cat >/dev/null
place() {
    case $1 in
    gsiftp://se.dublin.test/*) echo "$STORE/${1#gsiftp://se.dublin.test/}" ;;
    file:///*) echo "${1#file://}" ;;
    *) echo "no such URL: $1" >&2; exit 1 ;;
    esac
}
copy() {
    to=$(place "$2")
    mkdir -p "${to%/*}"
    cp "$(place "$1")" "$to"
}
if [ "$1" = -list ]; then
    echo "$2"
    ls -p "$(place "$2")" | sed 's/.*/    & /'
elif [ "$1 $2" = "-cd -f" ]; then
    while IFS='"' read -r _ from _ to _; do
        copy "$from" "$to" || exit 1
    done <"$3"
elif [ "$1" = -cd ]; then
    copy "$2" "$3"
fi
"#;

/// Makes [`COPY`] fail at what comes from the SE to here, after what goes before it.
const NO_DOWNLOAD: &str = r#"cat >/dev/null
cp() {
    case $2 in "$STORE"/*) command cp "$@" ;; *) echo "error: 426" >&2; return 1 ;; esac
}
"#;

const DELETE: &str = r#"#!/bin/sh
echo "settings" >"$HOME/.settings-of-a-tool"
for url; do
    path=$STORE/${url#gsiftp://se.dublin.test/}
    if [ -d "$path" ]; then rmdir "$path"; else rm "$path"; fi
done
"#;

fn tool(bin: &Path, name: &str, text: &str) {
    let path = bin.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
}

fn storage_checks() -> Vec<SiteCheck> {
    let host = |node: &str| Host { node: node.into(), fqdn: format!("{node}.dublin.test") };
    let facts = SiteFacts {
        domain: "dublin.test".into(),
        ce: None,
        se: Some(host("se")),
        ui: Some(host("ui")),
        workers: Vec::new(),
        user: Some(GridUser { name: "alice".into(), subject: "/O=dublin.test/CN=Alice".into() }),
        storage: "/srv/storage/alice".into(),
        pace: 1,
    };
    site_checks(&facts)
        .into_iter()
        .filter_map(|entry| match entry {
            Planned::Check(check) if check.id.starts_with("gridftp") || check.id == "replica" => {
                Some(check)
            }
            _ => None,
        })
        .collect()
}

/// Runs a check's script as the agent does: on the shell's standard input.
fn run(check: &SiteCheck, home: &Path) -> RunResult {
    let path = format!("{}:/usr/bin:/bin", home.join("bin").display());
    let mut shell = Command::new("/bin/sh")
        .env_clear()
        .envs([("PATH", path.as_str()), ("HOME", home.to_str().unwrap())])
        .env("STORE", home.join("store"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(check.script.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    RunResult {
        exit_code: output.status.code().unwrap_or(255),
        timed_out: false,
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
        millis: 0,
    }
}

fn site() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let (bin, storage) = (home.path().join("bin"), home.path().join("store/srv/storage/alice"));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(storage).unwrap();
    tool(&bin, "globus-url-copy", COPY);
    tool(&bin, DELETE_COMMAND, DELETE);
    home
}

fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn working_storage_passes_and_nothing_is_left() {
    let home = site();
    for check in storage_checks() {
        let result = run(&check, home.path());
        let verdict = judge(&check, &result);
        assert!(matches!(verdict, Verdict::Passed { .. }), "{}: {verdict:?}\n{result:?}", check.id);
        assert_eq!(result.stderr, "", "{}", check.id);
        let left = entries(&home.path().join("store/srv/storage/alice"));
        assert!(left.is_empty(), "{} left {left:?}", check.id);
    }
    assert_eq!(entries(home.path()), ["bin", "store"]);
}

#[test]
fn a_directory_with_many_files_hides_nothing() {
    let home = site();
    let storage = home.path().join("store/srv/storage");
    for number in 0..3000 {
        fs::write(storage.join(format!("a-file-of-some-user-{number}")), "").unwrap();
    }
    for check in storage_checks() {
        let verdict = judge(&check, &run(&check, home.path()));
        assert!(matches!(verdict, Verdict::Passed { .. }), "{}: {verdict:?}", check.id);
    }
}

#[test]
fn tools_that_say_nothing_and_end_well_do_not_pass() {
    let home = site();
    for name in ["globus-url-copy", DELETE_COMMAND] {
        tool(&home.path().join("bin"), name, "#!/bin/sh\nexit 0\n");
    }
    for check in storage_checks() {
        let verdict = judge(&check, &run(&check, home.path()));
        assert!(matches!(verdict, Verdict::Failed { .. }), "{}: {verdict:?}", check.id);
    }
}

#[test]
fn a_deletion_that_does_not_delete_is_found() {
    let home = site();
    tool(&home.path().join("bin"), DELETE_COMMAND, "#!/bin/sh\nexit 0\n");
    for check in storage_checks() {
        let failed = matches!(judge(&check, &run(&check, home.path())), Verdict::Failed { .. });
        assert_eq!(failed, ["gridftp-delete", "replica"].contains(&check.id), "{}", check.id);
    }
}

#[test]
fn a_step_that_fails_leaves_nothing_either() {
    let home = site();
    let no_download = COPY.replace("cat >/dev/null\n", NO_DOWNLOAD);
    assert_ne!(no_download, COPY);
    tool(&home.path().join("bin"), "globus-url-copy", &no_download);
    for check in storage_checks() {
        let failed = matches!(judge(&check, &run(&check, home.path())), Verdict::Failed { .. });
        let downloads = ["gridftp-get", "gridftp-third-party", "replica"].contains(&check.id);
        assert_eq!(failed, downloads, "{}", check.id);
        let left = entries(&home.path().join("store/srv/storage/alice"));
        assert!(left.is_empty(), "{} left {left:?}", check.id);
    }
}

#[test]
fn a_missing_tool_is_named() {
    let home = site();
    fs::remove_file(home.path().join("bin/globus-url-copy")).unwrap();
    let list = storage_checks().into_iter().find(|check| check.id == "gridftp-list").unwrap();
    let Verdict::Failed { what, .. } = judge(&list, &run(&list, home.path())) else {
        panic!("passed without the tool")
    };
    assert!(what.contains("globus-url-copy"), "{what}");
}
