//! Namespaces.
//!
//! Every namespace of the platform is one here, whoever made it. Removing one removes what is in it, functions and secrets,
//! as it does where these clients come from; one that holds functions of another dialect stays, and says whose they are.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::routing::{MethodRouter, get};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tidegate_core::Name;
use tidegate_platform::{DEFAULT_NAMESPACE, Error, Object, Preconditions, StoreError};

use super::answer::{Answer, Refusal, Sent};
use super::functions;
use super::place::{Segment, namespace, no_namespace};
use crate::lower::{API_VERSION, KIND};
use crate::{OpenFaas, shown_namespace};

/// The label, and the annotation, by which a namespace is for functions.
const MARK: &str = "openfaas";

/// Namespaces that belong to a cluster's own parts begin so.
const RESERVED: &str = "kube-";

/// A namespace, sent and told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Namespace {
    name: String,
    annotations: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

/// `/system/namespace/NAME`.
pub(super) fn named() -> MethodRouter<OpenFaas> {
    get(|state, Segment(name): Segment| describe(state, name))
        .post(|state, Segment(name): Segment, sent| create(state, name, sent))
        .put(|state, Segment(name): Segment, sent| replace(state, name, sent))
        .delete(|state, Segment(name): Segment, sent| delete(state, name, sent))
}

/// `/system/namespace/`: the body names it.
pub(super) fn unnamed() -> MethodRouter<OpenFaas> {
    get(|state| describe(state, String::new()))
        .post(|state, sent| create(state, String::new(), sent))
        .put(|state, sent| replace(state, String::new(), sent))
        .delete(|state, sent| delete(state, String::new(), sent))
}

/// The names of all.
pub(super) async fn list(State(openfaas): State<OpenFaas>) -> Answer<Json<Vec<String>>> {
    let all = openfaas.platform().namespaces().await?;
    let names = all
        .iter()
        .map(|object| shown_namespace(object.key().name()).to_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    Ok(Json(names))
}

async fn describe(State(openfaas): State<OpenFaas>, path: String) -> Answer<Json<Namespace>> {
    let name = namespace(&[Some(&path)]);
    let found = openfaas.platform().namespace(&name).await;
    Ok(Json(told(&found.map_err(|e| refused(e, &name))?)))
}

async fn create(State(openfaas): State<OpenFaas>, path: String, sent: Sent) -> Answer<StatusCode> {
    let sent = Namespace::read(&sent, &path)?;
    sent.check()?;
    let name = namespace(&[Some(&sent.name)]);
    if name == DEFAULT_NAMESPACE {
        return Err(taken(&name));
    }
    Name::new(&name).map_err(|e| Refusal::bad(e.to_string()))?;
    let (labels, annotations) = sent.words();
    let made = openfaas
        .platform()
        .make_namespace(&name, &labels, &annotations)
        .await;
    made.map_err(|e| refused(e, &name))?;
    Ok(StatusCode::CREATED)
}

async fn replace(State(openfaas): State<OpenFaas>, path: String, sent: Sent) -> Answer<StatusCode> {
    let sent = Namespace::read(&sent, &path)?;
    sent.check()?;
    let name = namespace(&[Some(&sent.name)]);
    let (labels, annotations) = sent.words();
    let changed = openfaas
        .platform()
        .describe_namespace(&name, &labels, &annotations)
        .await;
    changed.map_err(|e| refused(e, &name))?;
    Ok(StatusCode::ACCEPTED)
}

async fn delete(State(openfaas): State<OpenFaas>, path: String, sent: Sent) -> Answer<StatusCode> {
    let sent = Namespace::read(&sent, &path)?;
    let name = namespace(&[Some(&sent.name)]);
    if name == DEFAULT_NAMESPACE {
        return Err(Refusal::bad(format!(
            "namespace {} is always there; remove what is in it",
            shown_namespace(&name)
        )));
    }
    let platform = openfaas.platform();
    platform
        .namespace(&name)
        .await
        .map_err(|e| refused(e, &name))?;
    // Looked at first, so that nothing is removed where something has to stay.
    let others = platform
        .foreigners(Some(&name), (API_VERSION, KIND))
        .await?;
    if let Some(view) = others.first() {
        platform
            .require_own(view.key.borrowed(), (API_VERSION, KIND))
            .await
            .map_err(|e| Refusal::conflict(format!("namespace {name} cannot be removed: {e}")))?;
    }
    for object in functions::own(platform, &name).await? {
        gone(
            platform
                .delete(object.key(), Preconditions::default())
                .await
                .map(drop),
        )?;
    }
    for secret in platform.secrets(&name).await? {
        gone(platform.delete_secret(&name, &secret.name, true).await)?;
    }
    let removed = platform.delete_namespace(&name).await;
    removed.map_err(|e| refused(e, &name))?;
    Ok(StatusCode::ACCEPTED)
}

/// What somebody else has removed meanwhile is gone, too.
fn gone(deleted: Result<(), Error>) -> Answer<()> {
    match deleted {
        Err(Error::NotFound(_) | Error::Store(StoreError::NotFound { .. })) => Ok(()),
        deleted => Ok(deleted?),
    }
}

impl Namespace {
    /// What is sent to a path. A path without a name agrees with any body, and a body without one with any path.
    fn read(sent: &Sent, path: &str) -> Answer<Self> {
        let mut sent: Self = if sent.0.is_empty() {
            Self::default()
        } else {
            sent.read()?
        };
        if sent.name.is_empty() {
            sent.name = path.to_owned();
        }
        if sent.name.is_empty() {
            return Err(Refusal::bad("name is required"));
        }
        if !path.is_empty() && namespace(&[Some(path)]) != namespace(&[Some(&sent.name)]) {
            return Err(Refusal::bad(format!(
                "name is {:?} in the body, but the request is for {path:?}",
                sent.name
            )));
        }
        if sent.name.starts_with(RESERVED) {
            return Err(Refusal::bad(format!(
                "namespace {} is not for functions: names that begin with {RESERVED:?} are reserved",
                sent.name
            )));
        }
        Ok(sent)
    }

    fn check(&self) -> Answer<()> {
        let mark = self.labels.as_ref().and_then(|labels| labels.get(MARK));
        if mark.is_some_and(|mark| mark == "1") {
            return Ok(());
        }
        Err(Refusal::bad(format!(
            "namespace {} needs the label {MARK}: \"1\"",
            self.name
        )))
    }

    fn words(self) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        (
            self.labels.unwrap_or_default(),
            self.annotations.unwrap_or_default(),
        )
    }
}

fn told(object: &Object) -> Namespace {
    let words = |field: &str| -> Option<BTreeMap<String, String>> {
        serde_json::from_value(object.metadata().get(field)?.clone()).ok()
    };
    // One that was made elsewhere is for functions nonetheless.
    let marked = || [(MARK.to_owned(), "1".to_owned())].into();
    let (labels, annotations) = (words("labels"), words("annotations"));
    let is_plain = labels.is_none() && annotations.is_none();
    let or_marked = |words: Option<BTreeMap<_, _>>| {
        Some(words.unwrap_or_else(|| if is_plain { marked() } else { BTreeMap::new() }))
    };
    Namespace {
        name: shown_namespace(object.key().name()).to_owned(),
        annotations: or_marked(annotations),
        labels: or_marked(labels),
    }
}

fn taken(name: &str) -> Refusal {
    Refusal::conflict(format!(
        "namespace {} already exists",
        shown_namespace(name)
    ))
}

fn refused(error: Error, name: &str) -> Refusal {
    match error {
        Error::NotFound(_) => no_namespace(name),
        Error::Store(StoreError::AlreadyExists { .. }) => taken(name),
        error => error.into(),
    }
}
