//! `export`: what is there, as a manifest.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value as Json, json};
use tidegate_core::Name;
use tidegate_document::{API_VERSION, FUNCTION};
use tidegate_manifest::escape;

use super::functions::{list, missing, path};
use crate::client::ANSWER;
use crate::context::Context;
use crate::error::{Error, Result};

/// Write functions as a manifest that 'apply' accepts
///
/// Code is named by its digest, so the manifest is for servers that have it; secrets are named and not told.
#[derive(Args)]
pub(crate) struct Export {
    /// The functions; all of the namespace where none is named
    #[arg(value_name = "NAME")]
    names: Vec<Name>,
    /// Those of all namespaces
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// As what
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Yaml,
    Toml,
    Json,
}

impl Export {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        let mut names: Vec<(String, String)> = Vec::new();
        if self.names.is_empty() {
            let namespace = (!self.all).then(|| context.namespace.clone());
            let (all, _) = list(&client, namespace.as_deref(), None).await?;
            names.extend(
                all.into_iter()
                    .map(|f| (f.metadata.namespace, f.metadata.name)),
            );
        }
        let named = self.names.iter().map(Name::to_string);
        names.extend(named.map(|name| (context.namespace.clone(), name)));
        let mut documents = Vec::new();
        for (namespace, name) in &names {
            // As it is stored, whatever this version knows of it.
            let function: Json = match client.get(&path(namespace, name), &[], ANSWER).await {
                Ok(function) => function,
                Err(e) if e.status() == Some(404) && self.names.is_empty() => continue,
                Err(e) => return Err(missing(&client, e, namespace, name).await),
            };
            documents.push(exported(&function));
        }
        if documents.is_empty() {
            context.note("no functions");
        }
        let text = match self.output {
            Format::Yaml => yaml(&documents)?,
            Format::Toml => toml(&documents)?,
            Format::Json => {
                let list = json!({
                    "apiVersion": API_VERSION,
                    "kind": "FunctionList",
                    "items": documents,
                });
                format!("{list:#}\n")
            }
        };
        context.bytes(text.as_bytes())
    }
}

/// What people wrote of a document, with dollar signs that stay dollar signs.
fn exported(function: &Json) -> Json {
    let mut metadata = Map::new();
    for key in ["name", "namespace", "labels", "annotations"] {
        let value = function.pointer(&format!("/metadata/{key}"));
        metadata.extend(value.map(|v| (key.to_owned(), escaped(v))));
    }
    json!({
        "apiVersion": API_VERSION,
        "kind": FUNCTION,
        "metadata": metadata,
        "spec": escaped(&function["spec"]),
    })
}

fn escaped(value: &Json) -> Json {
    match value {
        Json::String(text) => Json::String(escape(text)),
        Json::Array(list) => Json::Array(list.iter().map(escaped).collect()),
        Json::Object(map) => Json::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), escaped(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

fn yaml(documents: &[Json]) -> Result<String> {
    let mut text = String::new();
    for (at, document) in documents.iter().enumerate() {
        if at > 0 {
            text.push_str("---\n");
        }
        text.push_str(
            &serde_saphyr::to_string(document)
                .map_err(|e| Error::unexpected("cannot write YAML").because(&e))?,
        );
    }
    Ok(text)
}

/// `[functions.KEY]` tables; the key is the name, with the namespace before it where two are of one name.
fn toml(documents: &[Json]) -> Result<String> {
    let mut functions = Map::new();
    for document in documents {
        let metadata = &document["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default();
        let namespace = metadata["namespace"].as_str().unwrap_or_default();
        let mut function = match &document["spec"] {
            Json::Object(spec) => spec.clone(),
            _ => Map::new(),
        };
        let mut key = name.to_owned();
        if functions.contains_key(&key) {
            key = format!("{namespace}-{name}");
            function.insert("name".to_owned(), json!(name));
        }
        for member in ["namespace", "labels", "annotations"] {
            let value = metadata.get(member).cloned();
            function.extend(value.map(|v| (member.to_owned(), v)));
        }
        functions.insert(key, Json::Object(function));
    }
    toml::to_string_pretty(&json!({ "functions": functions }))
        .map_err(|e| Error::unexpected("cannot write TOML").because(&e))
}
