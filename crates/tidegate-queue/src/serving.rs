//! What the dispatcher asks of the queue, beyond what everybody may.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_core::{FunctionKey, InvocationId};
use tokio::sync::broadcast;

use crate::dead::DeadLetter;
use crate::lanes::Lane;
use crate::queue::Queue;
use crate::submission::Submission;

/// Cancellations that a dispatcher may lag behind; then it asks after all its leases.
pub(crate) const CANCELLED: usize = 1024;

type FollowUps = dyn Fn(Submission, &DeadLetter) -> Vec<Submission> + Send + Sync;

/// What follows from the end of an item that nobody worked on: the writer gives up what became too old.
#[derive(Default)]
pub(crate) struct Follow(Mutex<Option<Arc<FollowUps>>>);

impl Follow {
    pub(crate) fn ask(&self, submission: Submission, letter: &DeadLetter) -> Vec<Submission> {
        let follow = self.0.lock().clone();
        follow.map_or_else(Vec::new, |follow| follow(submission, letter))
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Follow")
    }
}

impl Queue {
    /// From now on there is a dispatcher: what comes is kept at hand for it, and what the writer gives up is followed by
    /// what `follow` makes of it.
    pub(crate) fn serve(
        &self,
        follow: impl Fn(Submission, &DeadLetter) -> Vec<Submission> + Send + Sync + 'static,
    ) {
        self.inner.shared.hot.switch_on();
        *self.inner.shared.follow.0.lock() = Some(Arc::new(follow));
    }

    /// The lanes of which something may be due that was not when this was asked last.
    pub(crate) fn woken(&self) -> Vec<FunctionKey> {
        self.inner.shared.woken.lock().drain().collect()
    }

    pub(crate) fn lane(&self, lane: &FunctionKey) -> Option<Lane> {
        self.inner.shared.lanes.lock().one(lane)
    }

    /// Milliseconds of a clock that never goes back.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        self.inner.shared.clock.elapsed_ms()
    }

    /// What is cancelled while it runs.
    pub(crate) fn cancellations(&self) -> broadcast::Receiver<InvocationId> {
        self.inner.cancelled.subscribe()
    }

    /// Submissions that are kept in memory until they run, and their bytes.
    pub fn at_hand(&self) -> (usize, usize) {
        self.inner.shared.hot.held()
    }
}
