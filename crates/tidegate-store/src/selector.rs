//! Label selectors, written as Kubernetes writes them: `app=web, tier in (front,back), !canary`.
//!
//! As there, `!=` and `notin` also match objects that lack the label. Sets are kept sorted, so that two spellings of
//! one selector print alike.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Longest selector that is read, in bytes: room for dozens of requirements, a bound on what one request can cost.
pub const MAX_SELECTOR_BYTES: usize = 4096;
/// Longest name part of a label, and longest value.
const MAX_PART: usize = 63;
/// Longest prefix of a label's name.
const MAX_PREFIX: usize = 253;

/// Why a selector was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("label selector: at byte {at} {found}; expected {expected}")]
pub struct SelectorError {
    /// Where in the text, in bytes.
    pub at: usize,
    /// What stood there.
    pub found: String,
    /// What would be accepted.
    pub expected: &'static str,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// `key=value`
    Equals(String, String),
    /// `key!=value`: another value, or no such label.
    NotEquals(String, String),
    /// `key in (a,b)`
    In(String, BTreeSet<String>),
    /// `key notin (a,b)`: none of these values, or no such label.
    NotIn(String, BTreeSet<String>),
    /// `key`
    Exists(String),
    /// `!key`
    Missing(String),
}

/// Conditions that must all hold. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// The selector that matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// The conditions.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether labels, looked up through `label`, fulfil every condition.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .iter()
            .all(|requirement| match requirement {
                Requirement::Equals(key, value) => label(key) == Some(value),
                Requirement::NotEquals(key, value) => label(key) != Some(value),
                Requirement::In(key, values) => {
                    label(key).is_some_and(|found| values.contains(found))
                }
                Requirement::NotIn(key, values) => {
                    label(key).is_none_or(|found| !values.contains(found))
                }
                Requirement::Exists(key) => label(key).is_some(),
                Requirement::Missing(key) => label(key).is_none(),
            })
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |f: &mut fmt::Formatter<'_>, key: &str, word: &str, values: &BTreeSet<String>| {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            write!(f, "{key} {word} ({})", values.join(","))
        };
        match self {
            Self::Equals(key, value) => write!(f, "{key}={value}"),
            Self::NotEquals(key, value) => write!(f, "{key}!={value}"),
            Self::In(key, values) => set(f, key, "in", values),
            Self::NotIn(key, values) => set(f, key, "notin", values),
            Self::Exists(key) => f.write_str(key),
            Self::Missing(key) => write!(f, "!{key}"),
        }
    }
}

impl FromStr for LabelSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_SELECTOR_BYTES {
            return Err(SelectorError {
                at: MAX_SELECTOR_BYTES,
                found: format!("the text goes on to byte {}", text.len()),
                expected: "at most 4096 bytes",
            });
        }
        Parser { text, at: 0 }.selector()
    }
}

/// Reads left to right; the only look-ahead is the next character.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn selector(mut self) -> Result<LabelSelector, SelectorError> {
        let mut requirements = Vec::new();
        self.space();
        if self.peek().is_none() {
            return Ok(LabelSelector::default());
        }
        loop {
            requirements.push(self.requirement()?);
            self.space();
            match self.peek() {
                None => return Ok(LabelSelector { requirements }),
                Some(',') => self.at += 1,
                Some(_) => return Err(self.unexpected("',' or the end")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        self.space();
        if self.take("!") {
            return Ok(Requirement::Missing(self.key()?));
        }
        let key = self.key()?;
        self.space();
        if self.take("!=") {
            return Ok(Requirement::NotEquals(key, self.value()?));
        }
        if self.take("==") || self.take("=") {
            return Ok(Requirement::Equals(key, self.value()?));
        }
        match self.peek() {
            None | Some(',') => return Ok(Requirement::Exists(key)),
            _ => {}
        }
        let start = self.at;
        match self.word() {
            "in" => Ok(Requirement::In(key, self.set()?)),
            "notin" => Ok(Requirement::NotIn(key, self.set()?)),
            _ => {
                self.at = start;
                Err(self.unexpected("'=', '!=', 'in (…)', 'notin (…)', ',' or the end"))
            }
        }
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        self.space();
        let start = self.at;
        let word = self.word();
        if is_label_key(word) {
            return Ok(word.to_owned());
        }
        self.at = start;
        Err(self.unexpected("a label name"))
    }

    fn value(&mut self) -> Result<String, SelectorError> {
        self.space();
        let start = self.at;
        let word = self.word();
        if is_label_value(word) {
            return Ok(word.to_owned());
        }
        self.at = start;
        Err(self.unexpected("a label value"))
    }

    fn set(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        self.space();
        if !self.take("(") {
            return Err(self.unexpected("'('"));
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value()?);
            self.space();
            if self.take(")") {
                return Ok(values);
            }
            if !self.take(",") {
                return Err(self.unexpected("',' or ')'"));
            }
        }
    }

    /// Everything up to the next character that means something here; possibly nothing.
    fn word(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| c.is_whitespace() || ",()=!<>".contains(c))
            .unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.text[self.at..].starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn unexpected(&self, expected: &'static str) -> SelectorError {
        let rest: String = self.text[self.at..].chars().take(24).collect();
        let found = if rest.is_empty() {
            "the text ends".to_owned()
        } else {
            format!("stands {rest:?}")
        };
        SelectorError {
            at: self.at,
            found,
            expected,
        }
    }
}

/// Whether `text` can name a label: `name` or `prefix/name`.
pub(crate) fn is_label_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let prefix_fits = prefix.is_none_or(|prefix| {
        !prefix.is_empty()
            && prefix.len() <= MAX_PREFIX
            && prefix
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
    });
    prefix_fits && !name.is_empty() && is_label_value(name)
}

/// Whether `text` can be a label's value; the empty one can.
pub(crate) fn is_label_value(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= MAX_PART
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let selector: LabelSelector = selector.parse().unwrap();
        selector.matches(|key| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v))
    }

    #[test]
    fn table() {
        let web: &[(&str, &str)] = &[
            ("app", "web"),
            ("tier", "front"),
            ("in", "x"),
            ("a.b/c", ""),
        ];
        for (selector, expected) in [
            ("", true),
            ("  ", true),
            ("app=web", true),
            ("app == web", true),
            ("app=db", false),
            ("app!=web", false),
            ("app!=db", true),
            ("nope!=db", true),
            ("app in (web,db)", true),
            ("app in(db)", false),
            ("nope in (web)", false),
            ("app notin (db)", true),
            ("app notin (web)", false),
            ("nope notin (web)", true),
            ("app", true),
            ("nope", false),
            ("!nope", true),
            ("!app", false),
            ("! nope", true),
            ("app=web,tier=front", true),
            ("app=web , tier=back", false),
            ("in", true),
            ("in in (x)", true),
            ("in notin (x)", false),
            ("a.b/c", true),
            ("a.b/c=", true),
            ("a.b/c in ()", true),
            ("a.b/c in (,z)", true),
            ("app=,tier", false),
        ] {
            assert_eq!(matches(selector, web), expected, "{selector:?}");
        }
    }

    #[test]
    fn refused_with_place_and_expectation() {
        for (selector, at, expected) in [
            ("app=web,", 8, "a label name"),
            (",app", 0, "a label name"),
            (
                "app web",
                4,
                "'=', '!=', 'in (…)', 'notin (…)', ',' or the end",
            ),
            ("app in web", 7, "'('"),
            ("app in (web", 11, "',' or ')'"),
            ("app in (web db)", 12, "',' or ')'"),
            ("app=-web", 4, "a label value"),
            ("/app", 0, "a label name"),
            ("app=a=b", 5, "',' or the end"),
            (
                "size>3",
                4,
                "'=', '!=', 'in (…)', 'notin (…)', ',' or the end",
            ),
            ("!", 1, "a label name"),
            ("app=wéb", 4, "a label value"),
        ] {
            let error = selector.parse::<LabelSelector>().unwrap_err();
            assert_eq!(
                (error.at, error.expected),
                (at, expected),
                "{selector:?}: {error}"
            );
        }
        let long = "a".repeat(MAX_SELECTOR_BYTES + 1);
        assert!(
            long.parse::<LabelSelector>()
                .unwrap_err()
                .to_string()
                .contains("at most 4096 bytes")
        );
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        let key = "([a-z]{1,8}/)?[A-Za-z0-9]([-_.a-z0-9]{0,8}[a-z0-9])?";
        let value = "([A-Za-z0-9]([-_.a-z0-9]{0,8}[a-z0-9])?)?";
        let values = proptest::collection::btree_set(value, 1..4);
        prop_oneof![
            (key, value).prop_map(|(k, v)| Requirement::Equals(k, v)),
            (key, value).prop_map(|(k, v)| Requirement::NotEquals(k, v)),
            (key, values.clone()).prop_map(|(k, v)| Requirement::In(k, v)),
            (key, values).prop_map(|(k, v)| Requirement::NotIn(k, v)),
            key.prop_map(Requirement::Exists),
            key.prop_map(Requirement::Missing),
        ]
    }

    proptest! {
        #[test]
        fn printed_form_reads_back(requirements in proptest::collection::vec(requirement(), 0..5)) {
            let selector = LabelSelector { requirements };
            prop_assert_eq!(selector.to_string().parse::<LabelSelector>().unwrap(), selector);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            if let Ok(selector) = text.parse::<LabelSelector>() {
                prop_assert_eq!(selector.to_string().parse::<LabelSelector>().unwrap(), selector);
            }
        }
    }
}
