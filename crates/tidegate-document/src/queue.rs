//! What is told of invocations that were accepted to run later, and of those that were given up.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Headers of a request that is to be run later, and of what is answered to it. `Prefer: respond-async` asks for it.
pub mod headers {
    /// Not before this has passed: `30s`.
    pub const DELAY: &str = "x-tidegate-delay";
    /// A second request to the same function with the same word is the first one.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
    /// Of the requests to one function with the same word one runs at a time, in the order in which they were accepted.
    pub const ORDER_KEY: &str = "x-tidegate-order-key";
    /// Given up when it has become so old: `6h`.
    pub const MAX_AGE: &str = "x-tidegate-max-age";
    /// Who gets the answer.
    pub const CALLBACK: &str = "x-callback-url";
    /// In an answer: `true` where the id is that of a request which was accepted before.
    pub const DUPLICATE: &str = "x-tidegate-duplicate";
    /// In an answer that was kept or sent on and was cut: the bytes that there are of it.
    pub const CUT: &str = "x-tidegate-cut";
    /// In a result: the status of the function's answer.
    pub const STATUS: &str = "x-tidegate-status";
}

/// An invocation that was accepted to run later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Queued {
    /// Which one, 32 hexadecimal digits.
    pub id: String,
    /// The namespace of the function.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// Where it stands.
    pub state: QueueState,
    /// When it was accepted, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
    /// When it is tried next, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
    /// When it is given up if it has not succeeded by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// Whether another with the same ordering key comes before it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub behind: bool,
    /// Attempts that have ended.
    pub tries: u32,
    /// Those of them in which the function failed; throttles and faults of the platform do not count.
    pub failures: u32,
    /// When it ended for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// How its last attempt ended, in the words of records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The status of the function's last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it was given up: `failed`, `not-retried`, `too-old`, `refused` or `damaged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it did not end well, or why the last attempt did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Where a queued invocation stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QueueState {
    /// It waits for its time, for its turn, or for another attempt.
    #[default]
    Waiting,
    /// It is being worked on.
    Running,
    /// It ended with an answer that nobody tries to better.
    Done,
    /// It was given up, and is among the dead letters until it is sent again or thrown away.
    Dead,
    /// Somebody cancelled it.
    Cancelled,
}

/// A page of invocations that are not done, in the order in which they were accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueList {
    /// The invocations; may be fewer than were asked for, or none, with more to come.
    pub items: Vec<Queued>,
    /// Sent back as `continue`, it gives the next page; absent at the end.
    #[serde(default, rename = "continue", skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An invocation that was given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeadLetter {
    /// Which one, 32 hexadecimal digits.
    pub id: String,
    /// The namespace of the function.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// Why: `failed` (as often as it may), `not-retried` (nobody tries such an end again), `too-old`, `refused` (it can never
    /// run) or `damaged` (what was stored of it is not what was written).
    pub reason: String,
    /// How its last attempt ended, in the words of records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The status of the function's last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why the last attempt did not end well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was accepted, RFC 3339; absent where that cannot be read any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
    /// When it was given up, RFC 3339.
    pub died: String,
    /// Attempts.
    pub tries: u32,
    /// Those of them in which the function failed.
    pub failures: u32,
    /// Bytes of the request's body.
    pub body_bytes: u64,
    /// What was asked; told of one dead letter alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<DeadRequest>,
    /// What the function answered last, as far as it was kept; told of one dead letter alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<DeadAnswer>,
}

/// What a dead letter asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeadRequest {
    /// In capitals.
    pub method: String,
    /// Below the function, with the query.
    pub path: String,
    /// Names in lower case and values, in order. Values of headers that carry credentials are left out.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body, at most 4 KiB of it, where that is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// What a function answered to a dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeadAnswer {
    /// The status.
    pub status: u16,
    /// The beginning of the body, at most 4 KiB of it, where that is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// A page of dead letters, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterList {
    /// The dead letters; may be fewer than were asked for, or none, with more to come.
    pub items: Vec<DeadLetter>,
    /// Sent back as `continue`, it gives the next page; absent at the end.
    #[serde(default, rename = "continue", skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which dead letters are sent again. All conditions have to hold; without any, all are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Redrive {
    /// Only this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Only of this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only of this function, in `namespace` or the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Only those that were given up for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only those given up from then on: a duration back from now such as `1h`, or an RFC 3339 time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only those given up before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// At most so many begin in a second; as the function's own rate allows where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
}

/// How many dead letters were sent again, or thrown away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadCount {
    /// How many.
    pub count: u64,
}
