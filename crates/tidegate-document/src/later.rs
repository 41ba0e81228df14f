//! What a function says of calls that were accepted to be made later.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What becomes of calls that were accepted to be made later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Later {
    /// How often a call is made again after a failure of the function; 2 where absent. Throttles and faults of the platform
    /// do not count: they are tried again until the call is too old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Which answers are failures: `never`, `unavailable` (429, 502 to 504), `server` (429 and all from 500), which is the
    /// default, or `all` from 400. Crashes and limits always are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<String>,
    /// The delay after the first failure, which doubles: `1s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    /// The longest delay: `5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<String>,
    /// How much chance is in delays: `full`, which is the default, `equal`, or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<String>,
    /// A call that has not succeeded by then is given up: `6h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
    /// Calls at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Calls that begin in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Whether calls are made one at a time, in the order in which they were accepted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ordered: bool,
    /// Who hears of calls that succeeded: a function as `NAME` or `NAME.NAMESPACE`, or a URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_success: Option<String>,
    /// Who hears of calls that were given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// How long results can be asked for: `24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_result: Option<String>,
}
