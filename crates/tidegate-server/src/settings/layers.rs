//! The sources, one over another.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use super::Source;
#[cfg(feature = "otlp")]
use super::table::OPENTELEMETRY;
use super::table::{SECRET, SETTINGS, known, variable};

/// Bytes of a settings file that are read: it is a page of text.
const MAX_FILE: u64 = 1 << 20;

#[derive(Default)]
pub(super) struct Layers {
    pub(super) values: BTreeMap<&'static str, (String, Source)>,
    pub(super) mistakes: Vec<String>,
}

impl Layers {
    pub(super) fn file(&mut self, path: &Path) {
        let text = match read(path) {
            Ok(text) => text,
            Err(error) => {
                return self
                    .mistakes
                    .push(format!("settings file {}: {error}", path.display()));
            }
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.table("", table, path),
            Err(error) => {
                let text = error.to_string();
                self.mistakes.push(format!(
                    "settings file {}: {}",
                    path.display(),
                    text.trim_end()
                ));
            }
        }
    }

    fn table(&mut self, prefix: &str, table: toml::Table, path: &Path) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name
            } else {
                format!("{prefix}.{name}")
            };
            let source = Source::File(path.to_owned());
            match value {
                toml::Value::Table(inner) if !known(&key) => self.table(&key, inner, path),
                toml::Value::String(text) => self.set(&key, text, source),
                toml::Value::Array(items) => {
                    let items: Vec<_> = items
                        .into_iter()
                        .map(|item| {
                            item.as_str()
                                .map_or_else(|| item.to_string(), str::to_owned)
                        })
                        .collect();
                    self.set(&key, items.join(","), source);
                }
                other => self.set(&key, other.to_string(), source),
            }
        }
    }

    pub(super) fn environment(&mut self, environment: &impl Fn(&str) -> Option<OsString>) {
        for setting in SETTINGS {
            let name = variable(setting.key);
            match environment(&name).map(OsString::into_string) {
                Some(Ok(value)) => self.set(setting.key, value, Source::Environment(name)),
                Some(Err(_)) => self.mistakes.push(format!("variable {name} is not text")),
                None => {}
            }
        }
        #[cfg(feature = "otlp")]
        for (key, name) in OPENTELEMETRY {
            let value = environment(name).and_then(|value| value.into_string().ok());
            if let Some(value) = value.filter(|value| !value.is_empty())
                && !self.values.contains_key(key)
            {
                self.set(key, value, Source::Environment(name.to_owned()));
            }
        }
    }

    pub(super) fn set(&mut self, key: &str, value: String, source: Source) {
        match SETTINGS.iter().find(|s| s.key == key) {
            Some(setting) => drop(self.values.insert(setting.key, (value, source))),
            None => {
                let near: Vec<_> = SETTINGS
                    .iter()
                    .map(|s| s.key)
                    .filter(|k| {
                        k.split('.').next_back() == key.split('.').next_back() || k.starts_with(key)
                    })
                    .collect();
                let hint = if near.is_empty() {
                    "'tidegate up --help' lists the settings".to_owned()
                } else {
                    format!("did you mean {}?", near.join(" or "))
                };
                self.mistakes
                    .push(format!("{source}: unknown setting {key:?}; {hint}"));
            }
        }
    }

    /// The value of a setting, parsed; the default's type where it is wrong, with the mistake noted.
    pub(super) fn get<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
        fallback: impl FnOnce() -> T,
    ) -> T {
        let default = SETTINGS
            .iter()
            .find(|s| s.key == key)
            .map_or("", |s| s.default);
        let (text, source) = match self.values.get(key) {
            Some((text, source)) => (text.as_str(), source.clone()),
            None if default.is_empty() => return fallback(),
            None => (default, Source::Default),
        };
        match parse(text) {
            Ok(value) => value,
            Err(error) => {
                let mistake = if SECRET.contains(&key) {
                    format!("{source}: {key}: {error}")
                } else {
                    format!("{source}: {key} is {text:?}: {error}")
                };
                self.mistakes.push(mistake);
                fallback()
            }
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)?;
    if read as u64 > MAX_FILE {
        return Err(std::io::Error::other(format!(
            "is larger than {MAX_FILE} bytes"
        )));
    }
    Ok(text)
}
