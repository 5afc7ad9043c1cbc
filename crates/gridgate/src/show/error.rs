//! A failure: what happened, why, where in the input, and what to do next.

use gridgate_protocol::site_api::ApiError;

use super::figures::printable;
use super::{Paint, Style};

/// The text, ending with a newline. Located faults are shown as they were delivered.
pub fn render(error: &ApiError, style: Style) -> String {
    let mut text = format!("{} {}\n", style.paint(Paint::Bad, "error:"), printable(&error.what));
    text.push_str(&details(error, style));
    text
}

/// What stands below the first line of an error.
pub fn details(error: &ApiError, style: Style) -> String {
    let mut text = String::new();
    for (depth, cause) in error.why.iter().enumerate() {
        let indent = "  ".repeat(depth + 1);
        let cause = printable(cause).replace('\n', &format!("\n{indent}         "));
        text.push_str(&format!("{indent}{} {cause}\n", style.paint(Paint::Dim, "because:")));
    }
    if let Some(faults) = &error.faults {
        text.push('\n');
        text.push_str(faults.trim_end());
        text.push_str("\n\n");
    }
    if let Some(hint) = &error.hint {
        let hint = printable(hint).replace('\n', "\n        ");
        text.push_str(&format!("  {} {hint}\n", style.paint(Paint::Good, "hint:")));
    }
    text
}
