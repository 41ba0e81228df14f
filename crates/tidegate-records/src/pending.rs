//! What waits in memory to be written.
//!
//! A thread that serves calls adds to a shard of its own: one short lock that nobody else wants, a few dozen bytes
//! encoded in place, one addition to the sums of the function. Under that one lock a record and what it used come
//! together, and the writer takes both at once, so they reach the disk in the same batch.
//!
//! A shard is bounded in bytes. Beyond half of them the records of successful calls are given up, and counted; the rest
//! is for those that are never shed. Where even that is full, whoever brings one waits a moment for the writer, and
//! where the disk takes nothing, which no wait on a serving thread would mend, the record is lost and counted as such.
//! Sums are never given up: they grow with the number of functions, not of calls.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use tidegate_core::FunctionKey;
use tidegate_core::record::Class;

use crate::encode::Entry;
use crate::usage::Totals;

/// Longest that a record which is never shed waits for room: long beside a write, short beside a call's patience.
const KEPT_WAIT: Duration = Duration::from_millis(100);
/// Most hours of one function that wait in a shard. More only come together while the disk takes nothing; what is used
/// then is counted in the last of them.
const MAX_HOURS: usize = 4;

/// What waits, of one kind.
#[derive(Debug)]
pub(crate) struct Pending {
    shards: Box<[Shard]>,
    /// Bytes of a shard beyond which records of successful calls are given up.
    shed_at: usize,
    /// Set while the disk takes nothing, or does not answer: then waiting for room is of no use. The writer clears it when
    /// it has written something.
    pub(crate) stuck: AtomicBool,
    /// Given up.
    pub(crate) shed: AtomicU64,
    /// Lost though they are never to be given up.
    pub(crate) lost: AtomicU64,
}

/// One thread's part, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    waiting: Mutex<Waiting>,
    room: Condvar,
}

/// What a shard holds.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Encoded, one after the other.
    pub(crate) items: Vec<u8>,
    /// How many.
    pub(crate) count: u64,
    functions: HashMap<u64, Sums>,
}

/// A function, and what it used by the hour.
type Sums = (Arc<FunctionKey>, Vec<(u64, Totals)>);

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// Whether it was taken.
    pub(crate) taken: bool,
    /// Bytes that it takes.
    pub(crate) bytes: usize,
    /// Whether the writer should not wait any longer.
    pub(crate) hurry: bool,
}

/// An item to come: what it is like, and who is asked to encode it.
pub(crate) struct Push<'a, E, T> {
    pub(crate) number: u64,
    pub(crate) key: &'a Arc<FunctionKey>,
    pub(crate) class: Class,
    /// Encodes it; absent for what only counts.
    pub(crate) encode: Option<E>,
    /// The hour, and what to add to its sums, told whether a record was taken; absent for what uses nothing.
    pub(crate) count: Option<(u64, T)>,
}

thread_local! {
    static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
}
static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

fn shard_of_thread() -> usize {
    SHARD.with(|shard| {
        shard.get().unwrap_or_else(|| {
            let next = NEXT_SHARD.fetch_add(1, Ordering::Relaxed);
            shard.set(Some(next));
            next
        })
    })
}

// === impl Pending ===

impl Pending {
    pub(crate) fn new(shards: usize, bytes: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Shard::default()).collect(),
            shed_at: bytes / shards / 2,
            stuck: AtomicBool::new(false),
            shed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Adds an item, or gives it up.
    pub(crate) fn push<E, T>(&self, push: Push<'_, E, T>) -> Pushed
    where
        E: FnOnce(&mut Vec<u8>),
        T: FnOnce(&mut Totals, bool),
    {
        let shard = &self.shards[shard_of_thread() % self.shards.len()];
        let was_stuck = self.stuck.load(Ordering::Relaxed);
        let mut waiting = shard.waiting.lock();
        let taken = push.encode.is_some() && {
            let room = match push.class {
                Class::Sampled => waiting.items.len() < self.shed_at,
                Class::Kept => self.wait_for_room(shard, &mut waiting),
            };
            if !room {
                let count = match push.class {
                    Class::Sampled => &self.shed,
                    Class::Kept => &self.lost,
                };
                count.fetch_add(1, Ordering::Relaxed);
            }
            room
        };
        let sums = waiting.function(push.number, push.key);
        if let Some((hour, add)) = push.count {
            add(of_hour(sums, hour), taken);
        }
        let before = waiting.items.len();
        if let Some(encode) = push.encode.filter(|_| taken) {
            encode(&mut waiting.items);
            waiting.count += 1;
        }
        let pushed = Pushed {
            taken,
            bytes: waiting.items.len() - before,
            hurry: waiting.items.len() >= self.shed_at / 2,
        };
        drop(waiting);
        if !taken && !was_stuck && self.stuck.load(Ordering::Relaxed) {
            // The thread that writes cannot say it. Without the lock, for the log may be on the same disk.
            tracing::error!(
                "the disk takes no records: until it does, ends of calls do not wait for it, and what finds no room is lost"
            );
        }
        pushed
    }

    /// Whether there is room for what is never shed, if need be after a wait.
    fn wait_for_room(
        &self,
        shard: &Shard,
        waiting: &mut parking_lot::MutexGuard<'_, Waiting>,
    ) -> bool {
        let full = |waiting: &Waiting| waiting.items.len() >= self.shed_at * 2;
        if full(waiting) && !self.stuck.load(Ordering::Relaxed) {
            let until = Instant::now() + KEPT_WAIT;
            while full(waiting) && !shard.room.wait_until(waiting, until).timed_out() {}
            // One end has waited in vain: the next ones need not.
            if full(waiting) {
                self.stuck.store(true, Ordering::Relaxed);
            }
        }
        !full(waiting)
    }

    pub(crate) fn is_empty(&self) -> bool {
        let empty = |shard: &Shard| shard.waiting.lock().is_empty();
        self.shards.iter().all(empty)
    }

    /// Takes what each shard holds in turn, in exchange for `spare`, which is empty, and hands it to `each`, which leaves
    /// it empty.
    pub(crate) fn take(&self, spare: &mut Waiting, mut each: impl FnMut(&mut Waiting)) {
        for shard in &self.shards {
            {
                let mut waiting = shard.waiting.lock();
                if waiting.is_empty() {
                    continue;
                }
                std::mem::swap(&mut *waiting, spare);
                shard.room.notify_all();
            }
            each(spare);
            spare.clear(self.shed_at / 2);
        }
    }
}

fn of_hour(hours: &mut Vec<(u64, Totals)>, hour: u64) -> &mut Totals {
    let found = hours.iter().rposition(|(of, _)| *of == hour);
    let at = found.unwrap_or_else(|| {
        if hours.len() < MAX_HOURS {
            hours.push((hour, Totals::default()));
        }
        hours.len() - 1
    });
    &mut hours[at].1
}

// === impl Waiting ===

impl Waiting {
    fn function(&mut self, number: u64, key: &Arc<FunctionKey>) -> &mut Vec<(u64, Totals)> {
        let new = || (key.clone(), Vec::with_capacity(1));
        &mut self.functions.entry(number).or_insert_with(new).1
    }

    fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// The functions that are named here, and what they used.
    pub(crate) fn entries(&mut self) -> impl Iterator<Item = Entry> + '_ {
        self.functions
            .drain()
            .map(|(number, (key, hours))| Entry { number, key, hours })
    }

    /// Makes it empty; keeps memory to begin with again, but no more than `most` bytes.
    fn clear(&mut self, most: usize) {
        self.items.clear();
        self.items.shrink_to(most);
        self.count = 0;
        self.functions.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::function;

    #[test]
    fn one_end_waits_for_a_disk_that_does_not_answer_and_the_next_do_not() {
        const BYTES: usize = 4096;
        let pending = Pending::new(1, BYTES);
        let key = function("default", "hello");
        let end = || {
            pending.push(Push {
                number: 1,
                key: &key,
                class: Class::Kept,
                encode: Some(|out: &mut Vec<u8>| out.extend([0; 64])),
                count: Some((1, |totals: &mut Totals, _| totals.queued += 1)),
            })
        };
        while pending.lost.load(Ordering::Relaxed) == 0 {
            end();
        }
        // Nobody takes anything; a wait each would be ten seconds.
        let begun = Instant::now();
        let taken = (0..100).filter(|_| end().taken).count();
        assert_eq!(taken, 0);
        assert!(begun.elapsed() < KEPT_WAIT * 50, "{:?}", begun.elapsed());
        assert_eq!(pending.lost.load(Ordering::Relaxed), 101);
        // All of them count.
        let mut spare = Waiting::default();
        let mut counted = 0;
        pending.take(&mut spare, |waiting| {
            counted += waiting.entries().map(|e| e.hours[0].1.queued).sum::<u64>();
        });
        assert_eq!(counted, BYTES as u64 / 64 + 101);
    }
}
