//! The thread that writes.
//!
//! It sleeps without a timer while there is nothing. The first thing to come wakes it; then it waits a moment for more,
//! takes all that is pending, makes it known to readers, and writes it. Everything that happens to files happens here,
//! one after the other: sealing, checkpoints, removal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::encode::{self, Entry, Items};
use crate::pending::{Pending, Waiting};
use crate::recorder::{Inner, Request, Want};
use crate::room::Room;
use crate::segment::{FRAME_HEADER, Series};
use crate::{Error, usage};

/// A batch is closed when it has so many bytes: large enough that a frame costs nothing, small enough that finding one
/// record in it takes little.
const BATCH_BYTES: usize = 256 * 1024;
/// Most bytes that are published and not written. While the disk takes nothing, what comes then waits in its shard.
const RESIDENT_BYTES: usize = 8 << 20;
/// How long after a failed write it is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How often files are looked after, and how often it is said that records were given up.
const CHORES: Duration = Duration::from_secs(10);
/// The same while nothing happens.
const IDLE_CHORES: Duration = Duration::from_secs(60);
/// Bytes of records after which a checkpoint of the usage is due: so much is replayed at start, in some milliseconds.
const CHECKPOINT_BYTES: u64 = 8 << 20;
/// How long after a batch a checkpoint is due.
const CHECKPOINT_AGE: Duration = Duration::from_secs(60);

pub(crate) struct Writer {
    inner: Arc<Inner>,
    /// What shards are emptied into.
    spare: Waiting,
    batch: Accumulated,
    checkpointed: Instant,
    since_checkpoint: u64,
    chores_at: Instant,
    refilled: Instant,
    /// When sealing may be tried again.
    seal_at: Instant,
    /// When something may be said of records given up, and what has been said: shed, lost, over a share, lines.
    say_at: Instant,
    said: [u64; 4],
    room: Room,
    retry_at: Option<Instant>,
}

/// A batch in the making.
#[derive(Default)]
struct Accumulated {
    entries: BTreeMap<u64, Entry>,
    items: Vec<u8>,
    count: u64,
}

/// Ends whoever waits for the writer, however it ends.
struct Ended(Arc<Inner>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end();
    }
}

pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

impl Writer {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        let now = Instant::now();
        Self {
            inner,
            spare: Waiting::default(),
            batch: Accumulated::default(),
            checkpointed: now,
            since_checkpoint: 0,
            chores_at: now + CHORES,
            refilled: now,
            seal_at: now,
            say_at: now,
            said: [0; 4],
            room: Room::default(),
            retry_at: None,
        }
    }

    /// Writes until it is told to close.
    pub(crate) fn run(mut self) {
        let inner = self.inner.clone();
        let _ended = Ended(inner.clone());
        // Before anybody asks, which is when it would be made else.
        for series in [&inner.records, &inner.lines] {
            complain(
                series.index_last(),
                "the segment that was written last cannot be read",
            );
        }
        loop {
            self.wait();
            inner.shared.taking();
            let requests = inner.requests.take();
            self.take_pending();
            let mut waiting = Vec::new();
            for request in requests {
                match request.want {
                    Want::Published => request.answer(Ok(())),
                    Want::Synced | Want::Closed => waiting.push(request),
                }
            }
            let hurried = !waiting.is_empty();
            let written = if hurried || self.retry_at.is_none_or(|at| at <= Instant::now()) {
                self.write()
            } else {
                Ok(())
            };
            if hurried {
                self.answer(waiting, written);
            }
            if inner.is_closed() {
                return;
            }
            // On a disk that takes nothing, no index can be written; what is old goes all the same.
            let sealed = self.retry_at.is_none() && self.seal_and_checkpoint();
            self.do_chores(sealed);
            self.say_what_was_lost();
            let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            let used = used.tv_sec as u64 * 1_000_000 + used.tv_nsec as u64 / 1000;
            inner.counters.writer_cpu_us.store(used, Ordering::Relaxed);
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self) {
        let shared = &self.inner.shared;
        let asked = || !self.inner.requests.is_empty();
        if self.retry_at.is_none() {
            shared.sleepy();
            if shared.records.is_empty() && shared.lines.is_empty() && !asked() {
                thread::park_timeout(IDLE_CHORES);
                if shared.records.is_empty() && shared.lines.is_empty() {
                    // Somebody asks, or files want to be looked after.
                    return;
                }
            }
            shared.stay_awake();
        }
        let pause = self
            .retry_at
            .map_or(self.inner.options.write_every, |_| RETRY);
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // While the disk takes nothing, hurry is of no use.
            let hurried = shared.hurried() && self.retry_at.is_none();
            if left.is_zero() || hurried || asked() {
                return;
            }
            thread::park_timeout(left);
        }
    }

    /// Publishes what is pending.
    fn take_pending(&mut self) {
        let inner = self.inner.clone();
        self.take(&inner.shared.records, &inner.records, &inner);
        self.take(&inner.shared.lines, &inner.lines, &inner);
    }

    fn take(&mut self, pending: &Pending, series: &Series, inner: &Inner) {
        if series.resident_bytes() >= RESIDENT_BYTES {
            return;
        }
        let batch = &mut self.batch;
        pending.take(&mut self.spare, |waiting| {
            batch.add(waiting);
            if batch.items.len() >= BATCH_BYTES {
                batch.publish(series, inner);
            }
        });
        if !batch.entries.is_empty() {
            batch.publish(series, inner);
        }
    }

    /// Writes what is published.
    fn write(&mut self) -> Result<(), Error> {
        let mut result = self.try_to_write();
        while let Err(error) = &result
            && self.room.make(&self.inner, error)
        {
            result = self.try_to_write();
        }
        let inner = &self.inner;
        let counters = &inner.counters;
        let stuck = result.is_err();
        inner.shared.records.stuck.store(stuck, Ordering::Relaxed);
        inner.shared.lines.stuck.store(stuck, Ordering::Relaxed);
        let mut failing = inner.failing.lock();
        match &result {
            Ok(()) => {
                if failing.take().is_some() {
                    tracing::info!("records can be written again");
                }
                self.retry_at = None;
            }
            Err(error) => {
                counters.failed.fetch_add(1, Ordering::Relaxed);
                let why = chain(error);
                if failing.is_none() {
                    tracing::error!(error = %why, "records cannot be written; calls go on, and it is tried again");
                }
                *failing = Some(why);
                self.retry_at = Some(Instant::now() + RETRY);
            }
        }
        result
    }

    fn try_to_write(&mut self) -> Result<(), Error> {
        let inner = &self.inner;
        let count = |series: &Series| {
            let before = series.resident_bytes();
            let result = series.write();
            // Some of it may have been written though not all was; nobody else publishes.
            let written = (before - series.resident_bytes()) as u64;
            inner.counters.bytes.fetch_add(written, Ordering::Relaxed);
            (written, result)
        };
        let (written, records) = count(&inner.records);
        let (_, lines) = count(&inner.lines);
        self.since_checkpoint += written;
        records.and(lines)
    }

    /// Answers those who wait for the disk, and closes if one of them asks for it.
    fn answer(&mut self, waiting: Vec<Request>, written: Result<(), Error>) {
        let inner = self.inner.clone();
        let synced = written
            .and_then(|()| inner.records.sync())
            .and_then(|()| inner.lines.sync());
        let close = waiting.iter().any(|request| request.want == Want::Closed);
        if close {
            if synced.is_ok() {
                self.checkpoint();
                for series in [&inner.records, &inner.lines] {
                    series.seal_if_large();
                }
            }
            inner.set_closed();
            inner.give_back();
        }
        let result = synced.map_err(|error| chain(&error));
        for request in waiting {
            request.answer(result.clone());
        }
    }

    /// What files want when all is written. Returns whether a segment was sealed.
    fn seal_and_checkpoint(&mut self) -> bool {
        let inner = self.inner.clone();
        let mut sealed = false;
        for series in [&inner.records, &inner.lines] {
            if self.seal_at <= Instant::now() && series.is_due() {
                let result = series.seal();
                if result.is_err() {
                    self.seal_at = Instant::now() + CHORES;
                }
                complain(result, "a segment cannot be sealed");
                sealed = true;
            }
        }
        let old = self.checkpointed.elapsed() >= CHECKPOINT_AGE;
        let far = self.since_checkpoint >= CHECKPOINT_BYTES;
        if (old || far || sealed) && inner.usage.lock().changed() {
            self.checkpoint();
        }
        sealed
    }

    /// Removes what is too old or too much, and lets time pass for shares.
    fn do_chores(&mut self, sealed: bool) {
        let inner = self.inner.clone();
        let due = self.chores_at <= Instant::now();
        if due || sealed {
            let needed = inner.usage.lock().needed();
            complain(
                inner.records.retire(needed),
                "old records cannot be removed",
            );
            complain(inner.lines.retire(u64::MAX), "old lines cannot be removed");
        }
        if due {
            let keep = inner.options.keep_usage_for.as_micros() as u64;
            let oldest = usage::hour_of(now_us().saturating_sub(keep)) / 24;
            complain(
                inner.usage.lock().retire(oldest),
                "old usage cannot be removed",
            );
            let now = Instant::now();
            inner.accounts.lock().refill(now - self.refilled);
            (self.refilled, self.chores_at) = (now, now + CHORES);
        }
    }

    fn checkpoint(&mut self) {
        let inner = &self.inner;
        // Nobody else publishes, and every batch was added as it was published.
        let place = inner.records.end();
        let hour = usage::hour_of(now_us());
        let written = inner
            .records
            .sync()
            .and_then(|()| inner.usage.lock().checkpoint(place, hour));
        complain(written, "no checkpoint of the usage can be written");
        self.checkpointed = Instant::now();
        self.since_checkpoint = 0;
    }

    /// Says at most every [`CHORES`] that something was given up.
    fn say_what_was_lost(&mut self) {
        let now = Instant::now();
        if now < self.say_at {
            return;
        }
        let shared = &self.inner.shared;
        let count = [
            &shared.records.shed,
            &shared.records.lost,
            &shared.over_share,
            &shared.lines.shed,
        ];
        let count = count.map(|count| count.load(Ordering::Relaxed));
        if count != self.said {
            let [shed, lost, over_share, lines] = [0, 1, 2, 3].map(|at| count[at] - self.said[at]);
            tracing::warn!(
                shed,
                lost,
                over_share,
                lines,
                "no room for records or lines: some were given up"
            );
            self.said = count;
            self.say_at = now + CHORES;
        }
    }
}

/// Says in the log what went wrong, where nobody waits for it.
pub(crate) fn complain<T>(result: Result<T, Error>, what: &str) {
    if let Err(error) = result {
        tracing::error!(error = %chain(&error), "{what}");
    }
}

/// An error with what caused it.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

impl Accumulated {
    /// Adds what a shard held.
    fn add(&mut self, waiting: &mut Waiting) {
        self.items.extend_from_slice(&waiting.items);
        self.count += waiting.count;
        for entry in waiting.entries() {
            match self.entries.entry(entry.number) {
                std::collections::btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(entry);
                }
                std::collections::btree_map::Entry::Occupied(mut there) => {
                    there.get_mut().hours.extend(entry.hours);
                }
            }
        }
    }

    /// Makes a batch of it, and empties it.
    fn publish(&mut self, series: &Series, inner: &Inner) {
        let entries: Vec<_> = std::mem::take(&mut self.entries).into_values().collect();
        let mut frame = Vec::with_capacity(FRAME_HEADER + self.items.len() + entries.len() * 64);
        frame.resize(FRAME_HEADER, 0);
        encode::encode(&mut frame, series.kind, &entries, &[&self.items]);
        let end = series.publish(frame, &entries, Items::new(&self.items));
        inner.published(series.kind, end, &entries, self.count);
        self.items.clear();
        self.items.shrink_to(BATCH_BYTES * 2);
        self.count = 0;
    }
}
