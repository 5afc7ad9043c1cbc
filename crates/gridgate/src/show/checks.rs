//! Site checks as a table: what was tried, what was seen, how long it took.

use gridgate_protocol::site_api::{CheckOutcome, CheckResult};

use super::figures::{millis, printable};
use super::table::{Align, Cell, Table};
use super::{Paint, Style};

/// The sign of an outcome and what it means.
pub fn sign(outcome: &CheckOutcome) -> (&'static str, Paint) {
    match outcome {
        CheckOutcome::Passed { .. } => ("✓", Paint::Good),
        CheckOutcome::Failed { .. } => ("✗", Paint::Bad),
        CheckOutcome::Skipped { .. } => ("-", Paint::Warn),
        CheckOutcome::NotApplicable { .. } => ("·", Paint::Dim),
    }
}

/// The check table; hints of what failed stand below it.
pub fn table(results: &[CheckResult], style: Style) -> String {
    let mut table = Table::new(&[
        ("", Align::Left),
        ("CHECK", Align::Left),
        ("TIME", Align::Right),
        ("SEEN", Align::Left),
    ]);
    let mut hints = String::new();
    for result in results {
        let (sign, paint) = sign(&result.outcome);
        let time = match result.outcome {
            CheckOutcome::Passed { .. } | CheckOutcome::Failed { .. } => millis(result.millis),
            CheckOutcome::Skipped { .. } | CheckOutcome::NotApplicable { .. } => String::new(),
        };
        let seen = Cell::new(
            if paint == Paint::Good { Paint::Dim } else { paint },
            one_line(&seen(&result.outcome)),
        );
        table.row([Cell::new(paint, sign), result.title.as_str().into(), time.into(), seen]);
        if let CheckOutcome::Failed { what, hint } = &result.outcome {
            hints.push_str(&format!("\n{} {}\n", style.paint(Paint::Bad, "✗"), result.title));
            let whole = printable(what);
            if whole.contains('\n') {
                hints.push_str(&format!("  {}\n", whole.replace('\n', "\n  ")));
            }
            if !hint.is_empty() {
                let hint = printable(hint).replace('\n', "\n        ");
                hints.push_str(&format!("  {} {hint}\n", style.paint(Paint::Good, "hint:")));
            }
        }
    }
    table.render(style) + &hints
}

/// How many passed, failed and were not run.
pub fn summary(results: &[CheckResult]) -> String {
    let count = |test: fn(&CheckOutcome) -> bool| {
        results.iter().filter(|result| test(&result.outcome)).count()
    };
    let passed = count(|outcome| matches!(outcome, CheckOutcome::Passed { .. }));
    let failed = count(|outcome| matches!(outcome, CheckOutcome::Failed { .. }));
    let skipped = count(|outcome| matches!(outcome, CheckOutcome::Skipped { .. }));
    let mut text = format!("{passed} passed");
    for (number, word) in [(failed, "failed"), (skipped, "skipped")] {
        if number > 0 {
            text.push_str(&format!(", {number} {word}"));
        }
    }
    text
}

fn seen(outcome: &CheckOutcome) -> String {
    match outcome {
        CheckOutcome::Passed { evidence } => printable(evidence),
        CheckOutcome::Failed { what, .. } => printable(what),
        CheckOutcome::Skipped { because } => format!("needs {because}, which did not pass"),
        CheckOutcome::NotApplicable { why } => why.clone(),
    }
}

fn one_line(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    if lines.next().is_some() { format!("{first} …") } else { first.to_owned() }
}
