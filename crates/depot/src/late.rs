//! Commands of packages' scripts that run beside the scripts to come, instead of before them.
//!
//! Compiling Python's modules takes a third of the time in which a large root is configured, one package after the
//! other, and nothing waits for its result. So dpkg's scripts find a stand-in for such a command first in `PATH`:
//!
//! ```text
//! script ─→ stand-in ─done at once─→ script goes on
//!              └─ the command itself, on another core ─said nothing, exit code 0─→ fine
//!                                                     └ anything else ─→ run again, alone, in the end: its verdict counts
//! ```
//!
//! Only commands whose results are the same whenever they run, and that do nothing where that has been done, may be
//! in the list.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::DepotError;
use crate::files;

/// The commands, as paths in a root. `py3compile` compares each module's own time with what is in its compiled
/// form, whatever made that.
const COMMANDS: [&str; 1] = ["/usr/bin/py3compile"];

/// Where the folder is shown in a chamber, by name.
pub(crate) const NAME: &str = "late";

/// The stand-in. Descriptor 8 is held by whatever has not ended yet, 9 by who is at work.
const STAND_IN: &str = "#!/bin/sh
set -e
job=$(mktemp /mnt/late/jobs/XXXXXXXX)
printf '%s\\n' COMMAND \"$@\" > \"$job\"
exec 8>/mnt/late/all
flock -s 8
(
    exec 3>&- 9>\"/mnt/late/slot$(($$ % SLOTS))\"
    flock 9
    COMMAND \"$@\" > \"$job.said\" 2>&1 || echo \"exit code $?\" >> \"$job.said\"
) </dev/null >/dev/null 2>&1 &
";

/// What follows dpkg: waits for all, and does again what did not go silently.
const REST: &str = "
flock /mnt/late/all true
for said in /mnt/late/jobs/*.said; do
    test -s \"$said\" || continue
    IFS='
'
    set -f
    set -- $(cat \"${said%.said}\")
    set +f
    unset IFS
    cat \"$said\"
    echo \"again: $*\"
    \"$@\"
done
";

/// Makes the folder of stand-ins for what `root` has of the commands. None when it has none of them, or when there
/// is no second core.
pub(crate) fn prepare(dir: &Path, root: &Path) -> Result<Option<Late>, DepotError> {
    let slots = crate::build::cores() - 1;
    let there: Vec<&str> =
        COMMANDS.into_iter().filter(|command| root.join(&command[1..]).is_file()).collect();
    if slots == 0 || there.is_empty() {
        return Ok(None);
    }
    for folder in ["bin", "jobs"] {
        files::make_dir(&dir.join(folder))?;
    }
    for command in there {
        let path = dir.join("bin").join(Path::new(command).file_name().unwrap_or_default());
        let text = STAND_IN.replace("COMMAND", command).replace("SLOTS", &slots.to_string());
        fs::write(&path, text).map_err(DepotError::io("write", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(DepotError::io("set permissions of", &path))?;
    }
    Ok(Some(Late { dir: dir.to_owned() }))
}

/// A folder of stand-ins.
pub(crate) struct Late {
    /// To be shown in the chamber as [`NAME`].
    pub(crate) dir: PathBuf,
}

impl Late {
    /// A script that does `script` with the stand-ins and ends when all is done.
    pub(crate) fn around(&self, script: &str) -> String {
        format!("(PATH=/mnt/late/bin:$PATH; {script})\n{REST}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Runs a script with stand-ins for a command of the given text, all in a folder of this test.
    fn run(command: &str, script: &str) -> (bool, String, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let real = root.join("usr/bin/py3compile");
        fs::create_dir_all(real.parent().unwrap()).unwrap();
        fs::write(&real, format!("#!/bin/sh\n{command}\n")).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).unwrap();
        let folder = dir.path().join("late");
        let Some(late) = prepare(&folder, &root).unwrap() else { panic!("one core only") };
        let own = |text: &str| {
            let text = text.replace("/mnt/late", folder.to_str().unwrap());
            text.replace(" /usr/bin/py3compile", &format!(" {}", real.display()))
        };
        let stand_in = late.dir.join("bin/py3compile");
        fs::write(&stand_in, own(&fs::read_to_string(&stand_in).unwrap())).unwrap();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-ec", &own(&late.around(script))]).current_dir(dir.path());
        let output = shell.output().unwrap();
        // A script that failed has not waited for what it put off, which would write into the folder while that is removed.
        let all = fs::File::open(folder.join("all")).unwrap();
        rustix::fs::flock(&all, rustix::fs::FlockOperation::LockExclusive).unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned(), dir)
    }

    #[test]
    fn the_end_waits_for_what_was_put_off() {
        // The script's own next line comes before the command's end: it opens the pipe that the command reads.
        let script = "mkfifo go; py3compile -p 'one two'; echo next > order; echo > go";
        let (done, said, dir) = run("read line < go; echo \"$*\" >> order", script);
        assert!(done, "{said}");
        assert_eq!(fs::read_to_string(dir.path().join("order")).unwrap(), "next\n-p one two\n");
    }

    #[test]
    fn what_complained_is_done_again_and_then_counts() {
        let (done, said, dir) =
            run("echo x >> runs; test -e again || { > again; exit 4; }", "py3compile a 'b c'");
        assert!(done && said.contains("exit code 4") && said.contains("again: "), "{said}");
        assert_eq!(fs::read_to_string(dir.path().join("runs")).unwrap(), "x\nx\n");
        let (done, said, _) = run("echo \"bad $2\"; exit 4", "py3compile a 'b c'");
        assert!(!done && said.contains("bad b c"), "{said}");
        let (done, _, _) = run("true", "py3compile x; false");
        assert!(!done);
    }
}
