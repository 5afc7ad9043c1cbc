//! What an update changes, for people.

use gridgate_protocol::depot_api::{PackageChange, UpdateReport};

use super::table::{Align, Cell, Table};
use super::{Paint, Style};

/// Package by package; then what was done and what to do next.
pub fn text(report: &UpdateReport, style: Style) -> String {
    if report.changes.is_empty() && !report.written {
        return "nothing to update: the lock is as new as the archive\n".to_owned();
    }
    let mut table = Table::new(&[
        ("", Align::Left),
        ("PACKAGE", Align::Left),
        ("FROM", Align::Left),
        ("TO", Align::Left),
        ("", Align::Left),
        ("FOR", Align::Left),
    ]);
    for change in &report.changes {
        let (sign, paint) = sign(change);
        let mark = if change.security { "security" } else { "" };
        let version = |version: &Option<String>| version.clone().unwrap_or_default().into();
        let places: Vec<&str> =
            change.nodes.iter().chain(&change.tools).map(String::as_str).collect();
        table.row([
            Cell::new(paint, sign),
            Cell::new(Paint::Strong, &change.name),
            version(&change.from),
            version(&change.to),
            Cell::new(Paint::Warn, mark),
            Cell::new(Paint::Dim, places.join(" ")),
        ]);
    }
    let security = report.changes.iter().filter(|change| change.security).count();
    let count = report.changes.len();
    let mut text =
        format!("{}\n{count} packages change, {security} for security\n", table.render(style));
    text += &match &report.kept {
        Some(path) => format!(
            "the lock is new, the earlier one is {}\n{} `gridgate up` rolls it out\n",
            path.display(),
            style.paint(Paint::Dim, "next:")
        ),
        None => {
            "nothing was changed; `gridgate update` without --plan writes the lock\n".to_owned()
        }
    };
    text
}

fn sign(change: &PackageChange) -> (&'static str, Paint) {
    match (&change.from, &change.to) {
        (None, _) => ("+", Paint::Good),
        (_, None) => ("-", Paint::Bad),
        _ => ("~", Paint::Busy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_every_kind_of_change() {
        let change = |name: &str, from: Option<&str>, to: Option<&str>, security| PackageChange {
            name: name.into(),
            from: from.map(Into::into),
            to: to.map(Into::into),
            security,
            nodes: vec!["ce".into(), "wn1".into()],
            tools: Vec::new(),
        };
        let changes = vec![
            change("libssl3t64", Some("3.5.1-1"), Some("3.5.1-1+deb13u1"), true),
            change("new", None, Some("1"), false),
            change("old", Some("1"), None, false),
        ];
        let mut report = UpdateReport { changes, kept: None, written: false };
        let planned = text(&report, Style::new(false));
        report.kept = Some("/h/sites/dublin/locks/20260912T075541Z.lock".into());
        report.written = true;
        insta::assert_snapshot!(planned + "---\n" + &text(&report, Style::new(false)));
        assert!(text(&UpdateReport::default(), Style::new(false)).starts_with("nothing to update"));
    }
}
