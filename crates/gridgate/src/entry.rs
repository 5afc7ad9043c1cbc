//! The executable's other lives: agent, shim, jailed first process, keeper of a Xen domain, build chamber, a
//! machine's `/init`.
//!
//! They are told apart by the program's name and first argument alone, before the command tree is built and before
//! any thread starts: a shim lives as long as its machine and must stay small, and the jail and the chamber enter
//! namespaces, which only a process of one thread can do. They are for gridgate itself, so they have no help
//! and no options; what is wrong with their arguments is a fault of gridgate and gives code 64 (EX_USAGE).

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use gridgate_agent::AgentOptions;

use crate::logging;

/// Exit code for arguments that no part of gridgate gives; `EX_USAGE` of sysexits.h.
const MISUSED: i32 = 64;

/// The name that the kernel runs an initial RAM file system's program by.
const INIT: &str = "/init";

/// Another life of the executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life<'a> {
    Agent,
    Init,
    Shim { run_dir: &'a Path },
    Jail { run_dir: &'a Path },
    XenKeeper { run_dir: &'a Path },
    Chamber { arguments: &'a [OsString] },
    Misused,
}

/// Runs another life and gives its exit code; none when this is the command line.
pub fn other_life(arguments: &[OsString]) -> Option<ExitCode> {
    let code = match life(arguments)? {
        Life::Shim { run_dir } => gridgate_machine::shim_main(run_dir),
        Life::Jail { run_dir } => gridgate_machine::jail_main(run_dir),
        Life::XenKeeper { run_dir } => gridgate_machine::keeper_main(run_dir),
        Life::Chamber { arguments } => gridgate_depot::chamber_main(arguments),
        Life::Agent => {
            logging::agent();
            gridgate_agent::agent_main(AgentOptions::default())
        }
        Life::Init => gridgate_agent::init_main(),
        Life::Misused => MISUSED,
    };
    Some(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn life(arguments: &[OsString]) -> Option<Life<'_>> {
    // The kernel's own arguments follow, whatever they are.
    if arguments.first().is_some_and(|name| name == INIT) {
        return Some(Life::Init);
    }
    let rest = arguments.get(2..).unwrap_or_default();
    let life = match (arguments.get(1)?.to_str()?, rest) {
        ("shim", [run_dir]) => Life::Shim { run_dir: Path::new(run_dir) },
        ("jail", [run_dir]) => Life::Jail { run_dir: Path::new(run_dir) },
        ("xen-keeper", [run_dir]) => Life::XenKeeper { run_dir: Path::new(run_dir) },
        ("agent", []) => Life::Agent,
        ("chamber", arguments) => Life::Chamber { arguments },
        ("shim" | "jail" | "xen-keeper" | "agent", _) => Life::Misused,
        _ => return None,
    };
    Some(life)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn lives_are_told_apart() {
        let run_dir = Path::new("/r");
        assert_eq!(life(&words("gridgate shim /r")), Some(Life::Shim { run_dir }));
        assert_eq!(life(&words("gridgate jail /r")), Some(Life::Jail { run_dir }));
        assert_eq!(life(&words("gridgate xen-keeper /r")), Some(Life::XenKeeper { run_dir }));
        assert_eq!(life(&words("gridgate agent")), Some(Life::Agent));
        assert_eq!(life(&words("/init agent splash")), Some(Life::Init));
        assert_eq!(life(&words("/init")), Some(Life::Init));
        assert_eq!(life(&words("gridgate shim")), Some(Life::Misused));
        let arguments = words("chamber a b");
        let chamber = words("gridgate chamber a b");
        assert_eq!(life(&chamber), Some(Life::Chamber { arguments: &arguments[1..] }));
    }

    #[test]
    fn the_command_line_is_not_one_of_them() {
        for line in
            ["gridgate", "gridgate up site.toml", "gridgate --json agent", "gridgate daemon"]
        {
            assert_eq!(life(&words(line)), None, "{line}");
        }
    }
}
