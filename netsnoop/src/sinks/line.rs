//! A line for a terminal while it is put together: pieces with colours, columns counted without them.

use std::fmt::{self, Write as _};

/// How a piece of a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Paint {
    Plain,
    Faint,
    User,
    Process,
    Container,
    Service,
    Doubt,
    Bad,
}

impl Paint {
    /// The SGR parameters (ECMA-48, 8.3.117): the eight plain colours, which every theme has.
    pub(super) const fn sgr(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Faint => "2",
            Self::User => "36",
            Self::Process => "1",
            Self::Container => "35",
            Self::Service => "32",
            Self::Doubt => "33",
            Self::Bad => "31",
        }
    }
}

/// A line that is being put together. Columns are counted in characters, colours left out.
pub(super) struct Line {
    text: String,
    column: usize,
    color: bool,
}

impl Line {
    /// An empty one.
    pub(super) const fn new(color: bool) -> Self {
        Self { text: String::new(), column: 0, color }
    }

    /// How many characters it has.
    pub(super) const fn column(&self) -> usize {
        self.column
    }

    /// All of it, without the padding at its end.
    pub(super) fn finish(&self) -> &str {
        self.text.trim_end()
    }

    /// Adds a piece.
    pub(super) fn put(&mut self, paint: Paint, what: impl fmt::Display) {
        let colored = self.color && paint != Paint::Plain;
        if colored {
            self.push(format_args!("\x1b[{}m", paint.sgr()));
        }
        let before = self.text.len();
        self.push(format_args!("{what}"));
        self.column += self.text.get(before..).unwrap_or_default().chars().count();
        if colored {
            self.push(format_args!("\x1b[0m"));
        }
    }

    fn push(&mut self, what: fmt::Arguments<'_>) {
        self.text.write_fmt(what).unwrap_or_else(|_| unreachable!("a String takes everything"));
    }

    /// Pads what was added since column `start` to `width`.
    pub(super) fn pad_from(&mut self, start: usize, width: usize) {
        let missing = (start + width).saturating_sub(self.column);
        self.put(Paint::Plain, format_args!("{:missing$}", ""));
    }
}
