//! Room on a full disk: the oldest of what is kept goes before the newest is lost.
//!
//! Whoever fills the disk may be somebody else, and all that is kept must not go to feed them. So segments go one at a
//! time: the next when what is written took at least half of what the last one gave, or else after a while. The newest of
//! each kind stays, and so does what the sums of usage still need.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::Error;
use crate::recorder::Inner;
use crate::writer::chain;

/// How soon after one segment another may go though the room that it gave was taken by others.
const PAUSE: Duration = Duration::from_secs(10);

/// What was removed to make room.
#[derive(Debug, Default)]
pub(crate) struct Room {
    last: Option<Freed>,
}

#[derive(Debug)]
struct Freed {
    at: Instant,
    bytes: u64,
    /// What had been written by then.
    written: u64,
}

impl Room {
    /// Removes the oldest segment if this error says that the disk is full. Returns whether there is room now.
    pub(crate) fn make(&mut self, inner: &Inner, error: &Error) -> bool {
        let written = inner.counters.bytes.load(Ordering::Relaxed);
        if !is_full(error)
            || self
                .last
                .as_ref()
                .is_some_and(|last| last.is_fresh(written))
        {
            return false;
        }
        let needed = inner.usage.lock().needed();
        let series = [(&inner.records, needed), (&inner.lines, u64::MAX)];
        let candidates = series
            .into_iter()
            .filter_map(|(series, needed)| Some((series.spare(needed)?, series)));
        // Numbers are times.
        let Some((oldest, series)) = candidates.min_by_key(|(oldest, _)| oldest.name.number) else {
            return false;
        };
        let bytes = oldest.bytes + oldest.index_bytes.load(Ordering::Relaxed);
        let path = oldest.path.display();
        if let Err(error) = series.remove(&oldest) {
            tracing::error!(%path, error = %chain(&error), "the disk is full, and the oldest segment cannot be removed");
            // Not again before the pause is over.
            self.last = Some(Freed {
                at: Instant::now(),
                bytes: u64::MAX,
                written,
            });
            return false;
        }
        tracing::warn!(%path, bytes, "the disk is full: the oldest segment goes, so that new records find room");
        inner.counters.freed.fetch_add(1, Ordering::Relaxed);
        self.last = Some(Freed {
            at: Instant::now(),
            bytes,
            written,
        });
        true
    }
}

impl Freed {
    /// Whether it is too soon for another.
    fn is_fresh(&self, written: u64) -> bool {
        self.at.elapsed() < PAUSE && written - self.written < self.bytes / 2
    }
}

fn is_full(error: &Error) -> bool {
    let Error::Io { source, .. } = error else {
        return false;
    };
    matches!(
        source.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
