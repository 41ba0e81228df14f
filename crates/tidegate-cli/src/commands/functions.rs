//! What several commands do with functions.

use tidegate_document::{Function, FunctionList};

use crate::client::{self, ANSWER, Client, Gateway};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::run::DEFAULT_NAMESPACE;
use tidegate_manifest::near;

/// Functions asked for at a time.
const PAGE: &str = "500";

/// The annotation of a function that another dialect keeps, and what it says of one that OpenFaaS's does.
const DIALECT: &str = "tidegate.dev/dialect";
const OPENFAAS: &str = "openfaas";

/// Pages read at most; half a million functions are more than a person lists, and a server that never ends its list is
/// broken.
const MAX_PAGES: usize = 1_000;

/// The path of a function.
pub(super) fn path(namespace: &str, name: &str) -> String {
    format!("/namespaces/{namespace}/functions/{name}")
}

/// One function.
pub(super) async fn get(client: &Client, namespace: &str, name: &str) -> Result<Function> {
    match client.get(&path(namespace, name), &[], ANSWER).await {
        Ok(function) => Ok(function),
        Err(error) => Err(missing(client, error, namespace, name).await),
    }
}

/// All functions of a namespace or, without one, of all; and where a watch can begin.
pub(super) async fn list(
    client: &Client,
    namespace: Option<&str>,
    selector: Option<&str>,
) -> Result<(Vec<Function>, String), client::Error> {
    let path = collection(namespace);
    let mut all = Vec::new();
    let mut next: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let mut query = vec![("limit", PAGE)];
        query.extend(selector.map(|s| ("labelSelector", s)));
        query.extend(next.as_deref().map(|n| ("continue", n)));
        let page: FunctionList = client.get(&path, &query, ANSWER).await?;
        all.extend(page.items);
        match page.next {
            Some(more) if !more.is_empty() => next = Some(more),
            _ => return Ok((all, page.resource_version)),
        }
    }
    Err(client::Error::Unexpected {
        url: client.shown(),
        what: format!("a list of functions that did not end after {MAX_PAGES} pages"),
        source: None,
    })
}

pub(super) fn collection(namespace: Option<&str>) -> String {
    namespace.map_or_else(
        || "/functions".to_owned(),
        |ns| format!("/namespaces/{ns}/functions"),
    )
}

/// Where a write was refused because the function is OpenFaaS's: that side of the same server, and the namespace's name
/// there.
pub(super) async fn of_openfaas(
    context: &mut Context,
    client: &Client,
    error: &client::Error,
    name: &str,
) -> Result<Option<(Gateway, Option<String>)>> {
    if error.status() != Some(409) {
        return Ok(None);
    }
    let path = path(&context.namespace, name);
    let Ok(function) = client.get::<Function>(&path, &[], ANSWER).await else {
        return Ok(None);
    };
    let dialect = function.metadata.annotations.get(DIALECT);
    if dialect.map(String::as_str) != Some(OPENFAAS) {
        return Ok(None);
    }
    let namespace = function.metadata.namespace;
    Ok(Some((
        context.gateway()?,
        (namespace != DEFAULT_NAMESPACE).then_some(namespace),
    )))
}

/// Turns "not found" into something to act on; other errors stay as they are.
pub(super) async fn missing(
    client: &Client,
    error: client::Error,
    namespace: &str,
    name: &str,
) -> Error {
    if error.status() != Some(404) {
        return error.into();
    }
    let told = Error::failed(format!("no function {name} in namespace {namespace}"));
    // Only for a hint, so whatever goes wrong here is left unsaid.
    let Ok((all, _)) = list(client, None, None).await else {
        return told;
    };
    let here = all.iter().filter(|f| f.metadata.namespace == namespace);
    let close = near(name, here.map(|f| f.metadata.name.as_str()));
    if !close.is_empty() {
        return told.hint(format!("did you mean {}?", close.join(" or ")));
    }
    if let Some(other) = all.iter().find(|f| f.metadata.name == name) {
        return told.hint(format!(
            "there is one in namespace {ns}: use --namespace {ns}",
            ns = other.metadata.namespace
        ));
    }
    told.hint("'tidegate list' shows those that are there")
}

/// The address that a function is called at.
pub(super) fn url(client: &Client, function: &Function) -> String {
    match &function.status {
        Some(status) if status.url.starts_with('/') => {
            format!("{}{}", client.shown(), status.url)
        }
        _ => client.function_url(&function.metadata.namespace, &function.metadata.name),
    }
}

/// The first letters of a revision, enough to tell it from its neighbours.
pub(super) fn short(revision: &str) -> &str {
    let revision = revision.strip_prefix("sha256:").unwrap_or(revision);
    revision.get(..12).unwrap_or(revision)
}
