//! The kernel's command line, as far as it is for us; see the kernel's `Documentation/admin-guide/kernel-parameters.rst`.

use std::fs;

use super::{InitError, io};

const FILE: &str = "/proc/cmdline";

/// The words of the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandLine {
    words: Vec<String>,
}

impl CommandLine {
    /// Reads the running kernel's.
    pub(crate) fn read() -> Result<CommandLine, InitError> {
        Ok(CommandLine::parse(&fs::read_to_string(FILE).map_err(io("read", FILE))?))
    }

    /// Double quotes keep blanks together, as in the kernel.
    pub(crate) fn parse(text: &str) -> CommandLine {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for letter in text.trim_end().chars().chain([' ']) {
            match letter {
                '"' => quoted = !quoted,
                letter if letter.is_whitespace() && !quoted => {
                    if !word.is_empty() {
                        words.push(std::mem::take(&mut word));
                    }
                }
                letter => word.push(letter),
            }
        }
        CommandLine { words }
    }

    /// Whether this word stands there.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|found| found == word)
    }

    /// The last value of `name=value`.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.words.iter().rev().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// The parameters of a module, as it takes them: what stands on the line as `module.name=value`. `-` and `_` are one
    /// in a module's name.
    pub(crate) fn parameters_of(&self, module: &str) -> String {
        let own = |word: &String| {
            let (name, parameter) = word.split_once('.')?;
            (name.replace('-', "_") == module).then(|| quoted(parameter))
        };
        self.words.iter().filter_map(own).collect::<Vec<_>>().join(" ")
    }

    /// What the kernel would give its init: a level or target to start, and what stands behind `--`.
    pub(crate) fn for_init(&self) -> Vec<String> {
        let mut own = self.words.iter().skip_while(|word| *word != "--").skip(1);
        let level = |word: &&String| {
            matches!(word.as_str(), "single" | "emergency" | "rescue" | "s" | "S" | "1")
        };
        let before = self.words.iter().take_while(|word| *word != "--").filter(level).cloned();
        before.chain(own.by_ref().cloned()).collect()
    }
}

/// A value with blanks in it stands between quotes.
fn quoted(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, value)) if value.contains(' ') => format!("{name}=\"{value}\""),
        _ => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_values_and_quotes() {
        let line = CommandLine::parse("ro root=/dev/a rw x=\"a b\" root=PARTLABEL=r -- single\n");
        assert!(line.has("rw") && !line.has("root"));
        assert_eq!(line.value("root"), Some("PARTLABEL=r"));
        assert_eq!(line.value("x"), Some("a b"));
        assert_eq!(line.value("roo"), None);
        assert_eq!(line.for_init(), ["single"]);
    }

    #[test]
    fn modules_find_their_parameters() {
        let line = CommandLine::parse(
            "virtio_mmio.device=512@0xfeb00e00:12 virtio-mmio.device=4K@0x1:5 a.b=\"c d\" a.e x.y=1",
        );
        let devices = "device=512@0xfeb00e00:12 device=4K@0x1:5";
        assert_eq!(line.parameters_of("virtio_mmio"), devices);
        assert_eq!(line.parameters_of("a"), "b=\"c d\" e");
        assert_eq!(line.parameters_of("root"), "");
    }
}
