//! Invocations that are accepted now and run later.
//!
//! A dialect hands over a request and what its client wants of it ([`Later`]); what becomes of it is told by
//! [`Platform::enqueue`] once it is on disk. From there on it is the durable queue's, and its dispatcher's, who has it run
//! by [`runner`] as a call like any other: the same limits, the same records, one for each try. What is told to those who
//! want to hear of the end is written in the words of the dialect that it came through ([`QueueDoor`]).

mod accept;
mod follow;
mod marks;
mod rules;
mod runner;
mod signing;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http_body::Body as _;
use parking_lot::Mutex;
use tidegate_core::queue::Ended;
use tidegate_core::{FunctionKey, InvocationId};
use tidegate_egress::{Dialer, Policy};
use tidegate_queue::{
    Answer, Cancelled, Courier, CourierOptions, DeadFilter, DeadLetter, DispatchOptions,
    DispatchStats, Dispatcher, Entry, Filter, Finished, Options, Page, Payload, Queue, Shown,
    Stats, Submission, Told, Work,
};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::platform::WeakPlatform;
use crate::{Body, Error, Platform};

pub use accept::{Later, Named, NotAccepted};
pub use marks::DOOR_HEADERS;
pub use rules::QueueRules;
pub use runner::{ATTEMPT, MAX_DEPTH, WHO_CALLS};
pub(crate) use runner::{PlatformRunner, of_fault};

/// The queue of a platform.
pub struct QueueOptions {
    /// Where it is kept.
    pub folder: PathBuf,
    /// Bounds of its file.
    pub file: Options,
    /// Bounds of the work.
    pub dispatch: DispatchOptions,
    /// Largest body of a request, in bytes; a function's own limit holds beside it.
    pub max_body: u64,
    /// How long the result of an invocation can be asked for, where its function does not say.
    pub keep_result: Duration,
    /// What may be told of an end, by address; nothing where absent.
    pub callbacks: Option<Policy>,
    /// The dialects' own words.
    pub doors: Vec<Arc<dyn QueueDoor>>,
}

/// What a dialect does for invocations that came through it.
pub trait QueueDoor: Send + Sync {
    /// The word that its invocations carry.
    fn word(&self) -> &'static str;

    /// The request that carries an answer to a callback. Pure, and quick.
    fn callback(&self, work: &Work, told: &Told<'_>) -> Payload;

    /// The function that code inside means by an address, and the path below it; nothing for addresses of others.
    fn inside(&self, url: &str) -> Option<(FunctionKey, String)> {
        let _ = url;
        None
    }

    /// An attempt ended, with this status where there was an answer.
    fn ended(&self, function: &FunctionKey, began: Instant, ended: &Ended, answer: Option<&Answer>);
}

/// The queue, and whoever works on it.
pub(crate) struct Queued {
    pub(crate) queue: Queue,
    pub(crate) courier: Option<Courier>,
    pub(crate) doors: Vec<Arc<dyn QueueDoor>>,
    pub(crate) signing: signing::Keys,
    dispatcher: Dispatcher,
    max_body: u64,
    pub(crate) keep_result: Duration,
    /// KiB of bodies that are read and not yet on disk.
    reading: Semaphore,
    draining: AtomicBool,
}

/// KiB of bodies that are in memory at once, on their way to the disk. Whoever comes beyond that is asked to come again: a
/// client that sends slowly must not hold more of the server than others.
const READING_KIB: usize = 64 * 1024;

/// What functions say of their queues, kept at hand.
#[derive(Default)]
pub(crate) struct Rules(Mutex<HashMap<FunctionKey, Arc<QueueRules>>>);

impl Rules {
    /// What a function says changed. Whether it did.
    pub(crate) fn set(&self, function: &FunctionKey, rules: Option<QueueRules>) -> bool {
        let mut all = self.0.lock();
        // Most say nothing.
        match rules.filter(|rules| *rules != QueueRules::default()) {
            Some(rules) => {
                let before = all.insert(function.clone(), Arc::new(rules));
                before.as_deref() != all.get(function).map(|rules| &**rules)
            }
            None => all.remove(function).is_some(),
        }
    }

    pub(crate) fn of(&self, function: &FunctionKey) -> Arc<QueueRules> {
        let found = self.0.lock().get(function).cloned();
        found.unwrap_or_default()
    }
}

impl Queued {
    /// Opens the file and begins to work on what is in it.
    pub(crate) async fn start(
        options: QueueOptions,
        blobs: &tidegate_store::Blobs,
        platform: WeakPlatform,
    ) -> Result<Self, Error> {
        let unusable = |why: String| Error::Invalid(format!("the queue cannot be used: {why}"));
        let (queue, report) = Queue::open(&options.folder, blobs, options.file)
            .await
            .map_err(|e| unusable(e.to_string()))?;
        tell(&report);
        let signing = signing::Keys::load(&options.folder)
            .await
            .map_err(|e| unusable(format!("its key: {e}")))?;
        let courier = match options.callbacks {
            None => None,
            Some(policy) => {
                let keys = signing.clone();
                let courier = Courier::new(
                    queue.clone(),
                    Dialer::new(policy),
                    Arc::new(move |namespace| Some(keys.of(namespace))),
                    CourierOptions::default(),
                );
                Some(courier.map_err(|e| unusable(format!("the machine's roots of trust: {e}")))?)
            }
        };
        let runner = PlatformRunner::new(platform, courier.clone(), options.doors.clone());
        let dispatcher = Dispatcher::start(queue.clone(), Arc::new(runner), options.dispatch);
        Ok(Self {
            queue,
            courier,
            doors: options.doors,
            signing,
            dispatcher,
            max_body: options.max_body,
            keep_result: options.keep_result,
            reading: Semaphore::new(READING_KIB),
            draining: AtomicBool::new(false),
        })
    }

    /// Room in memory for what is read of a body before it is on disk.
    pub(crate) fn reading(&self, body: &Body) -> Result<SemaphorePermit<'_>, NotAccepted> {
        let most = tidegate_queue::MAX_INLINE_BYTES as u64;
        let bytes = body.size_hint().upper().unwrap_or(most).min(most);
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX) + 1;
        self.reading
            .try_acquire_many(kib)
            .map_err(|_| NotAccepted::Later {
                message: "too many requests for later are being read; try again in a moment"
                    .to_owned(),
                after: Duration::from_secs(1),
            })
    }
}

fn tell(report: &tidegate_queue::OpenReport) {
    if report.queued > 0 {
        tracing::info!(queued = report.queued, "invocations are queued from before");
    }
    if let Some(wal) = &report.wal {
        tracing::error!(
            first_bad_frame = wal.first_bad_frame,
            commits = wal.commits,
            kept = %wal.kept.display(),
            "the queue's log is damaged: what was accepted after the damage is lost, a copy was kept"
        );
    }
    if let Some((last, found)) = report.missing {
        tracing::error!(
            last,
            found,
            "the newest acknowledged changes of the queue are missing"
        );
    }
    for problem in &report.structure {
        tracing::error!(problem, "the queue's file is damaged");
    }
    if let Some(aside) = &report.moved_aside {
        tracing::error!(kept = %aside.display(), "the queue's file was damaged; what can be read was moved to a new one");
    }
    if report.orphans > 0 {
        tracing::info!(
            orphans = report.orphans,
            "bodies that belonged to nothing were removed"
        );
    }
}

// === looking after it ===

impl Platform {
    /// A page of the invocations that wait or run, in the order in which they were accepted.
    ///
    /// # Errors
    /// There is no queue, or it cannot be read.
    pub async fn queued(
        &self,
        filter: Filter,
        from: Option<i64>,
        limit: usize,
    ) -> Result<Page<Entry>, Error> {
        Ok(self.queue()?.list(filter, from, limit).await?)
    }

    /// Where an invocation stands.
    ///
    /// # Errors
    /// It is not in the queue and its result is not kept, or the queue cannot be read.
    pub async fn queue_entry(&self, id: InvocationId) -> Result<Shown, Error> {
        Ok(self.queue()?.show(id).await?)
    }

    /// What an invocation asked for that waits, runs, or was given up.
    ///
    /// # Errors
    /// It is neither, is damaged, or the queue cannot be read.
    pub async fn queued_request(&self, id: InvocationId) -> Result<Submission, Error> {
        Ok(self.queue()?.submission(id).await?)
    }

    /// How an invocation ended, as long as that is kept.
    ///
    /// # Errors
    /// It has not ended or is not kept, or the queue cannot be read.
    pub async fn queue_result(&self, id: InvocationId) -> Result<Finished, Error> {
        Ok(self.queue()?.result(id).await?)
    }

    /// Cancels an invocation that waits or runs.
    ///
    /// # Errors
    /// It is neither, or the queue cannot be written.
    pub async fn cancel(&self, id: InvocationId) -> Result<Cancelled, Error> {
        Ok(self.queue()?.cancel(id).await?)
    }

    /// A page of what was given up, the latest first.
    ///
    /// # Errors
    /// As [`Platform::queued`].
    pub async fn dead_letters(
        &self,
        filter: DeadFilter,
        from: Option<i64>,
        limit: usize,
    ) -> Result<Page<DeadLetter>, Error> {
        Ok(self.queue()?.dead(filter, from, limit).await?)
    }

    /// Sends what was given up again, at most so many a second, and gives how many.
    ///
    /// # Errors
    /// The queue cannot be read or written; what was sent until then stays sent.
    pub async fn redrive(
        &self,
        filter: DeadFilter,
        per_second: u32,
        told: impl Fn(u64) + Send,
    ) -> Result<u64, Error> {
        let queue = self.queue()?;
        Ok(queue.redrive_telling(filter, per_second, told).await?)
    }

    /// Sends one dead letter again.
    ///
    /// # Errors
    /// It is none, is damaged, or the queue cannot be written.
    pub async fn redrive_one(&self, id: InvocationId) -> Result<(), Error> {
        Ok(self.queue()?.redrive_one(id).await?)
    }

    /// Throws dead letters away, and gives how many.
    ///
    /// # Errors
    /// As [`Platform::redrive`].
    pub async fn purge(&self, filter: DeadFilter) -> Result<u64, Error> {
        Ok(self.queue()?.purge(filter).await?)
    }

    /// Throws one dead letter away.
    ///
    /// # Errors
    /// As [`Platform::redrive_one`].
    pub async fn purge_one(&self, id: InvocationId) -> Result<(), Error> {
        Ok(self.queue()?.purge_one(id).await?)
    }

    /// Counts of the queue and of the work on it; nothing where there is none.
    #[must_use]
    pub fn queue_stats(&self) -> Option<(Stats, DispatchStats)> {
        let queued = self.in_queue()?;
        Some((queued.queue.stats(), queued.dispatcher.stats()))
    }

    /// What requests to receivers of a namespace's answers are signed with, in hexadecimal digits.
    ///
    /// # Errors
    /// There is no queue.
    pub fn signing_key(&self, namespace: &str) -> Result<String, Error> {
        self.queue()?;
        let queued = self.in_queue();
        Ok(queued.map_or_else(String::new, |queued| queued.signing.shown(namespace)))
    }

    /// Starts no more of what is queued, and gives what runs of it so long to end. What is accepted meanwhile waits for the
    /// next start.
    pub async fn drain_queue(&self, grace: Duration) {
        if let Some(queued) = self.in_queue() {
            queued.draining.store(true, Ordering::Relaxed);
            let drained = queued.dispatcher.drain(grace).await;
            if drained.cut > 0 {
                tracing::info!(
                    cut = drained.cut,
                    "queued invocations were cut off, and run again at the next start"
                );
            }
        }
    }

    /// Whether nothing more of the queue is started.
    pub(crate) fn queue_is_draining(&self) -> bool {
        let queued = self.in_queue();
        queued.is_some_and(|queued| queued.draining.load(Ordering::Relaxed))
    }

    /// What a function says of its queue is another now, or the function is.
    pub(crate) fn queue_rules_changed(&self, function: &FunctionKey, rules: Option<QueueRules>) {
        self.rules().set(function, rules);
        if let Some(queued) = self.in_queue() {
            let (dispatcher, function) = (queued.dispatcher.clone(), function.clone());
            self.spawn(async move { dispatcher.changed(Some(&function)).await });
        }
    }

    fn queue(&self) -> Result<&Queue, Error> {
        let queued = self.in_queue();
        let queued = queued.ok_or_else(|| Error::Invalid("this server has no queue".to_owned()))?;
        Ok(&queued.queue)
    }
}
