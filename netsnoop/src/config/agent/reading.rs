//! Reading a tree of YAML as what it is meant to be. All that is wrong is collected, each with its place and key, so
//! that one look at the file mends it all.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use super::yaml::{self, Node, Position, Value};

/// Something wrong in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Problem {
    at: Position,
    /// The key it is about, from the top down; empty for the file itself.
    key: String,
    what: String,
}

/// All that is wrong in a file.
#[derive(Debug)]
pub(super) struct Problems {
    file: PathBuf,
    found: Vec<Problem>,
}

impl Problems {
    /// None yet.
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), found: Vec::new() }
    }

    /// The tree of `text`; `None` if it is none.
    pub(super) fn parse(&mut self, text: &str) -> Option<Node> {
        match yaml::parse(text) {
            Ok(node) => Some(node),
            Err(error) => {
                self.found.push(Problem { at: error.at, key: String::new(), what: error.what });
                None
            }
        }
    }

    /// `result`, if nothing was wrong.
    pub(super) fn settle<T>(self, result: T) -> anyhow::Result<T> {
        if self.found.is_empty() { Ok(result) } else { Err(anyhow::Error::msg(self.to_string())) }
    }
}

/// A line each, in the file's order, as compilers have it: file, line, column, key, what is wrong.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut found: Vec<_> = self.found.iter().collect();
        found.sort_by_key(|problem| problem.at);
        for (number, Problem { at, key, what }) in found.into_iter().enumerate() {
            let line_break = if number == 0 { "" } else { "\n" };
            let separator = if key.is_empty() { "" } else { ": " };
            let file = self.file.display();
            write!(f, "{line_break}{file}:{}:{}: ", at.line, at.column)?;
            write_on_a_line(f, &format!("{key}{separator}{what}"))?;
        }
        Ok(())
    }
}

/// Text of the file may hold line breaks and what else terminals obey.
fn write_on_a_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.chars().try_for_each(|letter| match letter.is_control() {
        true => write!(f, "{}", letter.escape_default()),
        false => f.write_char(letter),
    })
}

/// A node and the key it stands at.
#[derive(Clone, Debug)]
pub(super) struct Item<'a> {
    node: &'a Node,
    key: String,
}

/// What stands below a key.
#[derive(Clone, Debug)]
pub(super) struct Section<'a> {
    key: String,
    entries: Vec<(&'a str, Item<'a>)>,
}

impl<'a> Item<'a> {
    /// The whole file.
    pub(super) const fn root(node: &'a Node) -> Self {
        Self { node, key: String::new() }
    }

    /// Enters that something is wrong with it, unless something is already: that would be a consequence.
    pub(super) fn refuse(&self, problems: &mut Problems, what: impl Into<String>) {
        let is_known = |problem: &Problem| problem.at == self.node.at && problem.key == self.key;
        if !problems.found.iter().any(is_known) {
            problems.found.push(Problem { at: self.node.at, key: self.key.clone(), what: what.into() });
        }
    }

    /// Whether nothing stands there, or a list of nothing.
    const fn is_empty(&self) -> bool {
        match &self.node.value {
            Value::Null => true,
            Value::List(items) => items.is_empty(),
            Value::Scalar(_) | Value::Map(_) => false,
        }
    }

    /// The line it begins in.
    pub(super) const fn line(&self) -> usize {
        self.node.at.line
    }

    /// Its keys, which must be among `known`. Nothing at all is no keys.
    pub(super) fn section(&self, problems: &mut Problems, known: &[&str]) -> Section<'a> {
        let entries = match &self.node.value {
            Value::Null => &[][..],
            Value::Map(entries) => entries.as_slice(),
            Value::Scalar(_) | Value::List(_) => {
                self.refuse(problems, format!("keys are expected here: {}", known.join(", ")));
                &[]
            }
        };
        let mut section = Section { key: self.key.clone(), entries: Vec::new() };
        for (key, node) in entries {
            let path = section.path(&key.text);
            if known.contains(&&*key.text) {
                section.entries.push((&key.text, Item { node, key: path }));
            } else {
                problems.found.push(Problem { at: key.at, key: path, what: unknown_key(&key.text, known) });
            }
        }
        section
    }

    /// Its keys, which may be any.
    pub(super) fn open_section(&self, problems: &mut Problems) -> Vec<(&'a str, Item<'a>)> {
        match &self.node.value {
            Value::Null => Vec::new(),
            Value::Map(entries) => {
                let path = Section { key: self.key.clone(), entries: Vec::new() };
                let item = |(key, node): &'a (yaml::Key, Node)| {
                    (&*key.text, Item { node, key: path.path(&key.text) })
                };
                entries.iter().map(item).collect()
            }
            Value::Scalar(_) | Value::List(_) => {
                self.refuse(problems, "keys with values are expected here");
                Vec::new()
            }
        }
    }

    /// Its items; one value alone is a list of it.
    pub(super) fn list(&self, problems: &mut Problems) -> Vec<Self> {
        match &self.node.value {
            Value::Null => Vec::new(),
            Value::Scalar(_) => vec![self.clone()],
            Value::List(items) => {
                let item = |(number, node)| Item { node, key: format!("{}[{number}]", self.key) };
                items.iter().enumerate().map(item).collect()
            }
            Value::Map(_) => {
                self.refuse(problems, "a list is expected here");
                Vec::new()
            }
        }
    }

    /// Its text.
    pub(super) fn text(&self, problems: &mut Problems) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => {
                self.refuse(problems, "a value is expected here");
                None
            }
        }
    }

    /// What its text means.
    pub(super) fn parse<T>(
        &self,
        problems: &mut Problems,
        parse: impl FnOnce(&str) -> anyhow::Result<T>,
    ) -> Option<T> {
        let text = self.text(problems)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(problems, format!("'{text}': {error:#}"));
                None
            }
        }
    }
}

impl<'a> Section<'a> {
    /// What stands at `key`, if something does.
    pub(super) fn item(&self, key: &str) -> Option<&Item<'a>> {
        self.entry(key).filter(|item| !matches!(item.node.value, Value::Null))
    }

    /// Whether the key stands there, even with nothing after it.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    fn entry(&self, key: &str) -> Option<&Item<'a>> {
        self.entries.iter().find(|(known, _)| *known == key).map(|(_, item)| item)
    }

    /// What the text at `key` means, if there is one.
    pub(super) fn parse<T>(
        &self,
        problems: &mut Problems,
        key: &str,
        parse: impl FnOnce(&str) -> anyhow::Result<T>,
    ) -> Option<T> {
        self.item(key)?.parse(problems, parse)
    }

    /// What each text of the list at `key` means.
    pub(super) fn parse_list<T>(
        &self,
        problems: &mut Problems,
        key: &str,
        parse: impl Fn(&str) -> anyhow::Result<T>,
    ) -> Vec<T> {
        let items = self.item(key).map_or_else(Vec::new, |item| item.list(problems));
        items.iter().filter_map(|item| item.parse(problems, &parse)).collect()
    }

    /// Likewise, where a key with nothing behind it is refused: by it everything would be meant.
    pub(super) fn parse_filled_list<T>(
        &self,
        problems: &mut Problems,
        key: &str,
        parse: impl Fn(&str) -> anyhow::Result<T>,
    ) -> Vec<T> {
        if let Some(item) = self.entry(key).filter(|item| item.is_empty()) {
            item.refuse(problems, "nothing stands here; leave the key out if any is meant");
        }
        self.parse_list(problems, key, parse)
    }

    fn path(&self, key: &str) -> String {
        if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) }
    }
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    // A slip or two in a short word, a third of a long one.
    let near = |other: &&&str| strsim::osa_distance(key, other) <= (key.len() / 3).max(2);
    let nearest = known.iter().filter(near).min_by_key(|other| strsim::osa_distance(key, other));
    match nearest {
        Some(nearest) => format!("unknown key; is '{nearest}' meant?"),
        None => format!("unknown key; there are: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_is_told_with_file_line_column_and_key_in_the_files_order() {
        let text = "limits:\n  seires: 5\n  queue: [1]\nout: 3\nusers: x\nports: [80, x]\n";
        let mut problems = Problems::new(Path::new("/etc/n.yaml"));
        let node = problems.parse(text).unwrap();
        let root = Item::root(&node).section(&mut problems, &["limits", "users", "ports"]);
        root.item("users").unwrap().section(&mut problems, &["include"]);
        let ports = root.parse_list(&mut problems, "ports", |text| Ok(text.parse::<u16>()?));
        let limits = root.item("limits").unwrap().section(&mut problems, &["series", "queue"]);
        assert_eq!(limits.parse(&mut problems, "queue", |text| Ok(text.to_owned())), None);
        assert_eq!(ports, [80]);
        let expected = "\
            /etc/n.yaml:2:3: limits.seires: unknown key; is 'series' meant?\n\
            /etc/n.yaml:3:10: limits.queue: a value is expected here\n\
            /etc/n.yaml:4:1: out: unknown key; there are: limits, users, ports\n\
            /etc/n.yaml:5:8: users: keys are expected here: include\n\
            /etc/n.yaml:6:13: ports[1]: 'x': invalid digit found in string";
        assert_eq!(problems.settle(()).unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_problem_is_told_once_and_on_a_line_that_no_terminal_obeys() {
        let text = "\"\\e[31mred\": 1\nports: \"a\\nb\"\n";
        let mut problems = Problems::new(Path::new("n.yaml"));
        let node = problems.parse(text).unwrap();
        let root = Item::root(&node).section(&mut problems, &["ports"]);
        root.parse(&mut problems, "ports", |text| Ok(text.parse::<u16>()?));
        root.item("ports").unwrap().refuse(&mut problems, "a consequence");
        let expected = "n.yaml:1:1: \\u{1b}[31mred: unknown key; there are: ports\n\
                        n.yaml:2:8: ports: 'a\\nb': invalid digit found in string";
        assert_eq!(problems.to_string(), expected);
    }

    #[test]
    fn a_text_that_is_no_yaml_is_told_with_its_place() {
        let mut problems = Problems::new(Path::new("n.yaml"));
        assert!(problems.parse("a: [1\nb: 2\n").is_none());
        assert!(problems.to_string().starts_with("n.yaml:"), "{problems}");
    }
}
