//! Which users are told of: by patterns of their names and ranges of their numbers.

use std::ops::RangeInclusive;

use anyhow::{Context, ensure};
use netsnoop_core::service::NamePattern;

/// Which users are told of.
#[derive(Clone, Debug, Default)]
pub struct UserRules {
    include: Vec<UserPattern>,
    exclude: Vec<UserPattern>,
}

/// Some users.
#[derive(Clone, Debug)]
pub enum UserPattern {
    /// Those with such a name.
    Named(NamePattern),
    /// Those with such a number.
    Numbered(RangeInclusive<u32>),
}

impl UserRules {
    /// Tells of those that `include` names, of all if it names none, but never of those that `exclude` names.
    pub const fn new(include: Vec<UserPattern>, exclude: Vec<UserPattern>) -> Self {
        Self { include, exclude }
    }

    /// Whether a user is told of. One whom nobody knows is, unless only certain ones are wanted.
    pub fn want(&self, uid: Option<u32>, name: Option<&str>) -> bool {
        let is_among = |patterns: &[UserPattern]| patterns.iter().any(|pattern| pattern.fits(uid, name));
        (self.include.is_empty() || is_among(&self.include)) && !is_among(&self.exclude)
    }
}

impl UserPattern {
    /// Reads `10001`, `10000-19999`, a name in which `*` stands for any characters and `?` for one, or
    /// `/a regular expression/`.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        ensure!(!text.is_empty(), "a user's name or number is expected");
        if let Some(expression) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            return Ok(Self::Named(NamePattern::expression(expression)?));
        }
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            return numbers(text).map(Self::Numbered);
        }
        Self::wildcards(text)
    }

    /// Users whose name begins so.
    pub fn prefix(text: &str) -> anyhow::Result<Self> {
        Ok(Self::Named(NamePattern::expression(&format!("^{}", regex::escape(text)))?))
    }

    fn wildcards(text: &str) -> anyhow::Result<Self> {
        let expression: String = text
            .chars()
            .map(|letter| match letter {
                '*' => ".*".to_owned(),
                '?' => ".".to_owned(),
                letter => regex::escape(letter.encode_utf8(&mut [0; 4])),
            })
            .collect();
        Ok(Self::Named(NamePattern::expression(&format!("^(?s:{expression})$"))?))
    }

    fn fits(&self, uid: Option<u32>, name: Option<&str>) -> bool {
        match self {
            Self::Named(pattern) => name.is_some_and(|name| pattern.find(name).is_some()),
            Self::Numbered(range) => uid.is_some_and(|uid| range.contains(&uid)),
        }
    }
}

fn numbers(text: &str) -> anyhow::Result<RangeInclusive<u32>> {
    let number = |text: &str| text.trim().parse::<u32>().with_context(|| format!("'{text}' is no uid"));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    ensure!(first <= last, "the range is empty");
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<UserPattern> {
        texts.iter().map(|text| UserPattern::parse(text).unwrap()).collect()
    }

    #[test]
    fn users_are_those_included_without_those_excluded() {
        let check = |include: &[&str], exclude: &[&str], uid: u32, name: Option<&str>, expected: bool| {
            let rules = UserRules::new(patterns(include), patterns(exclude));
            assert_eq!(rules.want(Some(uid), name), expected, "{include:?} {exclude:?} {uid} {name:?}");
        };
        check(&[], &[], 0, Some("root"), true);
        check(&[], &["root"], 0, Some("root"), false);
        check(&[], &["root"], 0, Some("rooty"), true);
        check(&["tools.*"], &[], 10001, Some("tools.foo"), true);
        check(&["tools.*"], &[], 10001, Some("xtools.foo"), false);
        check(&["tools.*"], &[], 10001, Some("tools-foo"), false);
        check(&["tools.*"], &[], 10001, None, false);
        check(&["tools.*"], &["tools.f?o"], 10001, Some("tools.foo"), false);
        check(&["10000-19999"], &["10005"], 10001, None, true);
        check(&["10000-19999"], &["10005"], 10005, Some("x"), false);
        check(&["10000-19999"], &[], 20000, None, false);
        check(&["/^a|b$/"], &[], 1, Some("xb"), true);
        assert!(UserRules::default().want(None, None));
        assert!(!UserRules::new(patterns(&["*"]), Vec::new()).want(None, None));
        assert!(UserPattern::prefix("tools.").unwrap().fits(None, Some("tools.x")));
        assert!(!UserPattern::prefix("tools.").unwrap().fits(None, Some("toolsx")));
    }

    #[test]
    fn what_names_no_user_is_refused() {
        for wrong in ["", "5-4", "1-x", "4294967296", "/(/", "7up"] {
            assert!(UserPattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
