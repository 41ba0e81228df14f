//! Lists that others publish: functions and templates, in OpenFaaS's forms, at an address or in a file.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidegate_manifest::near;

use super::apply::read_text;
use crate::client::{self, fetch};
use crate::context::Context;
use crate::error::{Error, Result, root};
use crate::exit;

/// Largest list in bytes.
const MAX_LIST: u64 = 4 << 20;

/// A list's address: the one given, that of a variable, or the public one.
pub(super) fn address(
    context: &Context,
    given: Option<&str>,
    variable: &str,
    public: &str,
) -> Result<String> {
    match (given, context.process.var(variable)) {
        (Some(given), _) => Ok(given.to_owned()),
        (None, Some(value)) => value
            .into_string()
            .map_err(|_| Error::usage(format!("{variable} is not UTF-8 text"))),
        (None, None) => Ok(public.to_owned()),
    }
}

/// Reads a list. `flag` is how another is given.
pub(super) async fn read<T: DeserializeOwned>(source: &str, flag: &str) -> Result<T> {
    let shown: String = source.chars().take(200).collect();
    let local = Url::parse(source)
        .ok()
        .filter(|url| url.scheme() == "file")
        .and_then(|url| url.to_file_path().ok());
    let text = if local.is_none() && source.contains("://") {
        let bytes = fetch(source).await.map_err(|e| {
            let hint = format!("{flag} takes another address, or a file");
            let mut error = match e {
                client::Error::Url { .. } => Error::usage(format!(
                    "{shown} is neither an address of http or https nor a file"
                )),
                _ => Error::unreachable(format!("cannot fetch {shown}")),
            };
            if let client::Error::Refused { source, .. }
            | client::Error::Unreachable { source, .. }
            | client::Error::Broken { source, .. } = &e
            {
                // Between the two ends of the chain stand only the layers of the HTTP library.
                error = error.because(root(source));
            } else if error.code == exit::UNREACHABLE {
                error.causes.push(e.to_string());
            }
            error.hint(hint)
        })?;
        String::from_utf8(bytes).map_err(|_| Error::failed(format!("{shown} is not UTF-8 text")))?
    } else {
        let path = local.as_deref().unwrap_or_else(|| Path::new(source));
        read_text(path, MAX_LIST)
            .map_err(|e| Error::usage(format!("cannot read {shown}")).because(&e))?
    };
    serde_json::from_str(&text)
        .map_err(|e| Error::failed(format!("{shown} is not such a list")).because(&e))
}

/// What to say of a name that a list does not have.
pub(super) fn unknown<'a>(
    what: &str,
    command: &str,
    name: &str,
    source: &str,
    names: impl Iterator<Item = &'a str>,
) -> Error {
    let error = Error::usage(format!("no {what} {name} in {source}"));
    let close = near(name, names);
    match close.is_empty() {
        true => error.hint(format!(
            "'tidegate {command} list' shows those that are there"
        )),
        false => error.hint(format!("did you mean {}?", close.join(" or "))),
    }
}

/// A list of functions.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Functions {
    #[serde(default)]
    pub(super) functions: Vec<Published>,
}

/// A function that somebody published.
#[derive(Clone, Debug, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Published {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) author: String,
    pub(super) description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) fprocess: String,
    #[serde(rename = "repo_url")]
    pub(super) repo_url: String,
    pub(super) read_only_root_filesystem: bool,
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_null"
    )]
    pub(super) environment: BTreeMap<String, String>,
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_null"
    )]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_null"
    )]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_null")]
    pub(super) images: BTreeMap<String, String>,
}

/// A template that somebody published.
#[derive(Clone, Debug, Default, Deserialize, serde::Serialize)]
#[serde(default)]
pub(super) struct PublishedTemplate {
    pub(super) template: String,
    pub(super) platform: String,
    pub(super) language: String,
    pub(super) source: String,
    pub(super) description: String,
    pub(super) repo: String,
    #[serde(deserialize_with = "flag")]
    pub(super) official: bool,
    #[serde(deserialize_with = "flag")]
    pub(super) recommended: bool,
}

fn or_null<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A flag, or the text of one, as the public list has it.
fn flag<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(value == true || value == "true")
}
