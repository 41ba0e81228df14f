//! The handle through which the queue is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tidegate_core::queue::{Accepted as Accept, Ended, Lease, Renewed, Seq, Settled, Verdict};
use tidegate_core::{FunctionKey, InvocationId};
use tidegate_store::sqlite::Readers;
use tidegate_store::{BlobError, Blobs, Error as StoreError};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};

use crate::clock::{Clock, TimeSource};
use crate::codec;
use crate::dead::{self, DeadLetter};
use crate::error::{AcceptError, Error};
use crate::hot::Hot;
use crate::lanes::{self, Lane, Lanes};
use crate::listing::Entry;
use crate::serving::Follow;
use crate::submission::{
    Answer, Body, Finished, MAX_HEAD_BYTES, MAX_INLINE_BYTES, MAX_KEY_BYTES, Spooled, Submission,
};
use crate::sums::Sums;
use crate::table::{Leaving, Prepared};
use crate::tidy::tidy;
use crate::writer::{Command, Reply, Request, Settling, Taken};

/// How long a request waits for its place before it is refused: hundreds of commits on any disk that works.
const WAIT: Duration = Duration::from_secs(10);
/// When to come back after a refusal: long enough for a look at the disk, short enough not to keep who could be served.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Bytes of bodies on their way to the disk, in KiB: what bounds the memory of a burst of large ones.
pub(crate) const IN_FLIGHT_KIB: u32 = 64 * 1024;
/// Random bytes before a spooled body.
const SALT: usize = 16;

/// Settings of the queue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Items that may be queued.
    pub max_items: u64,
    /// The size that the file and the bodies beside it may reach by what is accepted, in bytes. What ends may go beyond it
    /// for a while, by [`ends_bytes`](Self::ends_bytes).
    pub max_file_bytes: u64,
    /// How far beyond that size the file may grow by what ends, in bytes. Where even this is used up, answers are not kept,
    /// and an end whose listeners find no room waits for some.
    pub ends_bytes: u64,
    /// How long idempotency keys are remembered, in milliseconds.
    pub remember_ms: u64,
    /// Bytes of results that are kept; beyond them the oldest go before their time.
    pub max_result_bytes: u64,
    /// How long dead letters are kept, in milliseconds.
    pub dead_keep_ms: u64,
    /// Bytes of dead letters that are kept, with their bodies; beyond them the oldest go before their time.
    pub max_dead_bytes: u64,
    /// Where the time comes from.
    pub time: Arc<dyn TimeSource>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // A day of a hundred a second.
            max_items: 10_000_000,
            max_file_bytes: 64 * 1024 * 1024 * 1024,
            // What the attempts at once may leave, an answer and two who hear of it, with some to spare. Submissions are
            // refused long before, so no end has to wait for room.
            ends_bytes: 1024 * 1024 * 1024,
            // As long as clients that retry at all go on.
            remember_ms: 24 * 60 * 60 * 1000,
            max_result_bytes: 256 * 1024 * 1024,
            // Long enough for somebody to come back from a holiday and look.
            dead_keep_ms: 14 * 24 * 60 * 60 * 1000,
            max_dead_bytes: 1024 * 1024 * 1024,
            time: Arc::new(crate::clock::SystemTimeSource::default()),
        }
    }
}

/// The queue. Cheap to clone; the last clone closes it.
///
/// What was sent to be written is carried out whether or not the caller still waits for the answer.
#[derive(Clone, Debug)]
pub struct Queue {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) requests: Option<mpsc::Sender<Request>>,
    pub(crate) writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) blobs: Blobs,
    pub(crate) changed: watch::Receiver<u64>,
    pub(crate) cancelled: broadcast::Sender<InvocationId>,
    pub(crate) in_flight: Arc<Semaphore>,
}

/// What the writer and the handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) lanes: Mutex<Lanes>,
    /// The items that are leased.
    pub(crate) held: Mutex<std::collections::HashSet<Seq>>,
    /// Lanes of which something may be due that was not before; as many as there are lanes, at most.
    pub(crate) woken: Mutex<std::collections::HashSet<FunctionKey>>,
    pub(crate) hot: Hot,
    pub(crate) follow: Follow,
    /// Whether the room that is kept free had to be given up.
    pub(crate) full: AtomicBool,
    /// Items that were lost to damage since the start.
    pub(crate) lost: AtomicU64,
    /// Items that SQLite cannot read, since the start.
    pub(crate) unreadable: AtomicU64,
    /// What the file takes, in bytes.
    pub(crate) file_bytes: AtomicU64,
    pub(crate) sums: Mutex<Sums>,
    /// Dead letters that went because of their age or their number, since the start.
    pub(crate) dropped: AtomicU64,
}

impl Shared {
    /// What the file and the bodies beside it take.
    pub(crate) fn used_bytes(&self) -> u64 {
        let blobs = self.sums.lock().blob_bytes;
        self.file_bytes.load(Ordering::Relaxed) + u64::try_from(blobs).unwrap_or(0)
    }
}

/// A submission that is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its id, or that of the submission with the same idempotency key.
    pub id: InvocationId,
    /// Whether it is one that was accepted before.
    pub duplicate: bool,
}

/// An item to work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// What was submitted.
    pub submission: Submission,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub accepted_ms: u64,
    /// Attempts that ended before.
    pub tries: u32,
}

/// What came of an attempt.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The lease under which it was made.
    pub lease: Lease,
    /// How it ended.
    pub verdict: Verdict,
    /// Why not well, for people.
    pub message: Option<String>,
    /// The answer, to be kept as the result; one over [`MAX_INLINE_BYTES`] is kept without its body.
    pub answer: Option<Answer>,
    /// Accepted in the same commit if the item is done.
    pub on_done: Vec<Submission>,
    /// Accepted in the same commit if the item is given up.
    pub on_dead: Vec<Submission>,
}

/// Where an invocation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It waits, or runs.
    Queued {
        /// What is known of it.
        entry: Entry,
        /// Whether it is leased now.
        leased: bool,
    },
    /// It was given up.
    Dead(DeadLetter),
    /// It ended, and its result is kept.
    Finished(Finished),
}

/// What a cancellation met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not begun.
    Waiting,
    /// It was being worked on. Its lease is over; whoever works on it finds that when renewing.
    Running,
}

/// Counts, from memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Items that are not done, leased ones included.
    pub queued: u64,
    /// Items that are leased.
    pub leased: u64,
    /// Items lost to damage since the start; they are among the dead letters.
    pub lost: u64,
    /// Items whose rows cannot be read at all.
    pub unreadable: u64,
    /// Whether nothing is accepted for want of room.
    pub full: bool,
    /// What the file and the bodies beside it take, in bytes.
    pub bytes: u64,
    /// Dead letters.
    pub dead: u64,
    /// What they take, in bytes.
    pub dead_bytes: u64,
    /// Dead letters that went because of their age or their number, since the start.
    pub dead_dropped: u64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.requests = None;
        self.readers.close();
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the queue's writer panicked");
        }
    }
}

// === accepting ===

impl Queue {
    /// Takes a submission. When this returns with `Ok` it is on disk, and will run.
    ///
    /// # Errors
    /// See [`AcceptError`]; the submission was not accepted then.
    pub async fn accept(&self, submission: Submission) -> Result<Accepted, AcceptError> {
        let shared = &self.inner.shared;
        let is_full = if shared.full.load(Ordering::Relaxed) {
            Some("the disk")
        } else if shared.lanes.lock().queued() >= shared.options.max_items {
            Some("the number of items")
        } else {
            None
        };
        if let Some(what) = is_full {
            // What was accepted before needs no room.
            let known = self.remembered(&submission).await.map_err(refused)?;
            let known = known.map(|id| Accepted {
                id,
                duplicate: true,
            });
            return known.ok_or(AcceptError::Full {
                what,
                retry_after: RETRY_AFTER,
            });
        }
        let id = submission.id;
        let at_hand = shared.hot.put(&submission, self.now_ms());
        let accepted = self.write(submission).await;
        if at_hand
            && !matches!(
                accepted,
                Ok(Accepted {
                    duplicate: false,
                    ..
                })
            )
        {
            shared.hot.take(id);
        }
        accepted
    }

    /// What was accepted with the same idempotency key, if that is still remembered.
    async fn remembered(&self, submission: &Submission) -> Result<Option<InvocationId>, Error> {
        let Some(word) = &submission.idempotency else {
            return Ok(None);
        };
        let word = codec::word_number(&submission.function, word);
        let now_ms = self.now_ms();
        let readers = &self.inner.readers;
        readers
            .run(move |database, connection| {
                crate::table::remembered(connection, word, now_ms)
                    .map_err(|error| database.error(&error).into())
            })
            .await
    }

    async fn write(&self, submission: Submission) -> Result<Accepted, AcceptError> {
        let full = |what| AcceptError::Full {
            what,
            retry_after: RETRY_AFTER,
        };
        let id = submission.id;
        let prepared = prepare(submission)?;
        let bytes = prepared.head.len() + prepared.body.len();
        let kib = u32::try_from(bytes / 1024 + 1)
            .unwrap_or(u32::MAX)
            .min(IN_FLIGHT_KIB);
        let permit = Arc::clone(&self.inner.in_flight).acquire_many_owned(kib);
        let _permit = match tokio::time::timeout(WAIT, permit).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => return Err(full("what is being written")),
        };
        match self.send(Command::Accept(Arc::new(prepared))).await {
            Ok(Reply::Accepted(Accept::New(_))) => Ok(Accepted {
                id,
                duplicate: false,
            }),
            Ok(Reply::Accepted(Accept::Duplicate(first))) => Ok(Accepted {
                id: first,
                duplicate: true,
            }),
            Ok(Reply::Accepted(Accept::Taken)) => Err(AcceptError::IdTaken { id }),
            Ok(Reply::NoRoom) => Err(full("the queue's size")),
            Ok(_) => Err(refused(Error::Closed)),
            Err(error) => Err(refused(error)),
        }
    }

    /// Writes a body that is too large for a row, up to `max_bytes`, so that a submission can name it. One that is never
    /// submitted is removed at the next start.
    ///
    /// # Errors
    /// Those of [`Blobs::put_stream`].
    pub async fn spool<E>(
        &self,
        body: impl Stream<Item = Result<Bytes, E>>,
        max_bytes: u64,
    ) -> Result<Spooled, BlobError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // With bytes of its own before it, the blob is this body's alone, and can go when the item goes.
        let salt = Bytes::copy_from_slice(uuid::Uuid::now_v7().as_bytes());
        let mut bytes = 0;
        let counted = body.inspect(|chunk| {
            if let Ok(chunk) = chunk {
                bytes += chunk.len() as u64;
            }
        });
        let salted = futures_util::stream::iter([Ok(salt)]).chain(counted);
        let max = max_bytes.saturating_add(SALT as u64);
        let digest = self.inner.blobs.put_stream(None, salted, max).await;
        match digest {
            Ok(digest) => Ok(Spooled { digest, bytes }),
            Err(BlobError::TooLarge { .. }) => Err(BlobError::TooLarge { max: max_bytes }),
            Err(error) => Err(error),
        }
    }

    /// The bytes of a spooled body.
    ///
    /// # Errors
    /// Those of [`Blobs::get`].
    pub async fn spooled(
        &self,
        spooled: &Spooled,
    ) -> Result<impl Stream<Item = Result<Bytes, BlobError>> + Send + use<>, BlobError> {
        let (_, bytes) = self.inner.blobs.get(&spooled.digest).await?;
        let mut salt = SALT;
        Ok(bytes.map(move |chunk| {
            chunk.map(|mut chunk| {
                let skipped = salt.min(chunk.len());
                salt -= skipped;
                chunk.split_off(skipped)
            })
        }))
    }

    /// Removes a spooled body that will not be submitted.
    ///
    /// # Errors
    /// Those of [`Blobs::delete`].
    pub async fn unspool(&self, spooled: &Spooled) -> Result<(), BlobError> {
        self.inner.blobs.delete(&spooled.digest).await.map(drop)
    }
}

// === working ===

impl Queue {
    /// Changes whenever something may be due that was not before.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.clone()
    }

    /// The time by which items are due, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.inner.shared.clock.now_ms()
    }

    /// Nothing is due before this, in milliseconds since the Unix epoch.
    pub fn next_due_ms(&self) -> u64 {
        self.inner.shared.lanes.lock().next_due_ms()
    }

    /// Functions with something due now, in the order of their names from the one behind `after`.
    pub fn due(&self, after: Option<&FunctionKey>, most: usize) -> Vec<Lane> {
        let now = self.now_ms();
        self.inner.shared.lanes.lock().due(now, after, most)
    }

    /// Functions with something queued, in the order of their names from the one behind `after`.
    pub fn lanes(&self, after: Option<&FunctionKey>, most: usize) -> Vec<Lane> {
        self.inner.shared.lanes.lock().page(after, most)
    }

    /// Leases at most so many of a function's due items, those that were due first first, for so long.
    ///
    /// # Errors
    /// What keeps the file from being read.
    pub async fn take(
        &self,
        function: &FunctionKey,
        most: usize,
        hold: Duration,
    ) -> Result<Vec<Taken>, Error> {
        let command = Command::Take {
            function: function.clone(),
            most,
            hold_ms: millis(hold),
        };
        match self.send(command).await? {
            Reply::Taken(taken) => Ok(taken),
            _ => Err(Error::Closed),
        }
    }

    /// What is to be done under a lease. A damaged item is taken out to the dead letters.
    ///
    /// # Errors
    /// [`Error::LeaseOver`], [`Error::Damaged`], or what keeps the file from being read.
    pub async fn load(&self, taken: &Taken) -> Result<Work, Error> {
        let (seq, id) = (taken.lease.seq, taken.id);
        if let Some((submission, accepted_ms)) = self.inner.shared.hot.take(id) {
            return Ok(Work {
                submission,
                accepted_ms,
                tries: taken.attempt.saturating_sub(1),
            });
        }
        let found: Result<_, Error> = self
            .inner
            .readers
            .run(move |database, connection| {
                dead::load(connection, "items", "seq", seq)
                    .map_err(|error| database.error(&error).into())
            })
            .await;
        match found? {
            None => Err(Error::LeaseOver),
            Some(Ok((submission, state))) => Ok(Work {
                submission,
                accepted_ms: state.accepted_ms,
                tries: state.item.progress.tries,
            }),
            Some(Err(detail)) => {
                self.send(Command::Lose(seq)).await?;
                Err(Error::Damaged {
                    id,
                    detail: detail.to_owned(),
                })
            }
        }
    }

    /// Lets leases go on for so long from now. In the order of the leases.
    ///
    /// # Errors
    /// Only when the queue is closed or busy.
    pub async fn renew(&self, leases: &[Lease], hold: Duration) -> Result<Vec<Renewed>, Error> {
        let command = Command::Renew {
            leases: leases.to_vec(),
            hold_ms: millis(hold),
        };
        match self.send(command).await? {
            Reply::Renewed(renewed) => Ok(renewed),
            _ => Err(Error::Closed),
        }
    }

    /// Takes what came of an attempt. When this returns it is on disk, with what follows from it.
    ///
    /// # Errors
    /// What keeps the file from being written; the lease goes on then, and the same may be tried again.
    pub async fn settle(&self, settlement: Settlement) -> Result<Settled, Error> {
        let prepared = |submissions: Vec<Submission>| -> Vec<Arc<Prepared>> {
            let prepared = submissions.into_iter().map(prepare);
            let kept = prepared.filter_map(|prepared| match prepared {
                Ok(prepared) => Some(Arc::new(prepared)),
                Err(error) => {
                    tracing::warn!(%error, "what follows from an invocation cannot be queued");
                    None
                }
            });
            kept.collect()
        };
        let answer = settlement.answer.map(|mut answer| {
            if answer.body.len() > MAX_INLINE_BYTES {
                answer.body = Bytes::new();
            }
            answer
        });
        let ended: Option<Ended> = match settlement.verdict {
            Verdict::Ended(ended) => Some(ended),
            Verdict::Refused | Verdict::Release => None,
        };
        let settling = Settling {
            lease: settlement.lease,
            verdict: settlement.verdict,
            leaving: Leaving {
                ended,
                message: settlement.message,
                answer,
            },
            on_done: prepared(settlement.on_done),
            on_dead: prepared(settlement.on_dead),
        };
        match self.send(Command::Settle(Arc::new(settling))).await? {
            Reply::Settled(settled) => Ok(settled),
            _ => Err(Error::Closed),
        }
    }

    /// Ends the leases that were not renewed, and forgets what is remembered long enough. Done every second by itself.
    ///
    /// # Errors
    /// What keeps the file from being written.
    pub async fn tick(&self) -> Result<(), Error> {
        let requests = self.inner.requests.as_ref().ok_or(Error::Closed)?;
        tidy(&requests.downgrade()).await
    }

    pub(crate) async fn send(&self, command: Command) -> Result<Reply, Error> {
        let (reply, answer) = oneshot::channel();
        let requests = self.inner.requests.as_ref().ok_or(Error::Closed)?;
        let request = Request { command, reply };
        match requests.try_send(request) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(request)) => {
                tokio::time::timeout(WAIT, requests.send(request))
                    .await
                    .map_err(|_| Error::Busy {
                        what: "a place among what is to be written",
                    })?
                    .map_err(|_| Error::Closed)?;
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Error::Closed),
        }
        answer.await.map_err(|_| Error::Closed)?
    }
}

/// Checks the bounds and makes rows of it.
pub(crate) fn prepare(submission: Submission) -> Result<Prepared, AcceptError> {
    let limits = |what, bytes: u64, limit: usize| {
        if bytes > limit as u64 {
            return Err(AcceptError::TooLarge {
                what,
                bytes,
                limit: limit as u64,
            });
        }
        Ok(())
    };
    let length = |text: &Option<String>| text.as_ref().map_or(0, |text| text.len() as u64);
    limits(
        "the ordering key",
        length(&submission.order_key),
        MAX_KEY_BYTES,
    )?;
    limits(
        "the idempotency key",
        length(&submission.idempotency),
        MAX_KEY_BYTES,
    )?;
    let head = codec::encode_head(&submission);
    limits("the head", head.len() as u64, MAX_HEAD_BYTES)?;
    let function = submission.function;
    let lane = lanes::lane_of(&function, &submission.target);
    let order = submission.order_key.as_deref();
    let word = submission.idempotency.as_deref();
    let order = order.map(|key| codec::order_number(&function, key));
    let word = word.map(|word| codec::word_number(&function, word));
    let (body, spooled) = match submission.request.body {
        Body::Inline(bytes) => {
            limits("the body", bytes.len() as u64, MAX_INLINE_BYTES)?;
            (bytes, None)
        }
        Body::Spooled(spooled) => (Bytes::new(), Some(spooled)),
    };
    Ok(Prepared {
        id: submission.id,
        function: lane,
        head,
        body,
        spooled,
        order,
        word,
        due_ms: submission.due_ms,
        policy: submission.policy,
        keep_result_ms: submission.keep_result_ms,
    })
}

fn refused(error: Error) -> AcceptError {
    match error {
        Error::Store(StoreError::Full { .. }) => AcceptError::Full {
            what: "the disk",
            retry_after: RETRY_AFTER,
        },
        Error::Busy { .. } => AcceptError::Full {
            what: "what is being written",
            retry_after: RETRY_AFTER,
        },
        source => AcceptError::Store {
            source,
            retry_after: RETRY_AFTER,
        },
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
