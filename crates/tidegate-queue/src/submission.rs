//! What is submitted to the queue, and what of it comes back.

use bytes::Bytes;
use tidegate_core::queue::{Ended, Policy};
use tidegate_core::record::{Cause, TraceContext};
use tidegate_core::{FunctionKey, InvocationId};
use tidegate_store::Digest;

/// Largest body in bytes that is kept in the queue's file; larger ones are spooled (see `Queue::spool`).
pub const MAX_INLINE_BYTES: usize = 1024 * 1024;
/// Longest ordering key and idempotency key in bytes: longer than any id in use, short enough to cost nothing.
pub const MAX_KEY_BYTES: usize = 1024;
/// Most bytes of method, path and headers together: what one request's head may have, and some.
pub const MAX_HEAD_BYTES: usize = 256 * 1024;

/// An invocation to be run later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Its name. New for each submission; one that is still in the queue is not accepted a second time.
    pub id: InvocationId,
    /// The function to call, or on whose behalf something is delivered.
    pub function: FunctionKey,
    /// Where the request goes.
    pub target: Target,
    /// The door that it came through, by the word of the dialect which knows how to write an answer to its client.
    pub door: String,
    /// What is asked.
    pub request: Payload,
    /// What led to it.
    pub cause: Cause,
    /// Its place in a distributed trace.
    pub trace: Option<TraceContext>,
    /// How many functions called one another until this.
    pub depth: u32,
    /// When it may run first, in milliseconds since the Unix epoch; 0 for at once.
    pub due_ms: u64,
    /// What becomes of it if it does not succeed.
    pub policy: Policy,
    /// Of the submissions to one function with the same key one runs at a time, in the order in which they were accepted.
    /// At most [`MAX_KEY_BYTES`].
    pub order_key: Option<String>,
    /// A word of the client's for this submission: a second one to the same function with the same word is the same
    /// submission. Remembered for `Options::remember_ms`. At most [`MAX_KEY_BYTES`].
    pub idempotency: Option<String>,
    /// Who hears of it when it succeeded.
    pub on_success: Option<Destination>,
    /// Who hears of it when it was given up.
    pub on_failure: Option<Destination>,
    /// Who gets its answer.
    pub callback: Option<Callback>,
    /// How long its result can be asked for, in milliseconds; 0 for not at all.
    pub keep_result_ms: u64,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the submission's function.
    Function,
    /// To this address, on the function's behalf.
    Url(String),
}

/// A request, as it will be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// In capitals, as `POST`.
    pub method: String,
    /// Below the function, beginning with `/`, with the query.
    pub path_and_query: String,
    /// In order, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Body,
}

/// A body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// At most [`MAX_INLINE_BYTES`].
    Inline(Bytes),
    /// What `Queue::spool` gave. It belongs to the item, and goes when the item goes.
    Spooled(Spooled),
}

/// A body that was written to disk before its submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spooled {
    /// The blob that holds it, behind some random bytes that make it nobody else's.
    pub digest: Digest,
    /// The body's length in bytes.
    pub bytes: u64,
}

/// Who hears of an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A function, by an invocation of its own.
    Function(FunctionKey),
    /// An address.
    Url(String),
}

/// Who gets an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// The address.
    pub url: String,
}

/// The answer of a function to a queued invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Bytes,
}

/// How an invocation ended for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Which one.
    pub id: InvocationId,
    /// What was called.
    pub function: FunctionKey,
    /// How.
    pub ended: Ending,
    /// Why not well, for people.
    pub message: Option<String>,
    /// When, in milliseconds since the Unix epoch.
    pub ended_ms: u64,
    /// How many attempts it took.
    pub tries: u32,
    /// The last answer, where there was one that was small enough to keep.
    pub answer: Option<Answer>,
    /// How the last attempt ended, where what was given up was given up after one.
    pub last: Option<Ended>,
}

/// The ways in which an invocation ends for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The function answered.
    Done(Ended),
    /// It was given up; it is among the dead letters unless it was redriven or purged.
    Dead(tidegate_core::queue::Reason),
    /// Somebody cancelled it.
    Cancelled,
}

impl Payload {
    /// The body's length in bytes.
    pub fn body_bytes(&self) -> u64 {
        match &self.body {
            Body::Inline(bytes) => bytes.len() as u64,
            Body::Spooled(spooled) => spooled.bytes,
        }
    }
}
