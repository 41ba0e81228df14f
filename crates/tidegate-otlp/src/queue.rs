//! What waits in memory: bounded by bytes; what has no room is counted, and whoever brings it never waits.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::stats::Counters;

/// Bookkeeping of an item, in bytes.
const ITEM: usize = 64;

pub(crate) struct Bounded<T> {
    items: Mutex<Items<T>>,
    grew: Notify,
    max_bytes: usize,
    counters: Arc<Counters>,
}

struct Items<T> {
    waiting: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> Bounded<T> {
    pub(crate) fn new(max_bytes: usize, counters: Arc<Counters>) -> Self {
        Self {
            items: Mutex::new(Items {
                waiting: VecDeque::new(),
                bytes: 0,
            }),
            grew: Notify::new(),
            max_bytes,
            counters,
        }
    }

    /// Takes an item of so many bytes, or counts it as dropped.
    pub(crate) fn push(&self, item: T, bytes: usize) {
        let bytes = bytes + size_of::<T>() + ITEM;
        let mut items = self.items.lock();
        if items.bytes + bytes > self.max_bytes {
            drop(items);
            Counters::add(&self.counters.dropped, 1);
            return;
        }
        items.bytes += bytes;
        items.waiting.push_back((item, bytes));
        drop(items);
        self.grew.notify_one();
    }

    /// The oldest that `ready` says so of, at most so many, in their order. The others wait on, and hold up nobody.
    pub(crate) fn take(&self, most: usize, ready: impl Fn(&T) -> bool) -> Vec<T> {
        let mut items = self.items.lock();
        let (mut taken, mut passed) = (Vec::new(), Vec::new());
        while taken.len() < most
            && let Some((item, bytes)) = items.waiting.pop_front()
        {
            if ready(&item) {
                items.bytes -= bytes;
                taken.push(item);
            } else {
                passed.push((item, bytes));
            }
        }
        for item in passed.into_iter().rev() {
            items.waiting.push_front(item);
        }
        taken
    }

    /// Waits until there is something, or has been since the last time.
    pub(crate) async fn grew(&self) {
        self.grew.notified().await;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.lock().waiting.is_empty()
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_counted_and_what_was_taken_makes_room() {
        let queue = Bounded::new(1000, Arc::default());
        for n in 0..100_u32 {
            queue.push(n, 100);
        }
        let dropped = queue.counters().read().dropped;
        let taken = queue.take(usize::MAX, |_| true);
        assert!(taken.len() >= 5, "{taken:?}");
        assert_eq!(taken.len() as u64 + dropped, 100);
        queue.push(7, 100);
        assert_eq!(queue.counters().read().dropped, dropped);
        assert!(queue.take(1, |n| *n != 7).is_empty() && !queue.is_empty());
        for n in [8, 9] {
            queue.push(n, 1);
        }
        assert_eq!(queue.take(9, |n| *n != 7), [8, 9]);
        assert_eq!(queue.take(9, |_| true), [7]);
    }
}
