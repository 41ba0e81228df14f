//! The list, one function, and its end.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::{HeaderName, StatusCode};
use serde::Deserialize;
use tidegate_platform::{Error, Object, Platform, Preconditions, Query, StoreError};

use super::answer::{Answer, Params, Refusal, Sent};
use super::place::{Place, Segment, namespace, require_namespace};
use super::status::{self, FunctionStatus};
use crate::OpenFaas;
use crate::lower::{API_VERSION, KIND};

/// Where the newest deployment of a function stands: `pending`, `ready` or `failed`. OpenFaaS's clients do not ask, and
/// compare what is in the document; a command that waits for a deployment needs to tell it from the one before.
const PHASE: HeaderName = HeaderName::from_static("x-tidegate-phase");

/// How long a deletion may take until calls are refused; it is a table entry.
const DELETION_WAIT: Duration = Duration::from_secs(2);

/// The functions of a namespace, whichever dialect's they are, by name.
pub(super) async fn list(
    State(openfaas): State<OpenFaas>,
    params: Params,
) -> Answer<Json<Vec<FunctionStatus>>> {
    let namespace = namespace(&[params.get("namespace")]);
    require_namespace(openfaas.platform(), &namespace).await?;
    Ok(Json(all(&openfaas, &namespace).await?))
}

/// The functions of a namespace that is there.
pub(super) async fn all(openfaas: &OpenFaas, namespace: &str) -> Answer<Vec<FunctionStatus>> {
    let platform = openfaas.platform();
    let mut functions = Vec::new();
    for object in own(platform, namespace).await? {
        functions.push(status::of(openfaas, &object)?);
    }
    let others = platform
        .foreigners(Some(namespace), (API_VERSION, KIND))
        .await?;
    functions.extend(others.iter().map(|view| status::view(openfaas, view)));
    functions.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(functions)
}

/// The deployments of a namespace.
pub(super) async fn own(platform: &Platform, namespace: &str) -> Answer<Vec<Object>> {
    let query = Query::kind(API_VERSION, KIND).namespace(namespace);
    let (mut all, mut from) = (Vec::new(), None);
    loop {
        let page = platform.list(&query, None, from.as_deref()).await?;
        for key in &page.damaged {
            tracing::error!(object = %key, "a damaged function was left out");
        }
        all.extend(page.items);
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(all),
        }
    }
}

/// One function, with `usage` what it uses.
pub(super) async fn describe(
    State(openfaas): State<OpenFaas>,
    Segment(name): Segment,
    params: Params,
) -> Answer<([(HeaderName, &'static str); 1], Json<FunctionStatus>)> {
    let platform = openfaas.platform();
    let place = Place::of(&name, None, &params);
    let (phase, mut status) = match place.find(platform).await? {
        Some(object) => (status::phase(&object), status::of(&openfaas, &object)?),
        None => match platform.foreign(place.key(), (API_VERSION, KIND)).await? {
            Some(view) => (status::phase(&view.object), status::view(&openfaas, &view)),
            // Clients look at the status only, and show nothing of a body.
            None => return Err(Refusal::empty(StatusCode::NOT_FOUND)),
        },
    };
    if params.is_on("usage") {
        status.usage = status::usage(platform, place.key()).await;
    }
    Ok(([(PHASE, phase)], Json(status)))
}

/// Which function is to go.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Deletion {
    function_name: Option<String>,
    namespace: Option<String>,
}

/// Ends a function. Calls in flight finish.
pub(super) async fn delete(
    State(openfaas): State<OpenFaas>,
    params: Params,
    sent: Sent,
) -> Answer<StatusCode> {
    let platform = openfaas.platform();
    let deletion: Deletion = sent.read()?;
    let name = deletion.function_name.unwrap_or_default();
    if name.is_empty() {
        return Err(Refusal::bad("functionName is required"));
    }
    let place = Place::of(&name, deletion.namespace.as_deref(), &params);
    let object = place.own(platform).await?;
    match platform
        .delete(object.key(), Preconditions::default())
        .await
    {
        Err(Error::Store(StoreError::NotFound { .. })) => return Err(place.not_found()),
        gone => gone.map(drop)?,
    }
    platform.settle_deletion(place.key(), DELETION_WAIT).await;
    Ok(StatusCode::ACCEPTED)
}
