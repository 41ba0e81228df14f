//! What is kept of invocations, what functions used, and what that costs.

use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use tidegate_core::{FunctionKey, InvocationId, Outcome, ParseIdError};
use tidegate_platform::{
    Amount, Follow, MAX_RECORDS, OUTCOMES, Period, Platform, RecordQuery, RecordsError, UsageQuery,
    UsageRow, canonical_namespace,
};
use utoipa::IntoParams;

use super::logs::moment;
use super::target::function_key;
use super::{Answer, Context};
use crate::document::{
    Cost, CostPage, CostRow, Counts, ErrorBody, LogLine, Missed, Record, RecordList, Usage,
    UsageList,
};
use crate::error::ApiError;
use crate::{logs, render};

/// Records of a page where nobody says how many.
const PAGE: usize = 100;

/// Words for several outcomes: any that is not `ok`, and any limit.
const FAILED: &str = "failed";
const LIMIT: &str = "limit";

const NDJSON: &str = "application/x-ndjson";

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Which records.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct RecordParams {
    /// Only of this namespace.
    namespace: Option<String>,
    /// Only of this function, in `namespace` or the default one.
    function: Option<String>,
    /// Only those that ended so: `ok`, `application`, `limit-timeout`, …; `limit` for any limit, `failed` for any that is not
    /// `ok`. Several are divided by commas.
    outcome: Option<String>,
    /// Only those that arrived from then on: a duration back from now such as `5m`, or an RFC 3339 time.
    since: Option<String>,
    /// Only those that arrived before then.
    until: Option<String>,
    /// Only those that this invocation asked for.
    parent: Option<String>,
    /// Only those of this trigger or event.
    trigger: Option<String>,
    /// Most records of a page, up to 1000; 100 where absent.
    limit: Option<usize>,
    /// The `continue` of the page before.
    r#continue: Option<String>,
    /// Answer newline-delimited records as invocations end, in place of a page. Those of the last page come first where
    /// `since` or `limit` is given. A line `{"missed": n}` says that so many were not read in time.
    follow: bool,
}

/// What is kept of invocations, those that ended last first. An invocation's record is there the moment it is answered.
#[utoipa::path(get, path = "/tidegate/v1/records", tag = "records", params(RecordParams),
    responses((status = 200, body = RecordList), (status = 400, body = ErrorBody)))]
pub(crate) async fn list_records(
    State(context): State<Context>,
    Query(params): Query<RecordParams>,
) -> Answer<Response> {
    let platform = &context.platform;
    let query = query_of(&params)?;
    if params.follow {
        return follow(platform, query, &params).await;
    }
    let page = platform.records(query).await?;
    Ok(Json(RecordList {
        items: page
            .items
            .iter()
            .map(|record| render::record(platform, record))
            .collect(),
        next: page.next.map(|next| next.to_string()),
    })
    .into_response())
}

/// What is kept of one invocation, and which others it asked for.
#[utoipa::path(get, path = "/tidegate/v1/records/{id}", tag = "records", params(("id" = String, Path)),
    responses((status = 200, body = Record), (status = 404, body = ErrorBody)))]
pub(crate) async fn get_record(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Answer<Json<Record>> {
    let platform = &context.platform;
    let id = invocation("id", &id)?;
    let record = platform.record(id).await?.ok_or_else(|| unknown(id))?;
    let children = platform.children(id, MAX_RECORDS).await?;
    Ok(Json(Record {
        children: children.iter().map(|child| child.id.to_string()).collect(),
        ..render::record(platform, &record)
    }))
}

/// What one invocation printed, as newline-delimited JSON.
#[utoipa::path(get, path = "/tidegate/v1/records/{id}/logs", tag = "records", params(("id" = String, Path)),
    responses((status = 200, body = LogLine, content_type = "application/x-ndjson"), (status = 404, body = ErrorBody)))]
pub(crate) async fn record_logs(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Answer<Response> {
    let platform = &context.platform;
    let id = invocation("id", &id)?;
    let record = platform.record(id).await?;
    let function = record.as_ref().map(|record| (*record.function).clone());
    let lines = platform.record_lines(id, function).await?;
    // One that is under way, or left no record, may have printed something all the same.
    if lines.is_empty() && record.is_none() {
        return Err(unknown(id));
    }
    let lines = lines.into_iter().map(|line| LogLine {
        time: timestamp(line.time_us),
        instance: line.instance.to_string(),
        stream: line.stream.as_str().to_owned(),
        request: line.invocation.map(|id| id.to_string()),
        text: line.text.to_string(),
    });
    Ok(([(CONTENT_TYPE, NDJSON)], Body::from(logs::text(lines))).into_response())
}

/// Which usage.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageParams {
    /// Only of this namespace.
    namespace: Option<String>,
    /// Only of this function, in `namespace` or the default one.
    function: Option<String>,
    /// From the hour of then on: a duration back from now such as `24h`, or an RFC 3339 time; with `by=day`, from the
    /// beginning of that day.
    since: Option<String>,
    /// Only hours that begin before then.
    until: Option<String>,
    /// What one row sums up: `hour`, `day` (UTC), or `total`, the default.
    by: Option<String>,
}

/// What functions used, by the hour in which invocations ended.
#[utoipa::path(get, path = "/tidegate/v1/usage", tag = "records", params(UsageParams),
    responses((status = 200, body = UsageList), (status = 400, body = ErrorBody)))]
pub(crate) async fn usage(
    State(context): State<Context>,
    Query(params): Query<UsageParams>,
) -> Answer<Json<UsageList>> {
    let rows = context.platform.used(usage_query_of(&params)?).await?;
    Ok(Json(UsageList {
        items: rows.iter().map(usage_of).collect(),
    }))
}

/// What functions used, and what that costs by the server's prices.
#[utoipa::path(get, path = "/tidegate/v1/cost", tag = "records", params(UsageParams),
    responses((status = 200, body = CostPage), (status = 400, body = ErrorBody)))]
pub(crate) async fn cost(
    State(context): State<Context>,
    Query(params): Query<UsageParams>,
) -> Answer<Json<CostPage>> {
    let platform = &context.platform;
    let rows = platform.used(usage_query_of(&params)?).await?;
    let total: Amount = rows
        .iter()
        .map(|row| platform.cost_of(&row.totals).total())
        .sum();
    Ok(Json(CostPage {
        currency: platform.prices().currency.clone(),
        items: rows.iter().map(|row| cost_of(platform, row)).collect(),
        total: total.to_string(),
    }))
}

/// Records as they come.
async fn follow(
    platform: &Platform,
    query: RecordQuery,
    params: &RecordParams,
) -> Answer<Response> {
    // Before the look, so that one that ends between the two is not missed.
    let follow = platform.follow_records(&query);
    let mut before = Vec::new();
    if params.since.is_some() || params.limit.is_some() {
        before = platform.records(query).await?.items;
    }
    before.reverse();
    let seen: HashSet<InvocationId> = before.iter().map(|record| record.id).collect();
    let first = logs::text(before.iter().map(|record| render::record(platform, record)));
    let platform = platform.clone();
    let lines = stream::unfold(Some((Some(first), follow, seen)), move |state| {
        let platform = platform.clone();
        async move {
            let (first, follow, seen) = state?;
            match first {
                Some(text) => Some((Ok(text), Some((None, follow, seen)))),
                None => next(&platform, follow, seen).await,
            }
        }
    });
    Ok(([(CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response())
}

/// How far a follower is.
type Following = Option<(Option<Bytes>, Follow, HashSet<InvocationId>)>;

async fn next(
    platform: &Platform,
    mut follow: Follow,
    mut seen: HashSet<InvocationId>,
) -> Option<(Result<Bytes, RecordsError>, Following)> {
    let came = match follow.next().await {
        Ok(came) => came?,
        // The connection ends without the end of its answer, which is how a client is told.
        Err(error) => return Some((Err(error), None)),
    };
    let mut text = Vec::new();
    if came.missed > 0 {
        let missed = Missed {
            missed: came.missed,
        };
        text.extend(logs::text(std::iter::once(missed)));
    }
    // What was told with the page is told once.
    let fresh = came
        .records
        .iter()
        .filter(|record| !seen.remove(&record.id));
    text.extend(logs::text(fresh.map(|r| render::record(platform, r))));
    Some((Ok(text.into()), Some((None, follow, seen))))
}

fn query_of(params: &RecordParams) -> Answer<RecordQuery> {
    let function = function_of(params.namespace.as_deref(), params.function.as_deref())?;
    let token = params.r#continue.as_deref().map(str::parse).transpose();
    let limit = params.limit.unwrap_or(PAGE);
    if !(1..=MAX_RECORDS).contains(&limit) {
        return Err(ApiError::invalid(format!(
            "limit: {limit} is not from 1 to {MAX_RECORDS}"
        )));
    }
    Ok(RecordQuery {
        namespace: namespace_of(params.namespace.as_deref()),
        function,
        since_us: at("since", params.since.as_deref())?.map(micros),
        until_us: at("until", params.until.as_deref())?.map(micros),
        outcomes: outcomes(params.outcome.as_deref().unwrap_or_default())?,
        parent: match &params.parent {
            Some(parent) => Some(invocation("parent", parent)?),
            None => None,
        },
        trigger: params.trigger.as_deref().map(Into::into),
        limit,
        after: token.map_err(tidegate_platform::Error::from)?,
    })
}

fn usage_query_of(params: &UsageParams) -> Answer<UsageQuery> {
    let (by, least) = match params.by.as_deref() {
        Some("hour") => (Period::Hour, HOUR),
        Some("day") => (Period::Day, DAY),
        Some("total") | None => (Period::All, HOUR),
        Some(other) => {
            return Err(ApiError::invalid(format!(
                "by: {other:?} is none of \"hour\", \"day\" and \"total\""
            )));
        }
    };
    let since = at("since", params.since.as_deref())?.map(seconds);
    Ok(UsageQuery {
        namespace: namespace_of(params.namespace.as_deref()),
        function: function_of(params.namespace.as_deref(), params.function.as_deref())?,
        since: since.map(|since| since - since % least),
        until: at("until", params.until.as_deref())?.map(seconds),
        by,
    })
}

fn namespace_of(namespace: Option<&str>) -> Option<std::sync::Arc<str>> {
    namespace.map(|name| canonical_namespace(name).into())
}

fn function_of(namespace: Option<&str>, function: Option<&str>) -> Answer<Option<FunctionKey>> {
    let Some(name) = function else {
        return Ok(None);
    };
    let namespace = namespace.unwrap_or(tidegate_platform::DEFAULT_NAMESPACE);
    let key = function_key(namespace, name)?;
    let checked =
        |text: &str| tidegate_core::Name::new(text).map_err(|e| ApiError::invalid(e.to_string()));
    Ok(Some(FunctionKey::new(
        &checked(key.namespace())?,
        &checked(key.name())?,
    )))
}

fn outcomes(words: &str) -> Answer<Vec<Outcome>> {
    let mut chosen = Vec::new();
    for word in words.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        let means = |outcome: &&Outcome| match word {
            FAILED => **outcome != Outcome::Ok,
            LIMIT => matches!(outcome, Outcome::Limit(_)),
            word => outcome.as_str() == word,
        };
        let before = chosen.len();
        chosen.extend(OUTCOMES.iter().filter(means));
        if chosen.len() == before {
            let all: Vec<_> = OUTCOMES.iter().map(|outcome| outcome.as_str()).collect();
            return Err(ApiError::invalid(format!(
                "outcome: {word:?} is none of {}, {LIMIT}, {FAILED}",
                all.join(", ")
            )));
        }
    }
    Ok(chosen)
}

fn invocation(what: &str, text: &str) -> Answer<InvocationId> {
    text.parse()
        .map_err(|e: ParseIdError| ApiError::invalid(format!("{what}: {e}")))
}

fn at(what: &str, text: Option<&str>) -> Answer<Option<SystemTime>> {
    text.map(|text| moment(what, text)).transpose()
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_micros() as u64
}

fn seconds(time: SystemTime) -> u64 {
    micros(time) / 1_000_000
}

fn unknown(id: InvocationId) -> ApiError {
    ApiError::not_found(format!(
        "no record of invocation {id} is kept: it is unknown, its function keeps none, or it was too long ago"
    ))
}

/// RFC 3339 with microseconds.
pub(crate) fn timestamp(us: u64) -> String {
    let time = i64::try_from(us).map(jiff::Timestamp::from_microsecond);
    time.map_or_else(
        |_| String::new(),
        |time| time.map_or_else(|_| String::new(), |t| format!("{t:.6}")),
    )
}

/// Bytes times microseconds in a GB-second (2³⁰ bytes).
const GB_SECOND: f64 = (1_u64 << 30) as f64 * 1e6;

fn usage_of(row: &UsageRow) -> Usage {
    let totals = &row.totals;
    let by_outcome: BTreeMap<String, u64> = totals
        .outcomes()
        .map(|(outcome, count)| (outcome.as_str().to_owned(), count))
        .collect();
    Usage {
        namespace: row.function.namespace.to_string(),
        function: row.function.name.to_string(),
        start: timestamp(row.start.saturating_mul(1_000_000)),
        invocations: Counts {
            total: totals.invocations(),
            by_outcome,
        },
        gb_seconds: totals.billed_byte_us as f64 / GB_SECOND,
        billed_seconds: totals.billed_us as f64 / 1e6,
        cpu_seconds: totals.cpu_us as f64 / 1e6,
        bytes_in: totals.bytes_in,
        bytes_out: totals.bytes_out,
        cold_starts: totals.cold_starts,
        queued: totals.queued,
        idle_seconds: totals.idle_us as f64 / 1e6,
        idle_gb_seconds: totals.idle_byte_us as f64 / GB_SECOND,
        unrecorded: totals.unrecorded,
    }
}

fn cost_of(platform: &Platform, row: &UsageRow) -> CostRow {
    let cost = platform.cost_of(&row.totals);
    CostRow {
        usage: usage_of(row),
        cost: Cost {
            total: cost.total().to_string(),
            invocations: cost.invocations.to_string(),
            gb_seconds: cost.gb_seconds.to_string(),
            cpu: cost.cpu.to_string(),
            out: cost.out.to_string(),
            cold_starts: cost.cold_starts.to_string(),
            idle: cost.idle.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_by_word_and_by_group() {
        let words = |text| outcomes(text).map_err(|e| e.body.error);
        assert_eq!(
            words("ok, cancelled"),
            Ok(vec![Outcome::Ok, Outcome::Cancelled])
        );
        assert_eq!(words("failed").unwrap().len(), OUTCOMES.len() - 1);
        let limits = words("limit").unwrap();
        assert!(limits.iter().all(|o| matches!(o, Outcome::Limit(_))) && limits.len() > 5);
        assert_eq!(words(""), Ok(Vec::new()));
        assert!(
            words("fine")
                .unwrap_err()
                .starts_with("outcome: \"fine\" is none of ok,")
        );
    }

    #[test]
    fn what_cannot_be_asked_is_refused_by_name() {
        for (params, part) in [
            (
                RecordParams {
                    limit: Some(0),
                    ..RecordParams::default()
                },
                "limit: 0",
            ),
            (
                RecordParams {
                    since: Some("long ago".to_owned()),
                    ..RecordParams::default()
                },
                "since: \"long ago\"",
            ),
            (
                RecordParams {
                    parent: Some("me".to_owned()),
                    ..RecordParams::default()
                },
                "parent: invocation id",
            ),
            (
                RecordParams {
                    r#continue: Some("x".to_owned()),
                    ..RecordParams::default()
                },
                "continue token",
            ),
        ] {
            let error = query_of(&params).unwrap_err().body.error;
            assert!(error.starts_with(part), "{error}");
        }
    }

    #[test]
    fn the_hour_of_a_moment_counts_whole() {
        let query = usage_query_of(&UsageParams {
            since: Some("2026-01-31T12:34:56Z".to_owned()),
            by: Some("day".to_owned()),
            ..UsageParams::default()
        });
        let midnight: jiff::Timestamp = "2026-01-31T00:00:00Z".parse().unwrap();
        assert_eq!(query.unwrap().since, Some(midnight.as_second() as u64));
    }
}
