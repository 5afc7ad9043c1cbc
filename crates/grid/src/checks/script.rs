//! Shell scripts made of named steps, each with a time limit, whose output can be
//! taken apart again by [`super::transcript`].
//!
//! The script comes to the shell on standard input, so every command gets
//! `/dev/null` as its own: none may eat the rest of the script. Each line that a
//! command prints is prefixed, so nothing it prints can pass for a mark of ours.
//! A step's limit is kept in the node by `timeout`, so that the script itself ends
//! in time, removes its folder and what it put on the SE.
//!
//! In a User-Mode-Linux guest a program's start costs some 20 ms, as much as a
//! service takes to answer. So the script starts none but the check's own: what the
//! shell can do itself it does itself, and only grid programs run under `timeout`.

use super::operation::FOLDER;

/// Seconds given to shell and clean-up on top of the steps' limits.
const SLACK: u32 = 20;

/// Seconds between asking a command to end and killing it.
const GRACE: u32 = 5;

/// A step's mark, followed by its name.
pub(crate) const STEP_MARK: &str = "== step ";
/// The mark of a step's end, followed by its exit code.
pub(crate) const EXIT_MARK: &str = "== exit ";
/// Prefix of a line of standard output.
pub(crate) const OUT_PREFIX: &str = "out ";
/// Prefix of a line of standard error.
pub(crate) const ERROR_PREFIX: &str = "err ";

/// Most bytes kept of each stream of a step; all of a check's have to fit in the
/// 64 KiB that an agent returns.
const MOST_OUTPUT: u32 = 6000;

/// What becomes of the script when a step's command does not end with 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Otherwise {
    /// The steps that follow cannot work: end here.
    End,
    /// The steps that follow tell more than the exit code does.
    GoOn,
}

impl Otherwise {
    fn shell(self) -> &'static str {
        match self {
            Otherwise::End => " || exit 0\n",
            Otherwise::GoOn => "\n",
        }
    }
}

/// A script under construction.
#[derive(Debug)]
pub(crate) struct Script {
    body: String,
    clean_up: String,
    limit_s: u32,
}

impl Script {
    /// A script with an empty private folder `$work` and a name `$unique` that no
    /// other run on any node has.
    pub(crate) fn new() -> Script {
        Script { body: String::new(), clean_up: String::new(), limit_s: SLACK }
    }

    /// A line of shell: assignments only. What can fail belongs in a step.
    pub(crate) fn set(mut self, line: &str) -> Script {
        self.body.push_str(line);
        self.body.push('\n');
        self
    }

    /// A command to run under a name and a limit in seconds. It must be a program,
    /// not a shell function; its words are the caller's to quote.
    pub(crate) fn step(
        mut self,
        name: &str,
        limit_s: u32,
        command: &str,
        otherwise: Otherwise,
    ) -> Script {
        self.limit_s += limit_s + GRACE;
        self.body.push_str(&format!("step {name} {limit_s} {command}"));
        self.body.push_str(otherwise.shell());
        self
    }

    /// As [`Script::step`], of a program that prints a directory, of which only the
    /// lines with `text`, a shell word, are kept: a full directory must not push
    /// them out of the output.
    pub(crate) fn step_showing(
        mut self,
        name: &str,
        limit_s: u32,
        command: &str,
        text: &str,
    ) -> Script {
        self.limit_s += limit_s + GRACE;
        self.body.push_str(&format!("showing {text} {name} {limit_s} {command}\n"));
        self
    }

    /// A step that speaks to no service and so needs no limit: any shell command.
    pub(crate) fn local(mut self, name: &str, command: &str, otherwise: Otherwise) -> Script {
        self.body.push_str(&format!(
            "begin {name}\n{{ {command}; }} </dev/null >\"$work/.out\" 2>\"$work/.err\" || code=$?\n\
             end"
        ));
        self.body.push_str(otherwise.shell());
        self
    }

    /// A command that is run in silence at the end, however that comes, if then a
    /// test of the shell's holds.
    pub(crate) fn at_end_if(mut self, test: &str, limit_s: u32, command: &str) -> Script {
        self.limit_s += limit_s + GRACE;
        self.clean_up.push_str(&format!("    {test} && quietly {limit_s} {command}\n"));
        self
    }

    /// The whole script and the limit within which it ends by itself, where everything may take `pace` times as long.
    pub(crate) fn build(self, pace: u32) -> (String, u32) {
        let Script { body, clean_up, limit_s } = self;
        let text = format!(
            r#"set -u
pace={pace}
umask 077
LC_ALL=C
export LC_ALL
work=$(mktemp -d /tmp/gridgate-check.XXXXXXXXXX) || exit 0
IFS= read -r host </proc/sys/kernel/hostname || exit 0
unique=gridgate-check-$host-${{work##*.}}-$$
X509_USER_PROXY=$HOME/{FOLDER}/proxy
export X509_USER_PROXY
unset X509_USER_CERT X509_USER_KEY
quietly() {{
    limit=$(($1 * pace))
    shift
    timeout -k {GRACE} "$limit" "$@" </dev/null >/dev/null 2>&1
}}
begin() {{
    printf '{STEP_MARK}%s\n' "$1"
    code=0
}}
show() {{
    left={MOST_OUTPUT}
    while [ "$left" -gt 0 ] && {{ IFS= read -r line || [ -n "$line" ]; }}; do
        printf '%s%.{MOST_OUTPUT}s\n' "$1" "$line"
        left=$((left - ${{#line}} - 1))
    done <"$2"
    printf '\n'
}}
end() {{
    show '{OUT_PREFIX}' "$work/${{1-.out}}"
    show '{ERROR_PREFIX}' "$work/.err"
    printf '{EXIT_MARK}%s\n' "$code"
    return "$code"
}}
limited() {{
    limit=$(($1 * pace))
    shift
    timeout -k {GRACE} "$limit" "$@" </dev/null >"$work/.out" 2>"$work/.err" || code=$?
}}
step() {{
    begin "$1"
    shift
    limited "$@"
    end
}}
showing() {{
    text=$1
    begin "$2"
    shift 2
    limited "$@"
    grep -F -e "$text" "$work/.out" >"$work/.shown" || code=$((code ? code : $?))
    end .shown
}}
finish() {{
    trap '' HUP INT TERM
{clean_up}    rm -rf "$work"
}}
trap finish EXIT
trap 'exit 0' HUP INT TERM
{body}exit 0
"#
        );
        (text, limit_s * pace)
    }
}

/// A word for the shell, whatever is in it.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
