//! One tree for every format, whose nodes know where they stand.
//!
//! Numbers keep the text they were written with: a version `1.10` meant as text is not to become `1.1`, nor a mode `0640`
//! a 640.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use toml::de::{DeTable, DeValue};

use crate::mistake::{Mistake, Mistakes};

/// A value, and the bytes of the file that it stands at.
#[derive(Clone, Debug)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it stands.
    pub at: Range<usize>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// As written.
    Number(String),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order in which it is written.
    Map(Vec<Entry>),
}

/// A key of a map and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_at: Range<usize>,
    /// Its value.
    pub value: Node,
}

impl Value {
    /// What it is, in a sentence.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Flag(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl Node {
    /// The value of a key, where this is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }
}

/// The documents of a YAML (or JSON, which is YAML) file. Empty documents are left out.
pub fn yaml(file: &str, text: &str, mistakes: &mut Mistakes) -> Vec<Node> {
    // 'yes' is a text, as in YAML 1.2.
    let options = serde_saphyr::options! { strict_booleans: true };
    match serde_saphyr::from_multiple_with_options::<Spanned<Raw>>(text, options) {
        Ok(documents) => documents
            .into_iter()
            .map(|d| d_node(d, text))
            .filter(|n| !matches!(n.value, Value::Null))
            .collect(),
        Err(error) => {
            let plain = error.without_snippet();
            let message = one_line(&plain.to_string());
            mistakes.push(match plain.location() {
                Some(location) => {
                    let at = place(text, location);
                    Mistake::at(file, text, at, message)
                }
                None => Mistake::whole(file, message),
            });
            Vec::new()
        }
    }
}

/// The one document of a TOML file; what can be read of a broken one is not, since half a manifest is none.
pub(crate) fn toml(file: &str, text: &str, mistakes: &mut Mistakes) -> Vec<Node> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let at = table.span();
        let node = Node {
            value: of_table(table.get_ref()),
            at,
        };
        return vec![node];
    }
    for error in errors {
        let at = error.span().unwrap_or(0..0);
        mistakes.push(Mistake::at(file, text, at, one_line(error.message())));
    }
    Vec::new()
}

fn of_table(table: &DeTable<'_>) -> Value {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_at: key.span(),
            value: of_toml(value),
        })
        .collect();
    entries.sort_by_key(|e| e.key_at.start);
    Value::Map(entries)
}

fn of_toml(value: &toml::Spanned<DeValue<'_>>) -> Node {
    let inner = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let prefix = match number.radix() {
                2 => "0b",
                8 => "0o",
                16 => "0x",
                _ => "",
            };
            Value::Number(format!("{prefix}{}", number.as_str()))
        }
        DeValue::Float(number) => Value::Number(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => Value::List(items.iter().map(of_toml).collect()),
        DeValue::Table(table) => of_table(table),
    };
    Node {
        value: inner,
        at: value.span(),
    }
}

/// A message may be of several lines; the first says it.
fn one_line(message: &str) -> String {
    let first = message.lines().next().unwrap_or("").trim();
    // The place is told in its own way, and advice for programmers is none for whoever wrote the file.
    let first = first.split(" at line ").next().unwrap_or(first);
    let first = first
        .split(", set DuplicateKeyPolicy")
        .next()
        .unwrap_or(first);
    first.trim_end_matches('.').to_owned()
}

/// YAML as it is deserialised, before its places are known as bytes.
#[derive(Debug)]
enum Raw {
    Null,
    Flag(bool),
    Number(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn d_node(raw: Spanned<Raw>, text: &str) -> Node {
    let at = place(text, raw.defined);
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Flag(flag) => Value::Flag(flag),
        Raw::Number(read) => Value::Number(written(text, &at).unwrap_or(read)),
        Raw::Text(text) => Value::Text(text),
        Raw::List(items) => Value::List(items.into_iter().map(|i| d_node(i, text)).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    key_at: place(text, key.defined),
                    key: key.value,
                    value: d_node(value, text),
                })
                .collect(),
        ),
    };
    Node { value, at }
}

/// The number as it stands in the file, if that is what stands there.
fn written(text: &str, at: &Range<usize>) -> Option<String> {
    let token = text.get(at.clone())?.trim();
    let number = token
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_'));
    (number && !token.is_empty()).then(|| token.to_owned())
}

/// The bytes that a location means.
fn place(text: &str, location: serde_saphyr::Location) -> Range<usize> {
    let span = location.span();
    if let (Some(start), Some(length)) = (span.byte_offset(), span.byte_len()) {
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(text.len());
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        return start..start.saturating_add(length).min(text.len());
    }
    let line = usize::try_from(location.line()).unwrap_or(1).max(1);
    let column = usize::try_from(location.column()).unwrap_or(1).max(1);
    let begin: usize = text
        .split_inclusive('\n')
        .take(line - 1)
        .map(str::len)
        .sum();
    let inner: usize = text[begin..]
        .chars()
        .take(column - 1)
        .map(char::len_utf8)
        .sum();
    let start = (begin + inner).min(text.len());
    start..start
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Raw, E> {
        Ok(Raw::Flag(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Raw, E> {
        Ok(Raw::Number(v.to_string()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Raw, E> {
        Ok(Raw::Number(v.to_string()))
    }

    fn visit_i128<E>(self, v: i128) -> Result<Raw, E> {
        Ok(Raw::Number(v.to_string()))
    }

    fn visit_u128<E>(self, v: u128) -> Result<Raw, E> {
        Ok(Raw::Number(v.to_string()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Raw, E> {
        Ok(Raw::Number(v.to_string()))
    }

    fn visit_str<E>(self, v: &str) -> Result<Raw, E> {
        Ok(Raw::Text(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Raw, E> {
        Ok(Raw::Text(v))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as one line, every scalar with the text that it was read from.
    fn shown(node: &Node, text: &str) -> String {
        let at = text.get(node.at.clone()).unwrap_or("?").trim();
        match &node.value {
            Value::Null => "null".to_owned(),
            Value::Flag(flag) => format!("{flag}"),
            Value::Number(number) => format!("{number}@{at}"),
            Value::Text(read) => format!("{read:?}@{at}"),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(|i| shown(i, text)).collect();
                format!("[{}]", items.join(" "))
            }
            Value::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|e| {
                        assert!(text[e.key_at.clone()].contains(&e.key));
                        format!("{}={}", e.key, shown(&e.value, text))
                    })
                    .collect();
                format!("{{{}}}", entries.join(" "))
            }
        }
    }

    #[test]
    fn both_formats_become_one_tree() {
        let mut mistakes = Mistakes::default();
        let text = "# ü\nb: 1.10\na: [x, 'y', 0640, true, ~]\nm: {k: v}\n---\n---\nsecond: 2\n";
        let read = yaml("f", text, &mut mistakes);
        let lines: Vec<String> = read.iter().map(|n| shown(n, text)).collect();
        assert_eq!(
            lines,
            [
                r#"{b=1.10@1.10 a=["x"@x "y"@'y' 0640@0640 true null] m={k="v"@v}}"#,
                "{second=2@2}"
            ]
        );
        let text = "b = 1.10\na = ['x', 0o640, true]\n[m.n]\nk = \"v\"\n";
        let read = toml("f", text, &mut mistakes);
        assert_eq!(
            shown(&read[0], text),
            r#"{b=1.10@1.10 a=["x"@'x' 0o640@0o640 true] m={n={k="v"@"v"}}}"#
        );
        assert!(mistakes.is_empty());
    }

    #[test]
    fn aliases_and_merges_are_followed() {
        let mut mistakes = Mistakes::default();
        let text = "base: &b {x: 1}\nuse:\n  <<: *b\n  y: *b\n";
        let read = yaml("f", text, &mut mistakes);
        assert!(mistakes.is_empty(), "{mistakes}");
        let x = read[0].get("use").and_then(|u| u.get("x")).unwrap();
        assert!(matches!(&x.value, Value::Number(n) if n == "1"));
        assert_eq!(&text[x.at.clone()], "1");
    }

    #[test]
    fn broken_files_are_told_with_their_place() {
        for (text, parse) in [
            (
                "a: 1\nb: [1,\n",
                yaml as fn(&str, &str, &mut Mistakes) -> Vec<Node>,
            ),
            ("a: 1\na: 2\n", yaml),
            ("a = 1\nb = [1,\n", toml),
            ("a = 1\na = 2\n", toml),
        ] {
            let mut mistakes = Mistakes::default();
            assert!(parse("f", text, &mut mistakes).is_empty(), "{text}");
            let first = &mistakes.0[0];
            assert!(first.line >= 1 && first.column >= 1, "{text}: {first}");
            assert!(!first.message.contains('\n'), "{first}");
        }
        // A file that grows when it is read.
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..12 {
            let one = format!("*a{},", n - 1);
            bomb.push_str(&format!("a{n}: &a{n} [{}]\n", one.repeat(10)));
        }
        let mut mistakes = Mistakes::default();
        assert!(yaml("f", &bomb, &mut mistakes).is_empty());
        assert!(!mistakes.is_empty());
    }
}
