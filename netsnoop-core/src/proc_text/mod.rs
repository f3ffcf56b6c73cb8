//! `/proc` text -> rows, and how many lines could not be read.
//!
//! One bad line costs that line and no other, and no text makes a decoder panic. Nothing is opened
//! in here; joining rows with each other is the caller's.

pub mod cgroup;
pub mod fd_link;
pub mod fib_trie;
pub mod if_inet6;
pub mod net_table;
pub mod netlink_table;
pub mod packet_table;
pub mod process;
pub mod sctp_tables;
pub mod sockstat;
pub mod uid_map;

/// The rows of a text, one a line, and a count of the lines that could not be decoded.
///
/// A last line without its newline was cut off in the middle: its numbers may be short, so it is
/// rejected whatever it says.
#[derive(Clone, Debug)]
pub struct Rows<'a, D> {
    rest: &'a [u8],
    decode: D,
    rejected: u64,
}

impl<'a, D> Rows<'a, D> {
    const fn new(text: &'a [u8], decode: D) -> Self {
        Self { rest: text, decode, rejected: 0 }
    }

    /// How many of the lines passed so far could not be decoded.
    pub const fn rejected(&self) -> u64 {
        self.rejected
    }
}

impl<'a, R, D: FnMut(&'a [u8]) -> Option<R>> Iterator for Rows<'a, D> {
    type Item = R;

    fn next(&mut self) -> Option<R> {
        while let Some(line) = next_line(&mut self.rest) {
            match line.complete.and_then(&mut self.decode) {
                Some(row) => return Some(row),
                None => self.rejected += 1,
            }
        }
        None
    }
}

/// A line that may lack its end.
struct Line<'a> {
    /// The bytes before the newline; `None` if there was none.
    complete: Option<&'a [u8]>,
}

fn next_line<'a>(rest: &mut &'a [u8]) -> Option<Line<'a>> {
    if rest.is_empty() {
        return None;
    }
    let text = *rest;
    let Some((line, after)) = split_once(text, b'\n') else {
        *rest = &[];
        return Some(Line { complete: None });
    };
    *rest = after;
    Some(Line { complete: Some(line) })
}

/// The bytes before and after the first `separator`.
fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// The text after its first line, if that is a heading which begins with this word.
fn without_heading<'a>(text: &'a [u8], first_word: &[u8]) -> &'a [u8] {
    match split_once(text, b'\n') {
        Some((line, rest)) if words(line).next() == Some(first_word) => rest,
        _ => text,
    }
}

/// The words of a line, without the spaces and tabs between them.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty())
}

/// A number in decimal digits and nothing else.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(value)
    })
}

/// A number in hexadecimal digits and nothing else.
fn hexadecimal(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |number, digit| {
        let value = char::from(*digit).to_digit(16)?;
        number.checked_mul(16)?.checked_add(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_bad_line_costs_itself_and_a_cut_line_is_rejected() {
        let mut rows = Rows::new(b"1\nx\n3\n4", decimal);
        assert_eq!(rows.by_ref().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(rows.rejected(), 2);
    }

    #[test]
    fn numbers_take_their_digits_and_nothing_else() {
        for (digits, expected) in [
            ("", None),
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-1", None),
            ("1 ", None),
        ] {
            assert_eq!(decimal(digits.as_bytes()), expected, "{digits:?}");
        }
        for (digits, expected) in
            [("", None), ("0A", Some(10)), ("ffffFFFF", Some(u32::MAX)), ("100000000", None), ("g", None)]
        {
            assert_eq!(hexadecimal(digits.as_bytes()), expected, "{digits:?}");
        }
    }
}
