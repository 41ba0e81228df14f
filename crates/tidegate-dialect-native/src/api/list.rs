//! Functions by the page, and as they change.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use tidegate_platform::{Event, Object, Platform, ResourceVersion, canonical_namespace};
use utoipa::IntoParams;

use super::{Answer, Context, unreadable};
use crate::document::{API_VERSION, FUNCTION, FunctionList, WatchEvent};
use crate::error::ApiError;
use crate::render;

/// Which functions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// `app=shop,tier in (web,api),!legacy`.
    label_selector: Option<String>,
    /// Most items of a page.
    limit: Option<usize>,
    /// The `continue` of the page before.
    r#continue: Option<String>,
    /// Answer newline-delimited changes instead of a page.
    watch: bool,
    /// Begin the watch after this version.
    resource_version: Option<String>,
}

/// Functions of all namespaces.
#[utoipa::path(get, path = "/tidegate/v1/functions", tag = "functions", params(ListParams), responses((status = 200, body = FunctionList)))]
pub(crate) async fn list_all_functions(
    State(context): State<Context>,
    Query(params): Query<ListParams>,
) -> Answer<Response> {
    list(&context.platform, None, params).await
}

/// Functions of a namespace.
#[utoipa::path(get, path = "/tidegate/v1/namespaces/{namespace}/functions", tag = "functions",
    params(("namespace" = String, Path), ListParams), responses((status = 200, body = FunctionList)))]
pub(crate) async fn list_functions(
    State(context): State<Context>,
    Path(namespace): Path<String>,
    Query(params): Query<ListParams>,
) -> Answer<Response> {
    let namespace = canonical_namespace(&namespace);
    context.platform.require_namespace(namespace).await?;
    list(&context.platform, Some(namespace), params).await
}

async fn list(
    platform: &Platform,
    namespace: Option<&str>,
    params: ListParams,
) -> Answer<Response> {
    let mut query = tidegate_platform::Query::kind(API_VERSION, FUNCTION);
    if let Some(namespace) = namespace {
        query = query.namespace(namespace);
    }
    if let Some(selector) = &params.label_selector {
        let labels = selector.parse().map_err(|e| {
            ApiError::invalid(format!(
                "labelSelector {selector:?}: {}",
                tidegate_platform::StoreError::Selector(e)
            ))
        })?;
        query = query.labels(labels);
    }
    if params.watch {
        let from = params
            .resource_version
            .as_deref()
            .map(str::parse::<ResourceVersion>)
            .transpose();
        let from = from.map_err(|e| ApiError::invalid(e.to_string()))?;
        return watch(platform.clone(), &query, from);
    }
    let page = platform
        .list(&query, params.limit, params.r#continue.as_deref())
        .await?;
    let mut items = page
        .items
        .into_iter()
        .map(|object| render::function(platform, object).map_err(unreadable))
        .collect::<Answer<Vec<_>>>()?;
    // After the last page. They have no labels of ours to select by.
    if page.next.is_none() && params.label_selector.is_none() {
        let foreigners = platform
            .foreigners(namespace, (API_VERSION, FUNCTION))
            .await?;
        items.extend(foreigners.iter().map(|view| render::view(platform, view)));
    }
    Ok(Json(FunctionList {
        items,
        resource_version: page.resource_version.to_string(),
        next: page.next,
    })
    .into_response())
}

fn watch(
    platform: Platform,
    query: &tidegate_platform::Query,
    from: Option<ResourceVersion>,
) -> Answer<Response> {
    let watch = platform.watch(query, from)?;
    let lines = watch.into_stream().map(move |event| {
        let event = match event {
            Ok(Event::Added(object)) => watched(&platform, "ADDED", object),
            Ok(Event::Modified(object)) => watched(&platform, "MODIFIED", object),
            Ok(Event::Deleted(object)) => watched(&platform, "DELETED", object),
            Ok(Event::Bookmark(version)) => WatchEvent {
                kind: "BOOKMARK".to_owned(),
                object: serde_json::json!({ "metadata": { "resourceVersion": version.to_string() } }),
            },
            Err(error) => WatchEvent {
                kind: "ERROR".to_owned(),
                object: serde_json::json!({ "error": error.to_string(), "reason": "expired" }),
            },
        };
        let mut line = serde_json::to_vec(&event).map_err(std::io::Error::other)?;
        line.push(b'\n');
        Ok::<_, std::io::Error>(Bytes::from(line))
    });
    Ok((
        [(CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response())
}

fn watched(platform: &Platform, kind: &str, object: Object) -> WatchEvent {
    let shown = render::function(platform, object).and_then(serde_json::to_value);
    WatchEvent {
        kind: kind.to_owned(),
        object: shown.unwrap_or_else(|e| serde_json::json!({ "error": e.to_string() })),
    }
}
