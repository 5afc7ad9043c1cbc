//! How nodes differ from their profiles: a heading per node, a line per resource, its difference below.

use gridgate_protocol::agent_api::Outcome;
use gridgate_protocol::drift::{Difference, Drift, DriftReport, PutBack, PutBackEntry};
use serde::Serialize;

use super::figures::{millis, printable};
use super::{Paint, Style, screen};
use crate::commands::drift::NodeDrift;
use crate::settings::Settings;

/// All nodes.
pub fn nodes(found: &[NodeDrift], style: Style) -> String {
    let mut text = String::new();
    for node in found {
        let name = style.paint(Paint::Strong, &node.node);
        match (&node.report, &node.error) {
            (Some(report), _) => {
                text.push_str(&format!("{name}  {}\n", heading(report, style)));
                text.extend(report.drifts.iter().map(|drift| resource(drift, style)));
                if report.left_out > 0 {
                    text.push_str(&format!("  … and {} more\n", report.left_out));
                }
                text.push_str(&put_back(report, style));
            }
            (None, Some(error)) => {
                let why = std::iter::once(error.what.as_str())
                    .chain(error.why.iter().map(String::as_str))
                    .collect::<Vec<_>>()
                    .join(": ");
                text.push_str(&format!("{name}  {}\n", style.paint(Paint::Bad, &printable(&why))));
            }
            (None, None) => {}
        }
    }
    text
}

/// A line for each entry beyond the first `told` ones, as far as they are remembered.
pub fn followed(node: &str, put_back: &PutBack, told: u64, settings: &Settings) {
    let new = usize::try_from(put_back.count - told).unwrap_or(usize::MAX);
    let start = put_back.last.len().saturating_sub(new);
    for entry in &put_back.last[start..] {
        if settings.json {
            screen::json_line(&Followed { node, entry });
            continue;
        }
        let what = format!("{} {} ({})", entry.kind, entry.name, entry.what);
        let (text, paint) = match &entry.failed {
            None => (format!("put back: {what}"), Paint::Good),
            Some(why) => (format!("not put back: {what}: {why}"), Paint::Bad),
        };
        let text = settings.style.paint(paint, &printable(&text));
        screen::line(&format!("{}  {text}", settings.style.paint(Paint::Strong, node)));
    }
}

#[derive(Serialize)]
struct Followed<'a> {
    node: &'a str,
    entry: &'a PutBackEntry,
}

/// Whether something could not be put back.
pub fn put_back_failed(report: &DriftReport) -> bool {
    report.put_back.iter().any(|done| matches!(done.outcome, Outcome::Failed(_)))
}

fn heading(report: &DriftReport, style: Style) -> String {
    if report.version.is_none() {
        return style.paint(Paint::Warn, "nothing has been applied yet");
    }
    let time = millis(report.millis);
    let differ = report.drifts.len() as u64 + u64::from(report.left_out);
    if differ == 0 {
        let text = format!("as its profile says; {} resources compared", report.unchanged);
        return format!("{} ({time})", style.paint(Paint::Good, &text));
    }
    let verb = if differ == 1 { "resource differs" } else { "resources differ" };
    let text = format!("{differ} {verb}, {} are as the profile says", report.unchanged);
    format!("{} ({time})", style.paint(Paint::Warn, &text))
}

fn resource(drift: &Drift, style: Style) -> String {
    let differences: Vec<String> = drift.differences.iter().map(difference).collect();
    let component = match drift.component.as_str() {
        "" => String::new(),
        component => style.paint(Paint::Dim, &format!("  ({component})")),
    };
    let mut text = format!(
        "  {} {}: {}{component}\n",
        drift.kind,
        style.paint(Paint::Strong, &printable(&drift.name)),
        differences.join("; "),
    );
    for line in drift.diff.iter().flat_map(|diff| diff.lines()) {
        let paint = match line.as_bytes().first() {
            Some(b'-') => Paint::Bad,
            Some(b'+') => Paint::Good,
            Some(b'@') => Paint::Busy,
            _ => Paint::Plain,
        };
        text.push_str(&format!("      {}\n", style.paint(paint, &printable(line))));
    }
    text
}

fn difference(difference: &Difference) -> String {
    let Difference { what, found, wanted } = difference;
    let text = match (found, wanted) {
        (Some(found), Some(wanted)) => format!("{what} {found}, wanted {wanted}"),
        (Some(found), None) => format!("{what}: {found}"),
        (None, Some(wanted)) => format!("{what} is not {wanted}"),
        (None, None) => format!("{what} differs"),
    };
    printable(&text)
}

fn put_back(report: &DriftReport, style: Style) -> String {
    let line = |text: &str, paint| format!("  {}\n", style.paint(paint, &printable(text)));
    let done = report.put_back.iter().map(|done| match &done.outcome {
        Outcome::Changed => line(&format!("put back: {} {}", done.kind, done.name), Paint::Good),
        Outcome::Failed(why) => {
            line(&format!("not put back: {} {}: {why}", done.kind, done.name), Paint::Bad)
        }
    });
    done.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_and_a_secret() {
        let drift = |name: &str, differences, diff| Drift {
            kind: "file".into(),
            name: name.into(),
            component: "slurm".into(),
            differences,
            diff,
        };
        let report = DriftReport {
            version: Some("1".into()),
            drifts: vec![
                drift(
                    "/etc/slurm.conf",
                    vec![Difference::new("mode", "0600", "0644")],
                    Some("@@ -1 +1 @@\n-a\n+b\u{1b}[2J\n".into()),
                ),
                drift("/etc/munge.key", vec![Difference::hidden("content")], None),
            ],
            unchanged: 30,
            millis: 12,
            ..DriftReport::default()
        };
        let node = NodeDrift { node: "ce".into(), report: Some(report), error: None };
        let text = nodes(&[node], Style::new(false));
        assert!(text.starts_with("ce  2 resources differ, 30 are as the profile says (12 ms)\n"));
        assert!(
            text.contains("  file /etc/slurm.conf: mode 0600, wanted 0644  (slurm)\n"),
            "{text}"
        );
        assert!(text.contains("      -a\n"), "{text}");
        assert!(!text.contains('\u{1b}'), "a guest's escape codes do not reach the terminal");
        assert!(text.contains("  file /etc/munge.key: content differs"), "{text}");
    }
}
