//! Triggers.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use tidegate_core::Name;
use tidegate_platform::{ObjectKey, Put, Trigger as Kept, canonical_namespace};

use super::accept::{check_identity, stored};
use super::{Answer, Context, parse};
use crate::document::{
    API_VERSION, ErrorBody, TRIGGER, Trigger, TriggerFired, TriggerList, TriggerStatus,
};
use crate::error::ApiError;

/// Ticks that are told ahead.
const UPCOMING: usize = 5;

/// The routes, below [`crate::CONTROL_PREFIX`].
pub(crate) fn routes() -> Router<Context> {
    const ONE: &str = "/namespaces/{namespace}/triggers/{name}";
    Router::new()
        .route("/triggers", get(list_all_triggers))
        .route("/namespaces/{namespace}/triggers", get(list_triggers))
        .route(
            ONE,
            get(get_trigger).put(put_trigger).delete(delete_trigger),
        )
        .route(&format!("{ONE}/pause"), post(pause_trigger))
        .route(&format!("{ONE}/resume"), post(resume_trigger))
        .route(&format!("{ONE}/fire"), post(fire_trigger))
}

/// Triggers of all namespaces.
#[utoipa::path(get, path = "/tidegate/v1/triggers", tag = "triggers", responses((status = 200, body = TriggerList)))]
pub(crate) async fn list_all_triggers(State(context): State<Context>) -> Answer<Json<TriggerList>> {
    Ok(Json(shown_all(&context.platform.triggers(None).await?)))
}

/// Triggers of a namespace.
#[utoipa::path(get, path = "/tidegate/v1/namespaces/{namespace}/triggers", tag = "triggers",
    params(("namespace" = String, Path)), responses((status = 200, body = TriggerList)))]
pub(crate) async fn list_triggers(
    State(context): State<Context>,
    Path(namespace): Path<String>,
) -> Answer<Json<TriggerList>> {
    let namespace = canonical_namespace(&namespace);
    context.platform.require_namespace(namespace).await?;
    let all = context.platform.triggers(Some(namespace)).await?;
    Ok(Json(shown_all(&all)))
}

/// A trigger, with its next five ticks.
#[utoipa::path(get, path = "/tidegate/v1/namespaces/{namespace}/triggers/{name}", tag = "triggers",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Trigger), (status = 404, body = ErrorBody)))]
pub(crate) async fn get_trigger(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer<Json<Trigger>> {
    let namespace = canonical_namespace(&namespace);
    let trigger = context.platform.trigger(namespace, &name).await?;
    Ok(Json(shown(&trigger)))
}

/// Creates a trigger or replaces it; with `If-None-Match: *` only creates. A schedule that is new to it begins now.
#[utoipa::path(put, path = "/tidegate/v1/namespaces/{namespace}/triggers/{name}", tag = "triggers",
    params(("namespace" = String, Path), ("name" = String, Path)), request_body = Trigger,
    responses((status = 200, body = Trigger, description = "Replaced"), (status = 201, body = Trigger, description = "Created"),
        (status = 400, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(crate) async fn put_trigger(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
    headers: http::HeaderMap,
    body: Bytes,
) -> Answer<(StatusCode, Json<Trigger>)> {
    let document: Trigger = parse(&body, "a Trigger")?;
    let key = trigger_key(&namespace, &name)?;
    check_identity(
        [&document.api_version, &document.kind],
        &document.metadata,
        &key,
    )?;
    let wanted = stored(&document.metadata, &document.spec, &key)?;
    let only_new = headers
        .get(http::header::IF_NONE_MATCH)
        .is_some_and(|value| value.as_bytes() == b"*");
    let put = context.platform.put_trigger(wanted, only_new).await?;
    let status = if matches!(put, Put::Created(_)) {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(shown(&Kept::of(put.object())?))))
}

/// Removes a trigger. What it started goes on.
#[utoipa::path(delete, path = "/tidegate/v1/namespaces/{namespace}/triggers/{name}", tag = "triggers",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 204, description = "Removed"), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "It belongs to a function")))]
pub(crate) async fn delete_trigger(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let namespace = canonical_namespace(&namespace);
    context.platform.delete_trigger(namespace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pauses a trigger: nothing happens until it is resumed, and nothing is made up for then.
#[utoipa::path(post, path = "/tidegate/v1/namespaces/{namespace}/triggers/{name}/pause", tag = "triggers",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Trigger), (status = 404, body = ErrorBody)))]
pub(crate) async fn pause_trigger(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer<Json<Trigger>> {
    let namespace = canonical_namespace(&namespace);
    let paused = context.platform.pause_trigger(namespace, &name, true);
    Ok(Json(shown(&paused.await?)))
}

/// Lets a paused trigger go on.
#[utoipa::path(post, path = "/tidegate/v1/namespaces/{namespace}/triggers/{name}/resume", tag = "triggers",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Trigger), (status = 404, body = ErrorBody)))]
pub(crate) async fn resume_trigger(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer<Json<Trigger>> {
    let namespace = canonical_namespace(&namespace);
    let resumed = context.platform.pause_trigger(namespace, &name, false);
    Ok(Json(shown(&resumed.await?)))
}

/// Has the function called now, whatever the schedule says.
#[utoipa::path(post, path = "/tidegate/v1/namespaces/{namespace}/triggers/{name}/fire", tag = "triggers",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 202, body = TriggerFired, description = "It will be called"), (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody, description = "Nothing is accepted now")))]
pub(crate) async fn fire_trigger(
    State(context): State<Context>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer<(StatusCode, Json<TriggerFired>)> {
    let namespace = canonical_namespace(&namespace);
    let fired = context.platform.fire_trigger(namespace, &name).await?;
    let invocation = fired.invocation.to_string();
    Ok((StatusCode::ACCEPTED, Json(TriggerFired { invocation })))
}

fn trigger_key(namespace: &str, name: &str) -> Answer<ObjectKey> {
    let check = |what: &str, text: &str| {
        Name::new(text).map_err(|e| ApiError::invalid(format!("{what} {e}")))
    };
    let namespace = canonical_namespace(namespace);
    check("namespace:", namespace)?;
    check("trigger:", name)?;
    ObjectKey::new(API_VERSION, TRIGGER, namespace, name)
        .map_err(|e| tidegate_platform::Error::Store(e).into())
}

fn shown_all(all: &[Kept]) -> TriggerList {
    TriggerList {
        items: all.iter().map(shown).collect(),
    }
}

/// A trigger as clients read it.
fn shown(trigger: &Kept) -> Trigger {
    let ticks = trigger.upcoming(Timestamp::now(), UPCOMING);
    let zone = trigger.zone();
    let text = |moment: Option<Timestamp>| moment.map(|moment| moment.to_string());
    let state = &trigger.state;
    let status = TriggerStatus {
        last_tick: text(state.last_tick),
        last_fired: text(state.last_fired),
        last_invocation: Some(state.last_invocation.clone()).filter(|id| !id.is_empty()),
        last_missed: text(state.last_missed),
        fired: state.fired,
        error: state.error.clone(),
        next_tick: text(ticks.first().copied()),
        upcoming: ticks
            .iter()
            .map(|tick| tick.to_zoned(zone.clone()))
            .map(|tick| tick.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
            .collect(),
        owner: trigger.owner().map(|owner| owner.name),
    };
    Trigger {
        api_version: API_VERSION.to_owned(),
        kind: TRIGGER.to_owned(),
        metadata: crate::render::metadata(&trigger.object),
        spec: trigger.spec.clone(),
        status: Some(status),
    }
}
