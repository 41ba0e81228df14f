//! Tables without lines: columns that stand under their headings, and lines that cut and sort like any text.

use comfy_table::{ContentArrangement, Table as Inner, presets};

/// Rows under headings.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut table = Self {
            rows: Vec::new(),
            widths: vec![0; headings.len()],
        };
        table.row(headings.iter().map(|h| (*h).to_owned()).collect());
        table
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count());
        }
        self.rows.push(cells);
    }

    /// Makes columns at least so wide, for rows that are still to come.
    pub(crate) fn widen(&mut self, widths: &[usize]) {
        for (width, least) in self.widths.iter_mut().zip(widths) {
            *width = (*width).max(*least);
        }
    }

    /// The lines, without spaces at their ends.
    pub(crate) fn render(&self) -> String {
        self.lay(&self.rows)
    }

    /// Columns of the widest line.
    pub(crate) fn width(&self) -> usize {
        // Two spaces between columns.
        self.widths.iter().sum::<usize>() + 2 * self.widths.len().saturating_sub(1)
    }

    /// The lines, all of them as wide as the widest, for something to stand behind them.
    pub(crate) fn render_padded(&self) -> Vec<String> {
        let width = self.width();
        let text = self.render();
        text.lines().map(|line| format!("{line:<width$}")).collect()
    }

    /// Another row under the same columns, for a table that was rendered before.
    pub(crate) fn later(&self, cells: Vec<String>) -> String {
        self.lay(&[cells])
    }

    fn lay(&self, rows: &[Vec<String>]) -> String {
        let mut table = plain();
        for row in rows {
            let padded = row.iter().zip(&self.widths);
            table.add_row(padded.map(|(cell, width)| format!("{cell:<width$}")));
        }
        trimmed(&table)
    }
}

fn plain() -> Inner {
    let mut table = Inner::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn trimmed(table: &Inner) -> String {
    let lines: Vec<String> = table
        .lines()
        // The space before the first column, which borders would have needed.
        .map(|line| {
            line.strip_prefix(' ')
                .unwrap_or(&line)
                .trim_end()
                .to_owned()
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_later_rows_with_them() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(vec!["thumbnail".to_owned(), "1".to_owned()]);
        assert_eq!(table.render(), "NAME       N\nthumbnail  1");
        assert_eq!(
            table.later(vec!["wc".to_owned(), "22".to_owned()]),
            "wc         22"
        );
    }
}
