//! Aligned columns without borders. Widths are counted in characters of the text, colour comes after.

use super::{Paint, Style};

/// One field of a table.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    /// Text with a meaning.
    pub fn new(paint: Paint, text: impl Into<String>) -> Cell {
        Cell { text: text.into(), paint }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::new(Paint::Plain, text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::new(Paint::Plain, text)
    }
}

/// Which edge of its column a field keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Figures.
    Right,
}

/// Rows of equal length below a heading.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table of these columns. When all their names are empty, no heading is shown.
    pub fn new(columns: &[(&'static str, Align)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; fields that are missing stay empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text, a line per row, each ending with a newline, without blanks at line ends.
    pub fn render(&self, style: Style) -> String {
        let heading: Vec<Cell> =
            self.columns.iter().map(|(name, _)| Cell::new(Paint::Dim, *name)).collect();
        let headed = self.columns.iter().any(|(name, _)| !name.is_empty());
        let lines: Vec<&Vec<Cell>> =
            headed.then_some(&heading).into_iter().chain(self.rows.iter()).collect();
        let widths: Vec<usize> =
            (0..self.columns.len()).map(|column| width(&lines, column)).collect();
        lines.iter().map(|cells| self.line(cells, &widths, style)).collect()
    }

    fn line(&self, cells: &[Cell], widths: &[usize], style: Style) -> String {
        let last = cells.iter().rposition(|cell| !cell.text.is_empty());
        let mut line = String::new();
        for (index, cell) in cells.iter().enumerate().take(last.map_or(0, |last| last + 1)) {
            let gap = " ".repeat(widths[index].saturating_sub(cell.text.chars().count()));
            let painted = style.paint(cell.paint, &cell.text);
            if index > 0 {
                line.push_str("  ");
            }
            match self.columns[index].1 {
                Align::Right => line.extend([gap.as_str(), &painted]),
                Align::Left if Some(index) == last => line.push_str(&painted),
                Align::Left => line.extend([painted.as_str(), &gap]),
            }
        }
        line.push('\n');
        line
    }
}

fn width(lines: &[&Vec<Cell>], column: usize) -> usize {
    let widths = lines.iter().filter_map(|cells| cells.get(column));
    widths.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_does_not_shift_columns() {
        let mut table =
            Table::new(&[("NAME", Align::Left), ("N", Align::Right), ("", Align::Left)]);
        table.row([Cell::new(Paint::Good, "ce"), "12".into(), "✓ well".into()]);
        table.row(["storage".into(), "3".into(), Cell::default()]);
        assert_eq!(
            table.render(Style::new(false)),
            "NAME      N\nce       12  ✓ well\nstorage   3\n"
        );
        let coloured = table.render(Style::new(true));
        assert!(coloured.contains("\u{1b}[32mce\u{1b}[0m       12"), "{coloured:?}");
    }
}
