//! Text of strangers (process names, paths, container names) made harmless for a terminal: what could move the
//! cursor, change colours or reorder the line is shown as an escape. It does not judge what the text says.

use std::fmt::{self, Write};

use serde_json::ser::Formatter;

/// Whether a terminal may take `c` for more than a glyph: control characters (C0, DEL, C1), line and paragraph
/// separators, and the marks that change the direction of text (Unicode annex 9, section 2).
pub(super) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Shows text for a terminal. A backslash is doubled, so that an escape cannot be forged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Escaped<'_> {
    /// Writes it. Most names need no escape and are written as they are.
    pub(super) fn write_to(self, out: &mut impl Write) -> fmt::Result {
        if self.0.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\') {
            return out.write_str(self.0);
        }
        for c in self.0.chars() {
            if c == '\\' || is_unsafe(c) {
                write!(out, "{}", c.escape_default())?;
            } else {
                out.write_char(c)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

/// Compact JSON whose strings are harmless on a terminal. JSON itself asks only for C0 to be escaped (RFC 8259,
/// section 7), which leaves DEL and C1 raw.
#[derive(Clone, Copy, Debug)]
pub(super) struct TerminalSafeJson;

impl Formatter for TerminalSafeJson {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> std::io::Result<()>
    where
        W: ?Sized + std::io::Write,
    {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_unsafe(*c)) {
            let (before, from) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            // Every unsafe character is in the Basic Multilingual Plane: one escape suffices.
            write!(writer, "\\u{:04x}", u32::from(c))?;
            rest = from.get(c.len_utf8()..).unwrap_or_default();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Serialize;
    use serde_json::Serializer;

    use super::*;

    fn json(text: &str) -> String {
        let mut line = Vec::new();
        text.serialize(&mut Serializer::with_formatter(&mut line, TerminalSafeJson)).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn what_moves_the_cursor_is_spelled_out() {
        let check = |text: &str, shown: &str, in_json: &str| {
            assert_eq!(Escaped(text).to_string(), shown);
            assert_eq!(json(text), in_json);
        };
        check("curl", "curl", r#""curl""#);
        check("Web Content", "Web Content", r#""Web Content""#);
        check("\u{1b}[2J", "\\u{1b}[2J", r#""\u001b[2J""#);
        check("a\u{7f}\u{9b}b", "a\\u{7f}\\u{9b}b", r#""a\u007f\u009bb""#);
        check("\u{202e}lruc", "\\u{202e}lruc", r#""\u202elruc""#);
        check("a\\nb\n", "a\\\\nb\\n", r#""a\\nb\n""#);
        check("grün", "grün", r#""grün""#);
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left_and_json_says_the_same(text in any::<String>()) {
            prop_assert!(!Escaped(&text).to_string().contains(is_unsafe));
            let line = json(&text);
            prop_assert!(!line.contains(is_unsafe));
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
