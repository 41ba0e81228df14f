//! What a function's document says of its queue.

use std::time::Duration;

use tidegate_core::queue::Policy;
use tidegate_queue::Destination;

/// What becomes of a function's queued invocations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueRules {
    /// How often, and when, one that did not succeed is tried again.
    pub policy: Policy,
    /// The statuses that are failures, in place of what the policy says of answers; all others are answers.
    pub codes: Option<Vec<u16>>,
    /// How many run at once; as many as the function's instances take where absent.
    pub concurrency: Option<u32>,
    /// How many begin in a second.
    pub rate: Option<f64>,
    /// Who hears of those that succeeded.
    pub on_success: Option<Destination>,
    /// Who hears of those that were given up.
    pub on_failure: Option<Destination>,
    /// How long results can be asked for.
    pub keep_result: Option<Duration>,
    /// Whether they run one at a time, in the order in which they were accepted, where a request names no order of its own.
    pub ordered: bool,
}
