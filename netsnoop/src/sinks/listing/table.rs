//! A table whose columns are as wide as what is in them, within bounds: a cell that is wider pushes the rest of its line.
//!
//! There may be a hundred thousand lines, and most of the time that a list takes outside of the kernel is spent here: text
//! of all cells lies in one string, each is measured once, as it comes, and lines are put together in one page.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use crate::memory::room_for;
use crate::sinks::line::Paint;

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

/// A cell, whose text begins where that of the cell before ends.
#[derive(Clone, Copy, Default, Debug)]
struct Cell {
    /// Bytes of its text, colours among them.
    bytes: u32,
    /// How many characters of it are seen.
    width: u32,
}

impl Cell {
    /// No cell has gigabytes.
    fn new(bytes: usize, width: usize) -> Self {
        let [bytes, width] = [bytes, width].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        Self { bytes, width }
    }
}

/// Bytes of a row, as a rule.
const ROW_BYTES: usize = 80;
/// Lines are handed on when there are this many bytes of them.
const PAGE_BYTES: usize = 1 << 16;

/// A table that is being filled, cell by cell.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    color: bool,
    text: String,
    cells: Vec<Cell>,
    /// The cell that is being filled.
    current: Cell,
}

impl Table {
    /// An empty one, with room for this many rows.
    pub(super) fn new(columns: Vec<Column>, color: bool, rows: usize) -> Self {
        let text = String::from_utf8(room_for(rows * ROW_BYTES)).unwrap_or_default();
        let cells = room_for(rows * columns.len());
        Self { columns, color, text, cells, current: Cell::default() }
    }

    /// Adds what `write` writes to the current cell.
    pub(super) fn put_by(&mut self, paint: Paint, write: impl FnOnce(&mut String) -> fmt::Result) {
        let text = &mut self.text;
        let start = text.len();
        let width = painted(text, self.color.then_some(paint), write);
        let added = Cell::new(text.len() - start, width);
        self.current.bytes += added.bytes;
        self.current.width += added.width;
    }

    /// Adds to the current cell.
    pub(super) fn put(&mut self, paint: Paint, what: impl fmt::Display) {
        self.put_by(paint, |text| write!(text, "{what}"));
    }

    /// Ends the current cell; the last one of a row ends the row.
    pub(super) fn end_cell(&mut self) {
        self.cells.push(std::mem::take(&mut self.current));
    }

    /// Adds a whole cell, which `write` writes.
    pub(super) fn cell_by(&mut self, paint: Paint, write: impl FnOnce(&mut String) -> fmt::Result) {
        self.put_by(paint, write);
        self.end_cell();
    }

    /// Adds a whole cell.
    pub(super) fn cell(&mut self, paint: Paint, what: impl fmt::Display) {
        self.put(paint, what);
        self.end_cell();
    }

    /// How wide each column is at least, for what is in it.
    fn widest(&self) -> Vec<usize> {
        let mut widest = vec![0; self.columns.len()];
        for row in self.cells.chunks_exact(self.columns.len()) {
            widest
                .iter_mut()
                .zip(row)
                .for_each(|(widest, cell)| *widest = (cell.width as usize).max(*widest));
        }
        widest
    }

    /// Adds the line of headers.
    fn add_header(&self, page: &mut String, layout: &Layout) {
        let mut text = String::new();
        let cells = self.columns.iter().map(|column| {
            let start = text.len();
            let paint = self.color.then_some(Paint::Faint);
            let width = painted(&mut text, paint, |text| text.write_str(column.header));
            Cell::new(text.len() - start, width)
        });
        let cells: Vec<Cell> = cells.collect();
        layout.add_line(page, &cells, &text);
    }
}

/// Writes the rows of `parts`, which have the same columns, as one table, below a header if one is wanted.
pub(super) fn write(parts: &[Table], out: &mut impl Write, header: bool) -> io::Result<()> {
    let Some(first) = parts.first() else { return Ok(()) };
    let layout = Layout::of(parts, header);
    let mut page = String::with_capacity(2 * PAGE_BYTES);
    if header {
        first.add_header(&mut page, &layout);
    }
    for table in parts {
        let mut rest = table.text.as_str();
        for row in table.cells.chunks_exact(table.columns.len()) {
            let bytes = row.iter().map(|cell| cell.bytes as usize).sum();
            let (text, after) = rest.split_at(bytes);
            rest = after;
            layout.add_line(&mut page, row, text);
            if page.len() >= PAGE_BYTES {
                out.write_all(page.as_bytes())?;
                page.clear();
            }
        }
    }
    out.write_all(page.as_bytes())
}

/// The width of each column and whether it holds numbers; `None` leaves it out.
struct Layout(Vec<Option<(usize, bool)>>);

impl Layout {
    fn of(parts: &[Table], header: bool) -> Self {
        let columns = parts.first().map(|table| table.columns.as_slice()).unwrap_or_default();
        let mut widest = vec![0; columns.len()];
        for own in parts.iter().map(Table::widest) {
            widest.iter_mut().zip(own).for_each(|(widest, own)| *widest = own.max(*widest));
        }
        let width = |(column, widest): (&Column, usize)| {
            let width = if header { widest.max(column.header.len()) } else { widest };
            let is_shown = widest > 0 || !column.is_optional;
            is_shown.then_some((width.min(column.width_max), column.is_number))
        };
        Self(columns.iter().zip(widest).map(width).collect())
    }

    /// Adds a row to the page. Two spaces part columns; what stands at the end of a line is not padded.
    fn add_line(&self, page: &mut String, cells: &[Cell], mut text: &str) {
        let start = page.len();
        let mut gap = 0;
        for (cell, column) in cells.iter().zip(&self.0) {
            let (own, rest) = text.split_at(cell.bytes as usize);
            text = rest;
            let Some((width, is_number)) = *column else { continue };
            let missing = width.saturating_sub(cell.width as usize);
            let (before, after) = if is_number { (missing, 0) } else { (0, missing) };
            add_spaces(page, gap + before);
            page.push_str(own);
            gap = after + 2;
        }
        page.truncate(start + page.get(start..).unwrap_or_default().trim_end().len());
        page.push('\n');
    }
}

/// Adds what `write` writes, in a colour if one is given, and tells how many characters of it are seen.
fn painted(text: &mut String, paint: Option<Paint>, write: impl FnOnce(&mut String) -> fmt::Result) -> usize {
    let sgr = paint.filter(|paint| *paint != Paint::Plain).map(Paint::sgr);
    if let Some(sgr) = sgr {
        text.extend(["\x1b[", sgr, "m"]);
    }
    let start = text.len();
    write(text).unwrap_or_else(|_| unreachable!("a String takes everything"));
    let written = text.get(start..).unwrap_or_default();
    let width = if written.is_ascii() { written.len() } else { written.chars().count() };
    if sgr.is_some() {
        text.push_str("\x1b[0m");
    }
    width
}

fn add_spaces(page: &mut String, mut count: usize) {
    const SPACES: &str = "                                                                ";
    while count > 0 {
        let some = count.min(SPACES.len());
        page.push_str(SPACES.split_at(some).0);
        count -= some;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 4]], color: bool) -> Table {
        let columns =
            vec![Column::text("A", 4), Column::number("B"), Column::optional("C", 9), Column::text("D", 9)];
        let mut table = Table::new(columns, color, rows.len());
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

    fn written(table: &Table, header: bool) -> String {
        let mut out = Vec::new();
        write(std::slice::from_ref(table), &mut out, header).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [["a", "1", "", "x"], ["grün", "200", "", "yy"], ["wider than all", "3", "", "z"]];
        let expected = "A       B  D\na       1  x!\ngrün  200  yy!\nwider than all    3  z!\n";
        assert_eq!(written(&table(&rows, false), true), expected);
        assert_eq!(written(&table(&[["a", "1", "c", "x"]], false), false), "a  1  c  x!\n");
        assert_eq!(written(&table(&[], false), true), "A  B  D\n");
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let colored = written(&table(&[["a", "1", "c", "x"]], true), false);
        assert_eq!(colored, "a  \x1b[36m1\x1b[0m  \x1b[2mc\x1b[0m  \x1b[1mx\x1b[0m\x1b[2m!\x1b[0m\n");
    }
}
