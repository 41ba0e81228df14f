//! Watching objects change.
//!
//! The last changes of all objects are kept in one bounded history in memory; a watcher is a position in it and a
//! filter. Nothing is queued for anyone, so a slow watcher costs nothing: when the history has moved past its position
//! it gets [`Error::Expired`], lists again and watches from there. The same happens after a restart, since the history
//! does not outlive the process.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::Stream;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::{Error, LabelSelector, Object, Query, ResourceVersion};

/// Changes kept for watchers: with small documents, ten seconds of a few hundred changes a second, which is a busy day for
/// objects.
pub const HISTORY_EVENTS: usize = 4096;
/// The history is also bounded by the size of its documents as JSON, in bytes: parsed, they take several times that, and a
/// server that has little to do must not be held to the memory of its busiest minute.
pub const HISTORY_BYTES: usize = 1024 * 1024;
/// Changes looked at under one lock, and at most held by one watcher.
const BATCH: usize = 64;
/// A watcher that nothing concerned learns its new position after this many changes: often enough that, when it is
/// interrupted, it can go on from a position still in the history.
const BOOKMARK_AFTER: u64 = 256;

/// What happened to an object that a watch is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It was created, or its labels now match.
    Added(Object),
    /// It changed.
    Modified(Object),
    /// It was removed, or its labels no longer match. The last document; its resourceVersion is that of the removal.
    Deleted(Object),
    /// Nothing that matches happened up to here; a later watch can start from this version.
    Bookmark(ResourceVersion),
}

/// What a commit did, with the labels before it, if that can matter to a watch.
#[derive(Debug)]
pub(crate) enum ChangeKind {
    Created,
    Changed {
        before: Labels,
    },
    Removed {
        before: Labels,
    },
    /// A damaged row was given up; nobody knows what labels it had.
    Discarded,
}

/// The labels of a document as they stand in it.
pub(crate) type Labels = Option<Value>;

/// One commit.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) kind: ChangeKind,
    pub(crate) object: Object,
    /// Size of the document as JSON.
    pub(crate) bytes: usize,
}

#[derive(Debug)]
struct History {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// All changes after this version are in `changes`.
    floor: u64,
    /// The highest version that a reader of the database can have seen.
    committing: u64,
    closed: bool,
}

/// Where the writer puts changes and watchers find them.
#[derive(Debug)]
pub(crate) struct Hub {
    history: Mutex<History>,
    latest: watch::Sender<u64>,
}

/// A sequence of events. Ends after an error and when the store is closed.
#[derive(Debug)]
pub struct Watch {
    hub: Arc<Hub>,
    latest: watch::Receiver<u64>,
    query: Query,
    /// Every change up to here was looked at.
    position: u64,
    /// The last version the caller was told about.
    told: u64,
    pending: VecDeque<Event>,
    ended: bool,
}

// === impl Hub ===

impl Hub {
    pub(crate) fn new(version: u64) -> Self {
        let history = History {
            changes: VecDeque::new(),
            bytes: 0,
            floor: version,
            committing: version,
            closed: false,
        };
        Self {
            history: Mutex::new(history),
            latest: watch::Sender::new(version),
        }
    }

    /// Says that versions up to this one may become visible in the database from now on.
    pub(crate) fn committing(&self, version: u64) {
        self.history.lock().committing = version;
    }

    /// Makes committed changes, in order, visible to watchers.
    pub(crate) fn publish(&self, changes: Vec<Change>) {
        let Some(last) = changes.last().map(|change| change.version) else {
            return;
        };
        let mut history = self.history.lock();
        for change in changes {
            history.bytes += change.bytes;
            history.changes.push_back(Arc::new(change));
        }
        while history.changes.len() > HISTORY_EVENTS || history.bytes > HISTORY_BYTES {
            let Some(oldest) = history.changes.pop_front() else {
                break;
            };
            history.bytes -= oldest.bytes;
            history.floor = oldest.version;
        }
        drop(history);
        self.latest.send_replace(last);
    }

    pub(crate) fn close(&self) {
        self.history.lock().closed = true;
        self.latest.send_modify(|_| {});
    }

    /// A watch of everything after `from`, or of everything from now on.
    pub(crate) fn watch(
        self: &Arc<Self>,
        query: Query,
        from: Option<ResourceVersion>,
    ) -> Result<Watch, Error> {
        let history = self.history.lock();
        let position = match from {
            Some(from) => from.get(),
            None => history
                .changes
                .back()
                .map_or(history.floor, |change| change.version),
        };
        // A version never given out comes from another store, or from this one before it was put back from a copy.
        if position < history.floor || position > history.committing {
            return Err(Error::Expired {
                version: ResourceVersion::new(position),
            });
        }
        drop(history);
        Ok(Watch {
            hub: Arc::clone(self),
            latest: self.latest.subscribe(),
            query,
            position,
            told: position,
            pending: VecDeque::new(),
            ended: false,
        })
    }
}

// === impl Watch ===

impl Watch {
    /// The next event; waits for one. None after an error and after the store was closed.
    ///
    /// Cancel safe: an event is lost only if it was returned.
    ///
    /// # Errors
    /// [`Error::Expired`] if the history has moved on past this watcher: list again.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            // Marked as seen before looking, so that what comes while looking wakes us.
            self.latest.borrow_and_update();
            match self.look() {
                Ok(Look::Moved) => {}
                Ok(Look::Nothing) => {
                    if self.latest.changed().await.is_err() {
                        self.ended = true;
                    }
                }
                Ok(Look::Closed) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, Error>> + Send {
        futures_util::stream::unfold(self, |mut watch| async move {
            watch.next().await.map(|event| (event, watch))
        })
    }

    /// Looks at the next changes and keeps what matches.
    fn look(&mut self) -> Result<Look, Error> {
        let batch: Vec<Arc<Change>> = {
            let history = self.hub.history.lock();
            if self.position < history.floor {
                return Err(Error::Expired {
                    version: ResourceVersion::new(self.position),
                });
            }
            let start = history
                .changes
                .partition_point(|change| change.version <= self.position);
            if start == history.changes.len() && history.closed {
                return Ok(Look::Closed);
            }
            history
                .changes
                .range(start..)
                .take(BATCH)
                .cloned()
                .collect()
        };
        let Some(last) = batch.last() else {
            return Ok(Look::Nothing);
        };
        self.position = last.version;
        for change in &batch {
            if let Some(event) = self.event(change) {
                self.told = change.version;
                self.pending.push_back(event);
            }
        }
        if self.position - self.told >= BOOKMARK_AFTER {
            self.told = self.position;
            self.pending
                .push_back(Event::Bookmark(ResourceVersion::new(self.position)));
        }
        Ok(Look::Moved)
    }

    fn event(&self, change: &Change) -> Option<Event> {
        if !self.query.covers(change.object.key()) {
            return None;
        }
        let labels = &self.query.labels;
        let (before, now) = match &change.kind {
            ChangeKind::Created => (false, change.object.matches(labels)),
            ChangeKind::Changed { before } => {
                (matches(labels, before), change.object.matches(labels))
            }
            ChangeKind::Removed { before } => (matches(labels, before), false),
            ChangeKind::Discarded => (true, false),
        };
        match (before, now) {
            (false, true) => Some(Event::Added(change.object.clone())),
            (true, true) => Some(Event::Modified(change.object.clone())),
            (true, false) => Some(Event::Deleted(change.object.clone())),
            (false, false) => None,
        }
    }
}

fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    selector.matches(|name| labels.as_ref()?.get(name)?.as_str())
}

enum Look {
    Moved,
    Nothing,
    Closed,
}

#[cfg(test)]
mod tests;
