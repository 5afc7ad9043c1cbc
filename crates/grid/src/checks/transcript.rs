//! What a check's script printed, taken apart into its steps.
//!
//! Any text can be read; what is not in the script's own form is left out.

use super::script::{ERROR_PREFIX, EXIT_MARK, OUT_PREFIX, STEP_MARK};

/// The steps that were begun, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transcript {
    steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) name: String,
    /// None: it did not end.
    pub(crate) exit: Option<i32>,
    pub(crate) out: Vec<String>,
    pub(crate) error: Vec<String>,
}

impl Transcript {
    pub(crate) fn read(text: &str) -> Transcript {
        let mut steps: Vec<Step> = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix(STEP_MARK) {
                steps.push(Step { name: name.trim().to_owned(), ..Step::default() });
                continue;
            }
            let Some(step) = steps.last_mut() else { continue };
            if step.exit.is_some() {
                continue;
            }
            if let Some(code) = line.strip_prefix(EXIT_MARK) {
                step.exit = code.trim().parse().ok();
            } else if let Some(out) = line.strip_prefix(OUT_PREFIX) {
                step.out.push(out.to_owned());
            } else if let Some(error) = line.strip_prefix(ERROR_PREFIX) {
                step.error.push(error.to_owned());
            }
        }
        Transcript { steps }
    }

    /// The step of this name, if it was begun.
    pub(crate) fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// The step that was begun last.
    pub(crate) fn last(&self) -> Option<&Step> {
        self.steps.last()
    }
}

impl Step {
    /// The lines of standard output that have something on them, trimmed.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.out.iter().map(|line| line.trim()).filter(|line| !line.is_empty())
    }

    /// The first such line.
    pub(crate) fn first_line(&self) -> Option<&str> {
        self.lines().next()
    }

    /// Whether a line of either stream has this text.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.out.iter().chain(&self.error).any(|line| line.contains(text))
    }

    /// What it said, in one line for people: errors if there are any.
    pub(crate) fn said(&self) -> String {
        let full = |lines: &[String]| {
            let lines: Vec<_> =
                lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
            lines.join("; ")
        };
        match (full(&self.error), full(&self.out)) {
            (error, out) if error.is_empty() && out.is_empty() => "nothing".to_owned(),
            (error, out) if error.is_empty() => out,
            (error, _) => error,
        }
    }
}
