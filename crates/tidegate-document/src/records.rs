//! What is told of invocations, of usage, and of what it costs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is kept of one invocation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The invocation, 32 hexadecimal digits.
    pub id: String,
    /// The namespace of the function.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// The revision that answered, or was to; absent where none was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// What led to it.
    pub cause: Cause,
    /// Its place in a distributed trace; absent where the request named none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// When it arrived, RFC 3339 with microseconds.
    pub received: String,
    /// How long it took from its arrival to its end, and the parts of that.
    pub times: Times,
    /// How it ended: `ok`, `application` (a 4xx or 5xx that the code chose), `function`, `platform`, `cancelled`, or a limit
    /// such as `limit-timeout`.
    pub outcome: String,
    /// Why it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The status of the code's answer, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes of the request's body that were read.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// What it used.
    pub used: Used,
    /// The memory that its instance may use, in bytes.
    pub memory_limit: u64,
    /// The time that it is billed for, in microseconds.
    pub billed_us: u64,
    /// What it costs by the server's prices, a decimal number; absent where nothing has a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// Where it ran; absent where it ran nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The invocations that it asked for, in the order in which they ended; told of one record alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<String>,
}

/// What led to an invocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// `call` (somebody outside), `function`, `queue`, `schedule`, `event` or `destination`.
    pub kind: String,
    /// The invocation that asked for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The trigger's name, or the event's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which attempt of a queued invocation this is, from 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
}

/// A place in a distributed trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// The trace, 32 hexadecimal digits.
    pub id: String,
    /// The span of this invocation, 16 hexadecimal digits.
    pub span: String,
    /// The span that called, 16 hexadecimal digits.
    pub parent: String,
    /// Whether whoever began the trace wants it kept.
    pub sampled: bool,
}

/// How long an invocation took, in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    /// From its arrival to its end.
    pub total_us: u64,
    /// From its arrival, or from when it was due, until it had an instance. Holds the start, where there was one.
    pub queue_us: u64,
    /// The start that it waited for; absent for a warm call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold: Option<ColdStart>,
    /// From there until the last byte had left the instance.
    pub run_us: u64,
}

/// The parts of a start, in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ColdStart {
    /// Namespaces, mounts, limits.
    pub sandbox_us: u64,
    /// Until the runtime's first instruction.
    pub runtime_us: u64,
    /// Loading the code.
    pub load_us: u64,
}

/// What an invocation used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Used {
    /// `alone`: the figures are this invocation's. `shared`: others ran on the instance between two looks at its counters.
    /// `unmeasured`: nothing measures it here, or it reached no instance.
    pub how: String,
    /// Processor time in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_us: Option<u64>,
    /// The instance's highest memory so far, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
}

/// In a stream of records: so many were not read in time, and are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Missed {
    /// How many.
    pub missed: u64,
}

/// A page of records, those that ended last first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordList {
    /// The records; may be fewer than were asked for, or none, with more to come.
    pub items: Vec<Record>,
    /// Sent back as `continue`, it gives the next page; absent at the end.
    #[serde(default, rename = "continue", skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What one function used in some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// The namespace of the function.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// When the time begins, RFC 3339.
    pub start: String,
    /// Invocations, by how they ended.
    pub invocations: Counts,
    /// Memory limit times billed time, in GB-seconds (2³⁰ bytes).
    pub gb_seconds: f64,
    /// Billed time in seconds.
    pub billed_seconds: f64,
    /// Processor time in seconds, as far as it was measured.
    pub cpu_seconds: f64,
    /// Bytes of requests' bodies.
    pub bytes_in: u64,
    /// Bytes of answers' bodies.
    pub bytes_out: u64,
    /// Invocations that waited for a start.
    pub cold_starts: u64,
    /// Invocations that were accepted to run later.
    pub queued: u64,
    /// Time that instances were there without a call, in seconds.
    pub idle_seconds: f64,
    /// The same times their memory limit, in GB-seconds.
    pub idle_gb_seconds: f64,
    /// Invocations that left no record: by the function's level, or because there was too much to do.
    pub unrecorded: u64,
}

/// Invocations that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// All.
    pub total: u64,
    /// By outcome, those that occurred.
    pub by_outcome: BTreeMap<String, u64>,
}

/// Usage, by function and time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageList {
    /// One row a function and time.
    pub items: Vec<Usage>,
}

/// What usage costs. Amounts of money are decimal numbers as text, so that nobody rounds them on the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostPage {
    /// The currency of the server's prices; empty where nobody has set one.
    pub currency: String,
    /// One row a function and time.
    pub items: Vec<CostRow>,
    /// All rows together.
    pub total: String,
}

/// What one function costs in some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostRow {
    /// What it used.
    pub usage: Usage,
    /// What that costs.
    pub cost: Cost,
}

/// A cost, in the currency of the prices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// All of it.
    pub total: String,
    /// For the number of invocations.
    pub invocations: String,
    /// For memory while they ran.
    pub gb_seconds: String,
    /// For processor time.
    pub cpu: String,
    /// For bytes of answers.
    pub out: String,
    /// For waiting for starts.
    pub cold_starts: String,
    /// For memory while nothing ran.
    pub idle: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}
