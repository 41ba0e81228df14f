//! `export`: what is there, as a manifest.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value as Json, json};
use tidegate_core::Name;
use tidegate_document::{API_VERSION, FUNCTION, TRIGGER};
use tidegate_manifest::escape;

use super::apply::gateway;
use super::functions::{list, missing, path};
use crate::client::{ANSWER, Client};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::run::DEFAULT_NAMESPACE;

/// Where a function of another API says whose it is.
const DIALECT: &str = "/metadata/annotations/tidegate.dev~1dialect";

/// What Tidegate notes on functions.
const OURS: &str = "tidegate.dev/";

/// Write functions and their triggers as a manifest that 'apply' accepts
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
    /// OpenFaaS's functions, as Function objects of openfaas.com/v1
    Openfaas,
}

impl Export {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        if matches!(self.output, Format::Openfaas) {
            return self.objects(context).await;
        }
        let client = context.client()?;
        let mut left_out = Vec::new();
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
            match function.pointer(DIALECT).and_then(Json::as_str) {
                Some(dialect) => left_out.push(format!("{name} ({dialect})")),
                None => documents.push(exported(&function)),
            }
        }
        let triggers = self.triggers(context, &client, &documents).await?;
        if !left_out.is_empty() {
            context.note(format!(
                "left out, since they are of other APIs: {}; '--output openfaas' writes those of OpenFaaS's",
                left_out.join(", ")
            ));
        }
        if documents.is_empty() {
            context.note("no functions");
        }
        let text = match self.output {
            Format::Yaml => yaml(&[documents, triggers].concat())?,
            Format::Toml => toml(&documents, &triggers)?,
            Format::Json => {
                let kind = if triggers.is_empty() {
                    "FunctionList"
                } else {
                    "List"
                };
                let items = [documents, triggers].concat();
                let list = json!({ "apiVersion": API_VERSION, "kind": kind, "items": items });
                return context.json(&list);
            }
            // Written from another list.
            Format::Openfaas => String::new(),
        };
        context.text(&text)
    }

    /// What calls these functions by a schedule, but for what follows from a function's own document.
    async fn triggers(
        &self,
        context: &Context,
        client: &Client,
        functions: &[Json],
    ) -> Result<Vec<Json>> {
        let path = match self.all {
            true => "/triggers".to_owned(),
            false => format!("/namespaces/{}/triggers", context.namespace),
        };
        let all: Json = match client.get(&path, &[], ANSWER).await {
            Ok(all) => all,
            // A namespace that is not there has none.
            Err(e) if e.status() == Some(404) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        let all = all.get("items").and_then(Json::as_array);
        let wanted = all.into_iter().flatten().filter(|trigger| {
            let calls = |function: &&Json| {
                function["metadata"]["name"] == trigger["spec"]["function"]
                    && function["metadata"]["namespace"] == trigger["metadata"]["namespace"]
            };
            let is_owned = trigger.pointer("/status/owner").is_some();
            !is_owned && (self.names.is_empty() || functions.iter().any(|f| calls(&f)))
        });
        Ok(wanted.map(exported).collect())
    }

    /// The same in OpenFaaS's words, from OpenFaaS's API.
    async fn objects(&self, context: &mut Context) -> Result {
        let gateway = gateway(context, None)?;
        let namespaces = match self.all {
            true => gateway.namespaces().await?.into_iter().map(Some).collect(),
            false => {
                let usual = context.namespace == DEFAULT_NAMESPACE;
                vec![(!usual).then(|| context.namespace.clone())]
            }
        };
        let mut objects = Vec::new();
        for namespace in namespaces {
            let functions = gateway.functions(namespace.as_deref()).await?;
            objects.extend(functions.iter().filter_map(object));
        }
        let name_of = |object: &Json| object["spec"]["name"].as_str().map(str::to_owned);
        if let Some(missing) = self.names.iter().find(|n| {
            !objects
                .iter()
                .any(|o| name_of(o).as_deref() == Some(n.as_str()))
        }) {
            return Err(Error::failed(format!(
                "no function {missing} of OpenFaaS's"
            )));
        }
        if !self.names.is_empty() {
            objects.retain(|o| {
                self.names
                    .iter()
                    .any(|n| name_of(o).as_deref() == Some(n.as_str()))
            });
        }
        if objects.is_empty() {
            context.note("no functions");
        }
        context.text(&yaml(&objects)?)
    }
}

/// A function as OpenFaaS's API tells it, as an object; none of another API's.
fn object(function: &Json) -> Option<Json> {
    let notes = |member: &str| -> Map<String, Json> {
        let all = function.get(member).and_then(Json::as_object).cloned();
        let mut all = all.unwrap_or_default();
        // What servers add.
        all.retain(|key, value| {
            let added = ["faas_function", "uid"].contains(&key.as_str())
                || key == "prometheus.io.scrape" && value == "false";
            !added && !key.starts_with(OURS)
        });
        all
    };
    if function["annotations"]
        .get("tidegate.dev/dialect")
        .is_some()
    {
        return None;
    }
    let mut spec = Map::new();
    for (member, key) in [
        ("name", "name"),
        ("image", "image"),
        ("envProcess", "handler"),
        ("envVars", "environment"),
        ("constraints", "constraints"),
        ("secrets", "secrets"),
        ("limits", "limits"),
        ("requests", "requests"),
        ("readOnlyRootFilesystem", "readOnlyRootFilesystem"),
    ] {
        let value = function.get(member).filter(|v| !v.is_null());
        spec.extend(value.map(|v| (key.to_owned(), v.clone())));
    }
    for member in ["labels", "annotations"] {
        let notes = notes(member);
        if !notes.is_empty() {
            spec.insert(member.to_owned(), Json::Object(notes));
        }
    }
    Some(json!({
        "apiVersion": "openfaas.com/v1",
        "kind": FUNCTION,
        "metadata": { "name": function["name"], "namespace": function["namespace"] },
        "spec": spec,
    }))
}

/// What people wrote of a document, with dollar signs that stay dollar signs.
fn exported(document: &Json) -> Json {
    let mut metadata = Map::new();
    for key in ["name", "namespace", "labels", "annotations"] {
        let value = document.pointer(&format!("/metadata/{key}"));
        metadata.extend(value.map(|v| (key.to_owned(), escaped(v))));
    }
    let mut spec = escaped(&document["spec"]);
    if let Json::Object(spec) = &mut spec {
        // The server's own note.
        spec.remove("imageDigest");
    }
    json!({
        "apiVersion": API_VERSION,
        "kind": if document["kind"] == TRIGGER { TRIGGER } else { FUNCTION },
        "metadata": metadata,
        "spec": spec,
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

/// `[functions.KEY]` and `[triggers.KEY]` tables.
fn toml(functions: &[Json], triggers: &[Json]) -> Result<String> {
    let mut all = json!({ "functions": tables(functions) });
    if !triggers.is_empty() {
        all["triggers"] = Json::Object(tables(triggers));
    }
    toml::to_string_pretty(&all).map_err(|e| Error::unexpected("cannot write TOML").because(&e))
}

/// The key is the name, with the namespace before it, as often as it takes, where that is another's key already.
fn tables(documents: &[Json]) -> Map<String, Json> {
    let mut tables = Map::new();
    for document in documents {
        let metadata = &document["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default();
        let namespace = metadata["namespace"].as_str().unwrap_or_default();
        let mut table = match &document["spec"] {
            Json::Object(spec) => spec.clone(),
            _ => Map::new(),
        };
        // What a trigger calls its function with stands among its other settings.
        if document["kind"] == TRIGGER
            && let Some(Json::Object(request)) = table.remove("request")
        {
            table.extend(request);
        }
        let mut key = name.to_owned();
        while tables.contains_key(&key) {
            key = format!("{namespace}-{key}");
            table.insert("name".to_owned(), json!(name));
        }
        for member in ["namespace", "labels", "annotations"] {
            let value = metadata.get(member).cloned();
            table.extend(value.map(|v| (member.to_owned(), v)));
        }
        tables.insert(key, Json::Object(table));
    }
    tables
}
