//! What came of work in the depot, for people.

use gridgate_protocol::depot_api::DepotReport;

use super::figures::bytes;
use super::table::{Align, Cell, Table};
use super::{Paint, Style};

/// How many things are listed; programs get all of them with `--json`.
const LISTED: usize = 40;

/// Hashes are shown up to here: enough to find the file.
const NAME: usize = 24;

/// The report: things one by one, the summary, what to do next.
pub fn text(report: &DepotReport, style: Style) -> String {
    let mut text = String::new();
    if !report.items.is_empty() {
        let mut table = Table::new(&[
            ("", Align::Left),
            ("NAME", Align::Left),
            ("SIZE", Align::Right),
            ("", Align::Left),
        ]);
        for item in report.items.iter().take(LISTED) {
            let name: String = item.name.chars().take(NAME).collect();
            let more = if item.name.chars().count() > NAME { "…" } else { "" };
            let size = if item.bytes == 0 { String::new() } else { bytes(item.bytes) };
            table.row([
                Cell::new(Paint::Dim, &item.folder),
                format!("{name}{more}").into(),
                size.into(),
                Cell::new(Paint::Dim, &item.remark),
            ]);
        }
        text += &table.render(style);
        let more = report.items.len().saturating_sub(LISTED);
        if more > 0 {
            text += &format!("and {more} more; `--json` lists all\n");
        }
        text.push('\n');
    }
    text += &format!("{}\n", report.summary);
    if !report.next.is_empty() {
        text += &format!("{} {}\n", style.paint(Paint::Dim, "next:"), report.next);
    }
    text
}

#[cfg(test)]
mod tests {
    use gridgate_protocol::depot_api::DepotItem;

    use super::*;

    #[test]
    fn lists_names_and_sizes() {
        let item = |name: &str, bytes| DepotItem {
            folder: "packages".into(),
            name: name.into(),
            bytes,
            remark: "no lock names it".into(),
        };
        let mut report = DepotReport { summary: "2 things removed".into(), ..Default::default() };
        report.items = vec![item("0123456789abcdef0123456789abcdef.deb", 3 << 20), item("b 1", 0)];
        insta::assert_snapshot!(text(&report, Style::new(false)));
        report.items = (0..50).map(|n| item(&n.to_string(), 1)).collect();
        assert!(text(&report, Style::new(false)).contains("and 10 more"));
    }
}
