//! YAML text as a tree in which everything knows where it stands. What its keys mean is left to the readers.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

/// Nodes of a file, those that aliases repeat counted each time: no configuration has as many, and a few lines of
/// aliases of aliases could ask for billions.
const NODES_MAX: usize = 100_000;
/// Lists in lists in lists.
const DEPTH_MAX: usize = 32;

/// A place in a text, both counted from one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Position {
    /// The line.
    pub(super) line: usize,
    /// The character in it.
    pub(super) column: usize,
}

/// Something in the text.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it begins.
    pub(super) at: Position,
    /// What it is.
    pub(super) value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing: `key:` with no more, `~` or `null`.
    Null,
    /// Any text, number or truth value: what it is meant to be is for whoever reads it.
    Scalar(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and values, in their order; no key stands twice.
    Map(Vec<(Key, Node)>),
}

/// A key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Where it begins.
    pub(super) at: Position,
    /// Its text.
    pub(super) text: String,
}

/// Why a text is no YAML that configures anything.
#[derive(Debug)]
pub(super) struct Malformed {
    /// Where.
    pub(super) at: Position,
    /// What is wrong.
    pub(super) what: String,
}

/// Reads a text. An empty one is `Null`.
pub(super) fn parse(text: &str) -> Result<Node, Malformed> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut root = Node { at: Position { line: 1, column: 1 }, value: Value::Null };
    let mut documents = 0;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(root),
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            _ if documents > 0 => {
                return Err(malformed(span, "a second document (---): one is all there may be"));
            }
            event => {
                root = reader.node(event, span, 0)?;
                documents += 1;
            }
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Malformed> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Malformed::from(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Malformed> {
        self.nodes += 1;
        if self.nodes > NODES_MAX || depth > DEPTH_MAX {
            return Err(malformed(span, "too much, or too deeply nested, for a configuration"));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(text, style), anchor),
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(anchor) => return self.repeated(anchor, span),
            _ => return Err(malformed(span, "a value is expected")),
        };
        let node = Node { at: position(span), value };
        // Zero is none.
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn repeated(&mut self, anchor: usize, span: Span) -> Result<Node, Malformed> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(malformed(span, "this alias stands inside of what it names"));
        };
        self.nodes += count(&node);
        if self.nodes > NODES_MAX {
            return Err(malformed(span, "the aliases repeat too much for a configuration"));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Malformed> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Malformed> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(Value::Map(entries)),
                Event::Scalar(text, ..) => Key { at: position(span), text: text.into_owned() },
                _ => return Err(malformed(span, "a key is expected, which is a plain word")),
            };
            if let Some((first, _)) = entries.iter().find(|(known, _)| known.text == key.text) {
                let what = format!("the key '{}' stands in line {} already", key.text, first.at.line);
                return Err(malformed(span, &what));
            }
            let (event, span) = self.next()?;
            entries.push((key, self.node(event, span, depth + 1)?));
        }
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value {
    // YAML 1.2, section 10.3.2: what stands for nothing, if it is not quoted.
    let is_null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
    if is_null { Value::Null } else { Value::Scalar(text.into_owned()) }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::Null | Value::Scalar(_) => 0,
        Value::List(items) => items.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|(_, node)| count(node)).sum(),
    }
}

fn position(span: Span) -> Position {
    // The parser counts columns from zero.
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

fn malformed(span: Span, what: &str) -> Malformed {
    Malformed { at: position(span), what: what.to_owned() }
}

impl From<&ScanError> for Malformed {
    fn from(error: &ScanError) -> Self {
        let at = Position { line: error.marker().line(), column: error.marker().col() + 1 };
        Self { at, what: error.info().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tree as one line.
    fn show(node: &Node) -> String {
        match &node.value {
            Value::Null => "-".to_owned(),
            Value::Scalar(text) => text.clone(),
            Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
            Value::Map(entries) => {
                let show = |(key, node): &(Key, Node)| format!("{}={}", key.text, show(node));
                format!("{{{}}}", entries.iter().map(show).collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[test]
    fn a_text_is_the_tree_it_looks_like() {
        let check = |text: &str, expected: &str| assert_eq!(show(&parse(text).unwrap()), expected, "{text}");
        check("", "-");
        check("# only a comment\n", "-");
        check("---\na: 1\nb: [x, 'null', null, ~]\n", "{a=1 b=[x null - -]}");
        check("a: &all [1, 2]\nb: *all\n", "{a=[1 2] b=[1 2]}");
        check("a:\n  - b: 2\n    c:\n  - d\n", "{a=[{b=2 c=-} d]}");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let check = |text: &str, line, column, what: &str| {
            let error = parse(text).unwrap_err();
            assert_eq!(error.at, Position { line, column }, "{text}: {}", error.what);
            assert!(error.what.contains(what), "{text}: {}", error.what);
        };
        check("a: 1\nb: 2\na: 3\n", 3, 1, "'a' stands in line 1");
        check("a: 1\n---\nb: 2\n", 3, 1, "second document");
        check("a: *none\n", 1, 4, "");
        check("? [1]\n: 2\n", 1, 3, "a key is expected");
        let bomb: String = ('b'..'j')
            .map(|letter| {
                let before = (letter as u8 - 1) as char;
                format!("{letter}: &{letter} [{}]\n", vec![format!("*{before}"); 10].join(", "))
            })
            .collect();
        let error = parse(&format!("a: &a x\n{bomb}")).unwrap_err();
        assert!(error.what.contains("repeat too much"), "{}", error.what);
        let deep = "[".repeat(40);
        assert!(parse(&deep).unwrap_err().what.contains("deeply nested"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[ -~\n\u{e9}]{0,200}") {
            if let Ok(node) = parse(&text) {
                prop_assert!(count(&node) <= NODES_MAX);
            }
        }
    }
}
