//! From a tree to JSON, by the table of keys, collecting what is wrong on the way.

use std::ops::Range;

use serde_json::{Map, Value as Json};
use tidegate_core::{Name, parse_bytes, parse_cpu, parse_duration};

use crate::mistake::{Mistake, Mistakes};
use crate::near::near;
use crate::node::{Entry, Node, Value};
use crate::schema::{self, Key, Kind, TRIGGERS};
use crate::substitute::substitute;

/// Reads the nodes of one file.
pub(crate) struct Reader<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
    pub(crate) lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Variables that became nothing because they are not set.
    pub(crate) unset: Vec<String>,
    pub(crate) mistakes: &'a mut Mistakes,
}

impl Reader<'_> {
    pub(crate) fn mistake(&mut self, at: &Range<usize>, message: String) {
        let mistake = Mistake::at(self.file, self.text, at.clone(), message);
        self.mistakes.push(mistake);
    }

    /// A map by its keys. What is wrong is left out of the result, and so is what is empty.
    pub(crate) fn map(
        &mut self,
        node: &Node,
        keys: &'static [Key],
        path: &str,
    ) -> Map<String, Json> {
        let mut result = Map::new();
        for entry in self.entries(node, path) {
            let inner = join(path, &entry.key);
            let Some(key) = keys.iter().find(|k| k.name == entry.key) else {
                self.unknown(entry, keys, path);
                continue;
            };
            if let Some(value) = self.value(&entry.value, &key.kind, &inner) {
                result.insert(entry.key.clone(), value);
            }
        }
        result
    }

    /// The entries of a map; none, with a mistake, of anything else.
    pub(crate) fn entries<'n>(&mut self, node: &'n Node, path: &str) -> &'n [Entry] {
        match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            other => {
                let what = named(path);
                self.mistake(&node.at, format!("{what} is {}, not a map", other.kind()));
                &[]
            }
        }
    }

    fn unknown(&mut self, entry: &Entry, keys: &'static [Key], path: &str) {
        let within = if path.is_empty() {
            String::new()
        } else {
            format!(" in {path}")
        };
        // Other systems write these in other ways, which is as near as it gets.
        let plain = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
        let wanted = plain(&entry.key);
        let same = keys.iter().find(|k| plain(k.name) == wanted);
        let deeper = keys.iter().find_map(|k| match k.kind {
            Kind::Map(inner) => inner
                .iter()
                .find(|i| plain(i.name) == wanted)
                .map(|i| format!("{}.{}", k.name, i.name)),
            _ => None,
        });
        let close: Vec<&str> = match (same, &deeper) {
            (Some(key), _) => vec![key.name],
            (None, Some(deeper)) => vec![deeper],
            (None, None) => near(&entry.key, keys.iter().map(|k| k.name)),
        };
        let help = if close.is_empty() {
            let all: Vec<&str> = keys
                .iter()
                .filter(|k| !matches!(k.kind, Kind::Ignored))
                .map(|k| k.name)
                .collect();
            format!("; it takes {}", all.join(", "))
        } else {
            format!("; did you mean {}?", close.join(" or "))
        };
        self.mistake(
            &entry.key_at,
            format!("unknown key {:?}{within}{help}", entry.key),
        );
    }

    /// One value. `None` where it is nothing, or wrong.
    pub(crate) fn value(&mut self, node: &Node, kind: &Kind, path: &str) -> Option<Json> {
        if matches!(node.value, Value::Null) || matches!(kind, Kind::Ignored) {
            return None;
        }
        match kind {
            Kind::Map(keys) => {
                let map = self.map(node, keys, path);
                (!map.is_empty()).then_some(Json::Object(map))
            }
            Kind::List(inner) => self.list(node, path, |reader, item, path| {
                reader.value(item, inner, path)
            }),
            Kind::Secrets => self.list(node, path, |reader, node, path| {
                reader.secret(node, schema::SECRET, path)
            }),
            Kind::BuildSecrets => self.list(node, path, |reader, node, path| {
                reader.secret(node, schema::BUILD_SECRET, path)
            }),
            Kind::Triggers => self.list(node, path, Self::trigger),
            Kind::Variables => self.variables(node, path),
            Kind::Notes => {
                let mut map = Map::new();
                for entry in self.entries(node, path) {
                    let inner = join(path, &entry.key);
                    if let Some(text) = self.text(&entry.value, &inner) {
                        map.insert(entry.key.clone(), text.into());
                    }
                }
                Some(Json::Object(map))
            }
            Kind::Code => match &node.value {
                Value::Map(_) => Some(Json::Object(self.map(node, schema::CODE, path))),
                _ => self.text(node, path).map(Json::from),
            },
            Kind::Flag => self.flag(node, path),
            Kind::Count(least, most) => self.count(node, path, *least, *most),
            Kind::Share => self.share(node, path),
            Kind::Functions | Kind::TriggersByName | Kind::Ignored => None,
            Kind::Text
            | Kind::Name
            | Kind::Size
            | Kind::Cores
            | Kind::Time
            | Kind::Runtime
            | Kind::Word(_) => {
                let text = self.text(node, path)?;
                match check(kind, &text) {
                    Ok(()) => Some(text.into()),
                    Err(why) => {
                        self.mistake(&node.at, format!("{path}: {why}"));
                        None
                    }
                }
            }
        }
    }

    fn list(
        &mut self,
        node: &Node,
        path: &str,
        mut one: impl FnMut(&mut Self, &Node, &str) -> Option<Json>,
    ) -> Option<Json> {
        let Value::List(items) = &node.value else {
            self.mistake(
                &node.at,
                format!("{path} is {}, not a list", node.value.kind()),
            );
            return None;
        };
        let read = items
            .iter()
            .enumerate()
            .filter_map(|(at, item)| one(self, item, &format!("{path}[{at}]")))
            .collect();
        Some(Json::Array(read))
    }

    fn secret(&mut self, node: &Node, keys: &'static [schema::Key], path: &str) -> Option<Json> {
        let map = match &node.value {
            Value::Map(_) => self.map(node, keys, path),
            _ => {
                let name = self.value(node, &Kind::Name, path)?;
                Map::from_iter([("name".to_owned(), name)])
            }
        };
        if !map.contains_key("name") {
            // A wrong name has been told.
            if node.get("name").is_none() {
                self.mistake(&node.at, format!("{path} names no secret; give it a name"));
            }
            return None;
        }
        if let Some(Json::String(variable)) = map.get("env")
            && let Err(why) = variable_name(variable)
        {
            self.mistake(&node.at, format!("{path}.env: {why}"));
            return None;
        }
        Some(Json::Object(map))
    }

    /// Checked and left out: what there is needs no document.
    fn trigger(&mut self, node: &Node, path: &str) -> Option<Json> {
        let Some(kind) = node.get("kind").or_else(|| node.get("type")) else {
            self.mistake(
                &node.at,
                format!(
                    "{path} says no kind; this version has {}",
                    TRIGGERS.join(", ")
                ),
            );
            return None;
        };
        let word = self.text(kind, path)?;
        if ["schedule", "cron", "timer"].contains(&word.as_str()) {
            self.mistake(
                &kind.at,
                format!(
                    "{path}: schedules stand beside the functions: [triggers.NAME] with function and schedule"
                ),
            );
        } else if !TRIGGERS.contains(&word.as_str()) {
            self.mistake(
                &kind.at,
                format!(
                    "{path}: a trigger of kind {word:?} is not there yet; this version has {}, which every function has \
                     at its address",
                    TRIGGERS.join(", ")
                ),
            );
        } else if let Value::Map(entries) = &node.value
            && let Some(other) = entries.iter().find(|e| e.key != "kind" && e.key != "type")
        {
            self.mistake(
                &other.key_at,
                format!(
                    "unknown key {:?} in {path}; a trigger of kind http takes nothing but its kind",
                    other.key
                ),
            );
        }
        None
    }

    fn variables(&mut self, node: &Node, path: &str) -> Option<Json> {
        let mut map = Map::new();
        for entry in self.entries(node, path) {
            if let Err(why) = variable_name(&entry.key) {
                self.mistake(&entry.key_at, format!("{path}: {why}"));
                continue;
            }
            let value = if matches!(entry.value.value, Value::Null) {
                let value = (self.lookup)(&entry.key);
                if value.is_none() {
                    self.unset.push(entry.key.clone());
                }
                value
            } else {
                self.text(&entry.value, &join(path, &entry.key))
            };
            if let Some(value) = value {
                map.insert(entry.key.clone(), value.into());
            }
        }
        Some(Json::Object(map))
    }

    /// A text with its variables put in; numbers and flags as they are written.
    pub(crate) fn text(&mut self, node: &Node, path: &str) -> Option<String> {
        match &node.value {
            Value::Text(text) => {
                let unset = &mut self.unset;
                match substitute(text, self.lookup, &mut |name| unset.push(name.to_owned())) {
                    Ok(text) => Some(text),
                    Err(why) => {
                        self.mistake(&node.at, format!("{}: {why}", named(path)));
                        None
                    }
                }
            }
            Value::Number(number) => Some(number.clone()),
            Value::Flag(flag) => Some(flag.to_string()),
            other => {
                let message = format!("{} is {}, not a text", named(path), other.kind());
                self.mistake(&node.at, message);
                None
            }
        }
    }

    fn flag(&mut self, node: &Node, path: &str) -> Option<Json> {
        if let Value::Flag(flag) = node.value {
            return Some(flag.into());
        }
        match self.text(node, path)?.as_str() {
            "true" => Some(true.into()),
            "false" => Some(false.into()),
            other => {
                self.mistake(
                    &node.at,
                    format!("{path}: {other:?} is neither true nor false"),
                );
                None
            }
        }
    }

    fn count(&mut self, node: &Node, path: &str, least: u32, most: u32) -> Option<Json> {
        let text = self.text(node, path)?;
        let number = text.replace('_', "").parse::<u32>().ok();
        match number.filter(|n| (least..=most).contains(n)) {
            Some(number) => Some(number.into()),
            None => {
                let takes = Kind::Count(least, most).takes();
                self.mistake(&node.at, format!("{path}: {text:?} is not {takes}"));
                None
            }
        }
    }

    fn share(&mut self, node: &Node, path: &str) -> Option<Json> {
        let text = self.text(node, path)?;
        let number = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().ok().map(|p| p / 100.0),
            None => text.parse::<f64>().ok(),
        };
        match number.filter(|n| (0.0..=1.0).contains(n)) {
            Some(number) => Some(number.into()),
            None => {
                let takes = Kind::Share.takes();
                self.mistake(&node.at, format!("{path}: {text:?} is not {takes}"));
                None
            }
        }
    }
}

fn check(kind: &Kind, text: &str) -> Result<(), String> {
    match kind {
        Kind::Name => Name::new(text).map(drop).map_err(|e| e.to_string()),
        Kind::Size => parse_bytes(text).map(drop).map_err(|e| e.to_string()),
        Kind::Cores => parse_cpu(text).map(drop).map_err(|e| e.to_string()),
        Kind::Time => parse_duration(text).map(drop).map_err(|e| e.to_string()),
        Kind::Runtime => {
            let language = text.split(':').next().unwrap_or(text);
            if text.ends_with(':') {
                return Err(format!("{text:?} has no version after its colon"));
            }
            check(&Kind::Word(schema::RUNTIMES), language)
        }
        Kind::Word(words) if !words.contains(&text) => {
            let close = near(text, words.iter().copied());
            Err(if close.is_empty() {
                format!("{text:?} is none of {}", words.join(", "))
            } else {
                format!(
                    "{text:?} is not known; did you mean {}?",
                    close.join(" or ")
                )
            })
        }
        _ => Ok(()),
    }
}

fn variable_name(name: &str) -> Result<(), String> {
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if letters && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) {
        Ok(())
    } else {
        Err(format!(
            "variable {name:?} is not letters, digits and '_', beginning with no digit"
        ))
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// A path in a message.
fn named(path: &str) -> &str {
    if path.is_empty() { "the file" } else { path }
}
