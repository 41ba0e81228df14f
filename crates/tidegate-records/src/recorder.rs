//! The handle, and what it shares with the thread that writes.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::record::Record;
use tidegate_core::{FunctionKey, InvocationId};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::encode::{Entry, Kind};
use crate::follow::Follow;
use crate::search::{self, Filter};
use crate::segment::Series;
use crate::share::Namespace;
use crate::shared::Shared;
use crate::usage::{self, Place, Store};
use crate::{
    Account, Error, Line, LineQuery, OpenReport, Options, Page, Query, Stats, UsageQuery, UsageRow,
    open,
};

/// Most lines of one invocation that are given out: a page that people look at, in bounded memory.
pub const MAX_LINES: usize = 10_000;
/// Questions that read files at the same time. More wait: calls need the processors too.
pub(crate) const READERS: usize = 4;

/// Keeps records, lines and usage in one folder. Cheap to clone; closed when the last clone is dropped, which blocks for
/// the last write.
#[derive(Clone, Debug)]
pub struct Recorder {
    handle: Arc<Handle>,
}

/// Ends the writer when nobody has a recorder any more.
#[derive(Debug)]
struct Handle {
    inner: Arc<Inner>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What readers and the writer share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: Options,
    pub(crate) records: Series,
    pub(crate) lines: Series,
    pub(crate) usage: Mutex<Store>,
    pub(crate) requests: Requests,
    /// Why nothing can be written now.
    pub(crate) failing: Mutex<Option<String>>,
    pub(crate) counters: Counters,
    /// Counts batches of records, for followers.
    pub(crate) news: watch::Sender<u64>,
    pub(crate) readers: Arc<Semaphore>,
    pub(crate) closed: AtomicBool,
    pub(crate) accounts: Mutex<Accounts>,
    /// The folder is ours until the writer has ended.
    pub(crate) lock: File,
}

/// What has been written.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) records: AtomicU64,
    pub(crate) lines: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Segments removed because the disk was full.
    pub(crate) freed: AtomicU64,
    pub(crate) writer_cpu_us: AtomicU64,
}

/// Functions, and their namespaces.
#[derive(Debug)]
pub(crate) struct Accounts {
    functions: HashMap<Arc<FunctionKey>, Weak<Account>>,
    /// Look through them for those that nobody holds when there are so many.
    sweep_at: usize,
    /// The number that the last one got.
    last: u64,
    namespaces: HashMap<Arc<str>, Arc<Namespace>>,
    /// Bytes of records and lines that are kept.
    keep_bytes: [u64; 2],
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Whatever was pending can be found.
    Published,
    /// It is on disk.
    Synced,
    /// The same, and the writer ends.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) want: Want,
    answer: oneshot::Sender<Result<(), String>>,
}

/// Those who wait for the writer.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    waiting: Mutex<Vec<Request>>,
}

impl Request {
    pub(crate) fn answer(self, result: Result<(), String>) {
        // Whoever asked may have gone.
        let _ = self.answer.send(result);
    }
}

impl Requests {
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.waiting.lock())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }
}

impl Inner {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn set_closed(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// The writer has ended: nobody is to wait for it any more.
    pub(crate) fn end(&self) {
        self.set_closed();
        // Nobody makes room any more.
        for pending in [&self.shared.records, &self.shared.lines] {
            pending.stuck.store(true, Ordering::Relaxed);
        }
        drop(self.requests.take());
        self.news.send_modify(|batches| *batches += 1);
        self.give_back();
    }

    /// Others may have the folder: nothing is written any more, whoever still holds an account.
    pub(crate) fn give_back(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the records folder could not be given back");
        }
    }

    /// A batch that ends here was published.
    pub(crate) fn published(&self, kind: Kind, end: Place, entries: &[Entry], count: u64) {
        match kind {
            Kind::Records => {
                self.counters.records.fetch_add(count, Ordering::Relaxed);
                let mut damage = |place| self.records.came_across(&place);
                self.usage.lock().add(end, entries, &mut damage);
                self.news.send_modify(|batches| *batches += 1);
            }
            Kind::Lines => {
                self.counters.lines.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    fn ask(&self, want: Want) -> oneshot::Receiver<Result<(), String>> {
        let (answer, wait) = oneshot::channel();
        self.requests.waiting.lock().push(Request { want, answer });
        if self.is_closed() {
            // The writer may have looked for the last time.
            drop(self.requests.take());
        }
        self.shared.call();
        wait
    }

    async fn wait_for(&self, want: Want) -> Result<(), Error> {
        match self.ask(want).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(Error::NotWritten { why }),
            Err(_) => Err(Error::Closed),
        }
    }

    /// Reads files where that holds up nobody.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.readers.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Error::Closed)?;
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            read()
        });
        match reading.await {
            Ok(result) => result,
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            Err(_) => Err(Error::Closed),
        }
    }
}

impl Recorder {
    /// Opens the folder, makes it if needed, and starts the thread that writes. Blocks; how long does not depend on how
    /// much is kept.
    ///
    /// # Errors
    /// Another server has the folder, or the machine refuses. Damage is no error: it is reported.
    pub fn open(folder: &Path, options: Options) -> Result<(Self, OpenReport), Error> {
        let (inner, writer, report) = open::open(folder, options)?;
        let handle = Arc::new(Handle {
            inner,
            writer: Mutex::new(Some(writer)),
        });
        Ok((Self { handle }, report))
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.handle.inner
    }

    /// The account of a function, the same one for as long as anybody holds it.
    #[must_use]
    pub fn account(&self, function: &Arc<FunctionKey>) -> Arc<Account> {
        let mut accounts = self.inner().accounts.lock();
        accounts.get(function, &self.inner().shared)
    }

    /// Records that match, those that ended last first. Whatever had ended when this was called is found.
    ///
    /// # Errors
    /// The machine refuses to read.
    pub async fn query(&self, query: Query) -> Result<Page<Record>, Error> {
        let filter = Filter::from(&query);
        self.search(move |inner| search::page(&inner.records, &filter, query.limit, query.after))
            .await
    }

    /// The record of an invocation, if there is one.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn get(&self, id: InvocationId) -> Result<Option<Record>, Error> {
        self.search(move |inner| search::record(&inner.records, id))
            .await
    }

    /// The records of the invocations that this one asked for, at most `limit`, in the order in which they ended.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn children(&self, id: InvocationId, limit: usize) -> Result<Vec<Record>, Error> {
        let filter = Filter::of_parent(id);
        let limit = limit.min(crate::MAX_PAGE);
        self.search(move |inner| search::since_id(&inner.records, &filter, id, limit))
            .await
    }

    /// Reads the records that match from now on, as they come. The query's times, limit and place are not looked at.
    #[must_use]
    pub fn follow(&self, query: &Query) -> Follow {
        Follow::new(self.inner().clone(), query)
    }

    /// What an invocation printed, oldest first, as far as it is kept; at most [`MAX_LINES`]. Code can put any id on its
    /// lines, so whose the invocation was is told where it is known, and lines of other functions are passed over.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn lines(
        &self,
        id: InvocationId,
        function: Option<FunctionKey>,
    ) -> Result<Vec<Line>, Error> {
        let filter = Filter::of_id(id).of(function);
        self.search(move |inner| {
            let mut lines = search::since_id(&inner.lines, &filter, id, MAX_LINES)?;
            lines.sort_by_key(|line: &Line| line.time_us);
            Ok(lines)
        })
        .await
    }

    /// What functions printed, newest first.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn lines_of(&self, query: LineQuery) -> Result<Page<Line>, Error> {
        let filter = Filter::from(&query);
        self.search(move |inner| search::page(&inner.lines, &filter, query.limit, query.after))
            .await
    }

    /// What functions used, by time and function.
    ///
    /// # Errors
    /// As [`query`](Self::query); or more rows match than one answer holds.
    pub async fn usage(&self, query: UsageQuery) -> Result<Vec<UsageRow>, Error> {
        self.search(move |inner| {
            let snapshot = inner.usage.lock().snapshot(&query);
            usage::answer(&query, snapshot, &mut |place| {
                inner.records.came_across(&place);
            })
        })
        .await
    }

    async fn search<T: Send + 'static>(
        &self,
        search: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.inner().wait_for(Want::Published).await?;
        let inner = self.inner().clone();
        self.inner().read(move || search(&inner)).await
    }

    /// What a namespace has been billed since midnight UTC, in millionths of a GB-second (2³⁰ bytes).
    #[must_use]
    pub fn namespace_today(&self, namespace: &str, now_us: u64) -> u64 {
        let accounts = self.inner().accounts.lock();
        let known = accounts.namespaces.get(namespace);
        known.map_or(0, |known| known.today.gb_micro_seconds(now_us))
    }

    /// How many records of successful calls were given up since it was opened.
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.inner().shared.records.shed.load(Ordering::Relaxed)
    }

    /// How it goes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let inner = self.inner();
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (records, lines) = (inner.records.size(), inner.lines.size());
        Stats {
            written: load(&inner.counters.records),
            lines_written: load(&inner.counters.lines),
            bytes_written: load(&inner.counters.bytes),
            shed: self.shed(),
            lost: load(&inner.shared.records.lost),
            refusals: load(&inner.shared.refusals),
            over_share: load(&inner.shared.over_share),
            lines_shed: load(&inner.shared.lines.shed),
            failed_writes: load(&inner.counters.failed),
            freed: load(&inner.counters.freed),
            failing: inner.failing.lock().clone(),
            damaged: load(&inner.records.damaged) + load(&inner.lines.damaged),
            segments: records.0 + lines.0,
            bytes_on_disk: records.1 + lines.1,
            writer_cpu_us: load(&inner.counters.writer_cpu_us),
        }
    }

    /// Everything that ended before this is on disk when it returns, and outlives the machine's crash.
    ///
    /// # Errors
    /// The disk does not take it; it is tried again later.
    pub async fn flush(&self) -> Result<(), Error> {
        self.inner().wait_for(Want::Synced).await
    }

    /// Writes what is pending, and ends. Other clones answer [`Error::Closed`] from now on, and what is accounted is lost.
    ///
    /// # Errors
    /// The disk does not take what is pending; it is lost.
    pub async fn close(&self) -> Result<(), Error> {
        self.inner().wait_for(Want::Closed).await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A message of the writer's failure is in the log already.
        drop(self.inner.ask(Want::Closed));
        if let Some(writer) = self.writer.get_mut().take() {
            let _ = writer.join();
        }
    }
}

impl Accounts {
    /// No functions yet, nor namespaces.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            functions: HashMap::new(),
            sweep_at: 0,
            last: 0,
            namespaces: HashMap::new(),
            keep_bytes: [options.records.keep_bytes, options.lines.keep_bytes],
        }
    }

    /// A namespace, made if it is new.
    pub(crate) fn namespace(&mut self, name: &Arc<str>, shared: &Shared) -> &Arc<Namespace> {
        if !self.namespaces.contains_key(name) && !self.namespaces.is_empty() {
            shared.share();
        }
        let [records, lines] = self.keep_bytes;
        let new = || Arc::new(Namespace::new(records, lines));
        self.namespaces.entry(name.clone()).or_insert_with(new)
    }

    /// So much time has passed: namespaces may leave more.
    pub(crate) fn refill(&self, passed: Duration) {
        for namespace in self.namespaces.values() {
            namespace.refill(passed);
        }
    }

    fn get(&mut self, function: &Arc<FunctionKey>, shared: &Arc<Shared>) -> Arc<Account> {
        let known = self.functions.get(function).and_then(Weak::upgrade);
        if let Some(account) = known {
            return account;
        }
        if self.functions.len() >= self.sweep_at {
            self.functions
                .retain(|_, account| account.strong_count() > 0);
            self.sweep_at = self.functions.len() * 2 + 64;
        }
        let namespace = self.namespace(&function.namespace, shared).clone();
        self.last += 1;
        let account = Account::new(function.clone(), self.last, shared.clone(), namespace);
        let account = Arc::new(account);
        self.functions
            .insert(function.clone(), Arc::downgrade(&account));
        account
    }
}
