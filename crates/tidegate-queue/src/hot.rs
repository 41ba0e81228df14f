//! Submissions that are about to run, kept in memory from their acceptance until then.
//!
//! What is accepted while the queue is short runs within a millisecond, and would otherwise be read back from the file that
//! it was just written to. This is a shortcut and nothing more: what is not here is in the file. It is bounded in items and
//! bytes, and what lies in it for long is thrown out when room is wanted.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tidegate_core::InvocationId;

use crate::submission::{Body, Submission};

/// Most submissions, and most bytes of them: a short queue's, and little beside what the server holds otherwise.
const ITEMS: usize = 4096;
const BYTES: usize = 16 * 1024 * 1024;
/// Beside what a submission says of itself: names, lists, and the entry.
const EACH: usize = 512;
/// After this, one that was not asked for has missed its time, in milliseconds.
const STALE_MS: u64 = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Hot(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// Nobody asks before there is a dispatcher.
    on: bool,
    entries: HashMap<InvocationId, Entry>,
    /// In the order in which they came; those that are gone are passed over.
    order: VecDeque<(u64, InvocationId)>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    submission: Submission,
    accepted_ms: u64,
    bytes: usize,
}

impl Hot {
    pub(crate) fn switch_on(&self) {
        self.0.lock().on = true;
    }

    /// Keeps a copy of one that is due at once, if there is room.
    pub(crate) fn put(&self, submission: &Submission, accepted_ms: u64) -> bool {
        let Some(bytes) = size(submission) else {
            return false;
        };
        let mut entries = self.0.lock();
        // An id that is there already is nobody else's.
        if !entries.on || entries.entries.contains_key(&submission.id) {
            return false;
        }
        while let Some((came, id)) = entries.order.front().copied() {
            let gone = !entries.entries.contains_key(&id);
            let stale = came + STALE_MS < accepted_ms;
            if !(gone || stale) {
                break;
            }
            entries.order.pop_front();
            entries.remove(id);
        }
        if entries.order.len() >= ITEMS || entries.bytes + bytes > BYTES {
            return false;
        }
        entries.bytes += bytes;
        entries.order.push_back((accepted_ms, submission.id));
        let entry = Entry {
            submission: submission.clone(),
            accepted_ms,
            bytes,
        };
        entries.entries.insert(submission.id, entry);
        true
    }

    /// Takes one out, with when it was accepted.
    pub(crate) fn take(&self, id: InvocationId) -> Option<(Submission, u64)> {
        let entry = self.0.lock().remove(id)?;
        Some((entry.submission, entry.accepted_ms))
    }

    /// How many submissions are kept, and their bytes.
    pub(crate) fn held(&self) -> (usize, usize) {
        let entries = self.0.lock();
        (entries.entries.len(), entries.bytes)
    }
}

impl Entries {
    fn remove(&mut self, id: InvocationId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.bytes -= entry.bytes;
        // What went in first mostly goes first.
        while let Some((_, first)) = self.order.front()
            && !self.entries.contains_key(first)
        {
            self.order.pop_front();
        }
        Some(entry)
    }
}

/// What one takes in memory; none for one that is not kept.
fn size(submission: &Submission) -> Option<usize> {
    let Body::Inline(body) = &submission.request.body else {
        return None;
    };
    let headers = submission.request.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| name.len() + value.len() + 64)
        .sum();
    let path = submission.request.path_and_query.len();
    (submission.due_ms == 0).then(|| EACH + path + headers + body.len())
}
