//! Triggers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Metadata, api_version};

/// `kind` of a trigger.
pub const TRIGGER: &str = "Trigger";

/// Says when a function is called by nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trigger {
    /// `tidegate.dev/v1`.
    #[serde(default = "api_version")]
    pub api_version: String,
    /// `Trigger`.
    #[serde(default = "trigger_kind")]
    pub kind: String,
    /// Name, labels and what the store keeps.
    #[serde(default)]
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: TriggerSpec,
    /// What is. Ignored in what clients send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<TriggerStatus>,
}

/// What is wanted of a trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TriggerSpec {
    /// The function that is called, of the same namespace.
    pub function: String,
    /// When: five fields of cron (minute, hour, day of the month, month, day of the week), `@hourly`, `@daily`, `@weekly`,
    /// `@monthly`, `@yearly`, `@every 90s`, or `@at 2026-11-23T18:00:00Z`. `CRON_TZ=Europe/Berlin` in front names a zone.
    pub schedule: String,
    /// The IANA name of the zone whose time of day the schedule speaks of; `UTC` where absent. A time that clocks leave out
    /// runs at the first instant after the gap, one that they show twice at the first; minutes of every hour (`*`) go on
    /// through both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What is done about ticks that were missed: `skip`, `once` (the last of them, which is the default) or `all` (at most
    /// the newest 100). One that is late by less than 10 seconds was not missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<String>,
    /// Each tick is late by up to so much, always by the same: `30s`. At most `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<String>,
    /// Nothing happens while it is, and nothing is made up for afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// What the function is called with: a POST of `/` without a body where absent.
    #[serde(default, skip_serializing_if = "TriggerRequest::is_default")]
    pub request: TriggerRequest,
    /// What becomes of its calls that do not succeed, in place of what the function says of that.
    #[serde(
        default,
        rename = "async",
        skip_serializing_if = "TriggerLater::is_default"
    )]
    pub later: TriggerLater,
}

/// What becomes of a trigger's calls that do not succeed. What is absent is as its function says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TriggerLater {
    /// How often a call is made again after a failure of the function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Which answers are failures: `never`, `unavailable` (429, 502 to 504), `server` (429 and all from 500) or `all` from
    /// 400. Crashes and limits always are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<String>,
    /// The delay after the first failure, which doubles: `1s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    /// The longest delay: `5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<String>,
    /// How much chance is in delays: `full`, `equal` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<String>,
    /// A call that has not succeeded by then is given up: `6h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
}

/// What a trigger calls its function with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TriggerRequest {
    /// `POST` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Below the function, with the query; `/` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What the body is; where absent, `application/json` if it is JSON, else plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The body, text of at most 128 KiB; none where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// What is, of a trigger. Times are RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TriggerStatus {
    /// The last tick that was acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_tick: Option<String>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_fired: Option<String>,
    /// The invocation that came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_invocation: Option<String>,
    /// When ticks were last found to have been missed, and not made up for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_missed: Option<String>,
    /// How many ticks were acted on.
    pub fired: u64,
    /// Why the last tick was not accepted, where it was not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// The next tick; absent where there is none, or while it is paused. Filled in when read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_tick: Option<String>,
    /// The next five, as clocks of its zone show them. Filled in when read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub upcoming: Vec<String>,
    /// The function's document that it belongs to, where that says when it is called. Filled in when read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// Triggers by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct TriggerList {
    /// By name.
    pub items: Vec<Trigger>,
}

/// What came of asking for a trigger by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggerFired {
    /// The invocation that comes of it.
    pub invocation: String,
}

impl TriggerRequest {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The method, in capitals.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("POST")
    }

    /// The path below the function, with the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or("/")
    }

    /// What the body is said to be, where there is anything to say.
    #[must_use]
    pub fn body_type(&self) -> Option<&str> {
        match (&self.content_type, &self.body) {
            (Some(kind), _) => Some(kind.as_str()),
            (None, None) => None,
            (None, Some(body)) if is_json(body) => Some("application/json"),
            (None, Some(_)) => Some("text/plain; charset=utf-8"),
        }
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

impl TriggerLater {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn trigger_kind() -> String {
    TRIGGER.to_owned()
}
