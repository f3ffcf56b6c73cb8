//! A table whose columns are as wide as what is in them, within bounds: a cell that is wider pushes the rest of its line.
//! Text of all cells lies in one string, since there may be a hundred thousand lines.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use crate::sinks::line::{Line, Paint};

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// Its header.
    pub(super) header: &'static str,
    /// Whether it holds numbers, which stand at its right.
    pub(super) is_number: bool,
    /// How wide it gets at most.
    pub(super) width_max: usize,
    /// Whether it is left out if it is empty in every row.
    pub(super) is_optional: bool,
}

impl Column {
    /// A column of text.
    pub(super) const fn text(header: &'static str, width_max: usize) -> Self {
        Self { header, is_number: false, width_max, is_optional: false }
    }

    /// A column of numbers.
    pub(super) const fn number(header: &'static str) -> Self {
        Self { header, is_number: true, width_max: 12, is_optional: false }
    }

    /// A column of text that is left out if it is empty.
    pub(super) const fn optional(header: &'static str, width_max: usize) -> Self {
        Self { is_optional: true, ..Self::text(header, width_max) }
    }
}

/// Part of a cell.
#[derive(Clone, Copy, Debug)]
struct Piece {
    paint: Paint,
    /// Where its text ends in that of the table; it begins where the piece before ends.
    end: usize,
    /// Whether it ends its cell.
    ends_cell: bool,
}

/// A table that is being filled, cell by cell.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    text: String,
    pieces: Vec<Piece>,
}

impl Table {
    /// An empty one.
    pub(super) const fn new(columns: Vec<Column>) -> Self {
        Self { columns, text: String::new(), pieces: Vec::new() }
    }

    /// Adds to the current cell.
    pub(super) fn put(&mut self, paint: Paint, what: impl fmt::Display) {
        write!(self.text, "{what}").unwrap_or_else(|_| unreachable!("a String takes everything"));
        self.pieces.push(Piece { paint, end: self.text.len(), ends_cell: false });
    }

    /// Ends the current cell; the last one of a row ends the row.
    pub(super) fn end_cell(&mut self) {
        self.pieces.push(Piece { paint: Paint::Plain, end: self.text.len(), ends_cell: true });
    }

    /// Adds a whole cell.
    pub(super) fn cell(&mut self, paint: Paint, what: impl fmt::Display) {
        self.put(paint, what);
        self.end_cell();
    }

    /// Writes the rows, below a header if one is wanted.
    pub(super) fn write(&self, out: &mut impl Write, header: bool, color: bool) -> io::Result<()> {
        let layout = self.layout(header);
        if header {
            let mut line = Line::new(color);
            for (column, width) in self.columns.iter().zip(&layout) {
                let Some(width) = width else { continue };
                pad_before(&mut line, column, column.header.len(), *width);
                line.put(Paint::Faint, column.header);
                pad_after(&mut line, column, column.header.len(), *width);
            }
            writeln!(out, "{}", line.finish())?;
        }
        let mut cells = self.cells();
        loop {
            let mut line = Line::new(color);
            for (column, width) in self.columns.iter().zip(&layout) {
                let Some(cell) = cells.next() else { return Ok(()) };
                let Some(width) = *width else { continue };
                pad_before(&mut line, column, cell.width(), width);
                cell.parts().for_each(|(paint, text)| line.put(paint, text));
                pad_after(&mut line, column, cell.width(), width);
            }
            writeln!(out, "{}", line.finish())?;
        }
    }

    /// The width of each column; `None` leaves it out.
    fn layout(&self, header: bool) -> Vec<Option<usize>> {
        let mut widest = vec![0; self.columns.len()];
        let mut cells = self.cells();
        'rows: loop {
            for widest in &mut widest {
                let Some(cell) = cells.next() else { break 'rows };
                *widest = cell.width().max(*widest);
            }
        }
        let width = |(column, widest): (&Column, usize)| {
            let width = if header { widest.max(column.header.len()) } else { widest };
            (widest > 0 || !column.is_optional).then_some(width.min(column.width_max))
        };
        self.columns.iter().zip(widest).map(width).collect()
    }

    fn cells(&self) -> Cells<'_> {
        Cells { table: self, next: 0 }
    }
}

fn pad_before(line: &mut Line, column: &Column, cell: usize, width: usize) {
    if column.is_number {
        line.put(Paint::Plain, format_args!("{:1$}", "", width.saturating_sub(cell)));
    }
}

/// Two spaces part columns.
fn pad_after(line: &mut Line, column: &Column, cell: usize, width: usize) {
    let missing = if column.is_number { 0 } else { width.saturating_sub(cell) };
    line.put(Paint::Plain, format_args!("{:1$}", "", missing + 2));
}

struct Cells<'a> {
    table: &'a Table,
    next: usize,
}

#[derive(Clone, Copy)]
struct Cell<'a> {
    text: &'a str,
    /// Where `text` begins in that of the table.
    start: usize,
    pieces: &'a [Piece],
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = match self.next.checked_sub(1) {
            Some(last) => self.table.pieces.get(last)?.end,
            None => 0,
        };
        let rest = self.table.pieces.get(self.next..)?;
        let count = rest.iter().position(|piece| piece.ends_cell)?;
        let pieces = rest.get(..count)?;
        self.next += count + 1;
        let end = pieces.last().map_or(start, |piece| piece.end);
        Some(Cell { text: self.table.text.get(start..end)?, start, pieces })
    }
}

impl<'a> Cell<'a> {
    fn width(self) -> usize {
        self.text.chars().count()
    }

    fn parts(self) -> impl Iterator<Item = (Paint, &'a str)> {
        let mut from = 0;
        self.pieces.iter().map(move |piece| {
            let to = piece.end - self.start;
            let text = self.text.get(from..to).unwrap_or_default();
            from = to;
            (piece.paint, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 4]]) -> Table {
        let columns =
            vec![Column::text("A", 4), Column::number("B"), Column::optional("C", 9), Column::text("D", 9)];
        let mut table = Table::new(columns);
        for [a, b, c, d] in rows {
            table.cell(Paint::Plain, a);
            table.cell(Paint::User, b);
            table.cell(Paint::Faint, c);
            table.put(Paint::Process, d);
            table.put(Paint::Faint, "!");
            table.end_cell();
        }
        table
    }

    fn written(table: &Table, header: bool, color: bool) -> String {
        let mut out = Vec::new();
        table.write(&mut out, header, color).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [["a", "1", "", "x"], ["grün", "200", "", "yy"], ["wider than all", "3", "", "z"]];
        let expected = "A       B  D\na       1  x!\ngrün  200  yy!\nwider than all    3  z!\n";
        assert_eq!(written(&table(&rows), true, false), expected);
        assert_eq!(written(&table(&[["a", "1", "c", "x"]]), false, false), "a  1  c  x!\n");
        assert_eq!(written(&table(&[]), true, false), "A  B  D\n");
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let colored = written(&table(&[["a", "1", "c", "x"]]), false, true);
        assert_eq!(colored, "a  \x1b[36m1\x1b[0m  \x1b[2mc\x1b[0m  \x1b[1mx\x1b[0m\x1b[2m!\x1b[0m\n");
    }
}
