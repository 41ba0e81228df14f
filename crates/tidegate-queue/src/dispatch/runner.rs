//! What the dispatcher asks of whoever runs invocations.

use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use tidegate_core::FunctionKey;
use tidegate_core::queue::{Ended, Verdict};

use super::follow;
use crate::queue::Work;
use crate::submission::{Answer, Callback, Destination, Payload, Submission};

/// Runs attempts. The platform is one, and so is a test's table of answers.
///
/// A future of [`run`](Self::run) or [`deliver`](Self::deliver) that is dropped was cancelled: somebody wanted the
/// invocation gone, its lease is over, or the server goes down. It is to be cheap to drop, and to end the call.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Makes one attempt at an item whose target is its function. It has to end by itself: the function's own limit on
    /// time is the only one there is.
    async fn run(&self, work: &Work, attempt: Attempt) -> Ran;

    /// Makes one attempt at sending an item's request to `url`, on its function's behalf. See
    /// [`Courier`](super::Courier), which does it.
    async fn deliver(&self, work: &Work, url: &str, attempt: Attempt) -> Ran;

    /// How much of a function's queue may run at once. Asked often, so it is to be answered from memory; told of a change
    /// by [`Dispatcher::changed`](super::Dispatcher::changed), the dispatcher asks again at once.
    fn lane(&self, function: &FunctionKey) -> Allowance;

    /// An item that tells somebody of an end, as it is to be accepted: the runner knows what holds for a function that
    /// hears of it. Called where [`tell`](Self::tell) is, so pure and quick too.
    fn address(&self, item: Submission) -> Submission {
        item
    }

    /// The request that tells somebody of an end; nothing is sent where there is none. The door that the item came through
    /// decides what its clients expect. Called once for each who hears of an end, by the queue's writer for what became too
    /// old: pure, and quick.
    fn tell(&self, work: &Work, told: &Told<'_>, to: Listener<'_>) -> Option<Payload> {
        Some(follow::plain(work, told, to))
    }
}

/// Which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Counted from 1.
    pub number: u32,
    /// When it was due, in milliseconds since the Unix epoch.
    pub due_ms: u64,
    /// When the item is given up, in milliseconds since the Unix epoch.
    pub deadline_ms: u64,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// [`Verdict::Ended`] with how it ended; [`Verdict::Refused`] if it can never run; [`Verdict::Release`] if it was not
    /// begun, which leaves the item as it was.
    pub verdict: Verdict,
    /// Why it did not go well, for people.
    pub message: Option<String>,
    /// The answer, where there was one. Its body is bounded by the runner; it is kept up to
    /// [`MAX_INLINE_BYTES`](crate::MAX_INLINE_BYTES) and sent on whole.
    pub answer: Option<Answer>,
}

/// How much of a function's queue may run at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// Attempts at once; 0 while the function or its namespace is paused, whose items wait.
    pub concurrency: u32,
    /// Attempts by the second, where they are bounded.
    pub rate: Option<Rate>,
}

/// Starts by the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// In the long run; above 0.
    pub per_second: f64,
    /// At once.
    pub burst: NonZeroU32,
}

/// How an item ended for good, as those who asked are told.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Whether it is done; given up otherwise.
    pub done: bool,
    /// How the last attempt ended, where there was one.
    pub ended: Option<Ended>,
    /// Why it did not go well, for people.
    pub message: Option<&'a str>,
    /// How many attempts there were.
    pub tries: u32,
    /// How long the last attempt took; zero where there was none.
    pub took: Duration,
    /// The last answer.
    pub answer: Option<&'a Answer>,
}

/// Who hears of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener<'a> {
    /// The destination of items that are done.
    Success(&'a Destination),
    /// The destination of items that were given up.
    Failure(&'a Destination),
    /// Who gets the answer.
    Callback(&'a Callback),
}

// === impl Ran ===

impl Ran {
    /// It ended so.
    pub fn ended(ended: Ended, answer: Option<Answer>) -> Self {
        Self {
            verdict: Verdict::Ended(ended),
            message: None,
            answer,
        }
    }

    /// It can never run, for this reason.
    pub fn refused(message: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Refused,
            message: Some(message.into()),
            answer: None,
        }
    }

    /// With the reason why it did not go well.
    #[must_use]
    pub fn because(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}
