//! Opening the queue, in the order in which nothing can be lost: look at the log, let SQLite open the file, count what is
//! there, begin a new epoch, start the writer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _};
use tidegate_core::FunctionKey;
use tidegate_core::queue::{Seq, Shard};
use tidegate_store::sqlite::{self, Database, Identity, Layout, Mark, Readers};
use tidegate_store::{Blobs, Digest, WalDamage};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::clock::Clock;
use crate::codec;
use crate::error::{Error, OpenError};
use crate::lanes::{LaneNumber, Lanes};
use crate::log::{KEPT_BYTES, Log};
use crate::queue::{IN_FLIGHT_KIB, Inner, Options, Queue, Shared};
use crate::reserve::Reserve;
use crate::schema::{APPLICATION_ID, MIGRATIONS, PAGE_BYTES};
use crate::sums::Sums;
use crate::table::{read_id, sql_ms};
use crate::tidy::{Dropped, tidy};
use crate::writer::{Request, WAITING, Writer, sqlite_bytes};

/// A file up to this size is examined whole before it is used, which takes a few hundred milliseconds. A larger one is
/// examined while it is used (see [`Queue::examine`]).
const EXAMINED_BYTES: u64 = 64 * 1024 * 1024;
/// Pages that the writer keeps, in KiB: the right edges of the tables and the inner pages of the indexes.
const WRITER_CACHE_KIB: i32 = 16 * 1024;
/// When a blob that could not be removed is tried again.
const RELEASE_AGAIN: Duration = Duration::from_secs(1);
/// How often what is to be done now and then is done.
const TICK: Duration = Duration::from_secs(1);

/// What was found at opening. An operator should be told unless [`is_clean`](Self::is_clean).
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// There was no queue yet.
    pub created: bool,
    /// Items that are not done.
    pub queued: u64,
    /// The log held commits that SQLite will not read.
    pub wal: Option<WalDamage>,
    /// The number of the last commit that was answered and of the last one found, if that is less: commits are missing.
    pub missing: Option<(u64, u64)>,
    /// What is wrong with the structure of the file.
    pub structure: Vec<String>,
    /// The fault was in indexes only, and they were made anew.
    pub reindexed: bool,
    /// The file was so damaged that its readable rows were moved to a new one; the old one is kept under this name.
    pub moved_aside: Option<std::path::PathBuf>,
    /// Spooled bodies that belonged to nothing and were removed.
    pub orphans: usize,
}

impl OpenReport {
    /// Whether no damage was found.
    pub fn is_clean(&self) -> bool {
        self.wal.is_none() && self.missing.is_none() && self.structure.is_empty()
    }
}

/// What opening found in the file.
struct Loaded {
    epoch: u64,
    version: i64,
    last_seq: Seq,
    last_lane: LaneNumber,
    lanes: Lanes,
    by_name: HashMap<FunctionKey, LaneNumber>,
    names: HashMap<LaneNumber, FunctionKey>,
    latest_ms: u64,
    sums: Sums,
    last_dead: i64,
}

impl Queue {
    /// Opens the queue in `folder`, a folder of the server's own, which is made if needed. Bodies that are too large for
    /// rows go into a folder beside `blobs`.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing was changed then, except that a damaged log was copied aside.
    pub async fn open(
        folder: &Path,
        blobs: &Blobs,
        options: Options,
    ) -> Result<(Self, OpenReport), OpenError> {
        let blobs = blobs.beside("queue")?;
        let at = folder.to_owned();
        let opened = tokio::task::spawn_blocking(move || open(&at, options)).await;
        let opened = opened.map_err(|error| OpenError::Io {
            path: folder.to_owned(),
            source: std::io::Error::other(error),
        })?;
        let (parts, mut report, referenced) = opened?;
        report.orphans = remove_orphans(&blobs, &referenced).await?;
        let Parts {
            writer,
            database,
            requests,
            changed,
            released,
        } = parts;
        let shared = Arc::clone(&writer.shared);
        let thread = std::thread::Builder::new()
            .name("queue-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Io {
                path: folder.to_owned(),
                source,
            })?;
        tokio::spawn(tick(requests.downgrade()));
        let queue = Self {
            inner: Arc::new(Inner {
                requests: Some(requests),
                writer: Mutex::new(Some(thread)),
                readers: Arc::new(Readers::new(database)),
                shared,
                blobs,
                changed,
                cancelled: tokio::sync::broadcast::channel(crate::serving::CANCELLED).0,
                in_flight: Arc::new(Semaphore::new(IN_FLIGHT_KIB as usize)),
            }),
        };
        tokio::spawn(release(released, Arc::downgrade(&queue.inner)));
        Ok((queue, report))
    }
}

struct Parts {
    writer: Writer,
    database: Database,
    requests: mpsc::Sender<Request>,
    changed: watch::Receiver<u64>,
    released: mpsc::UnboundedReceiver<(Digest, u64)>,
}

fn open(
    folder: &Path,
    options: Options,
) -> Result<(Parts, OpenReport, HashSet<Digest>), OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    sqlite::make_folder(folder)?;
    let database = Database::new(folder.join("queue.db"));
    let path = database.path().to_owned();
    // What is accepted is bounded by the queue itself. The file's own bound is there for what ends, which has room even
    // where the queue was made smaller than it is.
    let there = fs::metadata(&path).map_or(0, |found| found.len());
    let layout = Layout {
        application_id: APPLICATION_ID,
        migrations: MIGRATIONS,
        page_bytes: Some(PAGE_BYTES),
        max_bytes: options
            .max_file_bytes
            .max(there)
            .saturating_add(options.ends_bytes),
    };
    let mut report = OpenReport {
        wal: sqlite::examine(&path, folder).map_err(io(&path))?,
        ..OpenReport::default()
    };
    let (mut connection, identity) = database.prepare(&layout)?;
    report.created = identity == Identity::Empty;
    let asked = folder.join("queue.examine");
    let size = fs::metadata(&path).map_or(0, |found| found.len());
    if size <= EXAMINED_BYTES || asked.exists() || count(&connection).is_err() {
        report.structure = sqlite::check(&connection);
        if !report.structure.is_empty() {
            report.reindexed = connection.execute_batch("REINDEX").is_ok()
                && sqlite::check(&connection).is_empty();
            if !report.reindexed {
                let (fresh, aside) = crate::salvage::salvage(&database, connection, &layout)?;
                connection = fresh;
                report.moved_aside = Some(aside);
            }
        }
        drop(fs::remove_file(&asked));
    }
    let mark_path = folder.join("queue.mark");
    let (mut mark, noted) = Mark::open(&mark_path).map_err(io(&mark_path))?;
    sqlite::sync_folder(folder).map_err(io(folder))?;

    let sql = |error: rusqlite::Error| OpenError::from(database.error(&error));
    connection
        .execute_batch(&format!(
            "PRAGMA cache_size = -{WRITER_CACHE_KIB}; PRAGMA wal_autocheckpoint = 0;
             PRAGMA journal_size_limit = {KEPT_BYTES};"
        ))
        .map_err(sql)?;
    let noted = noted.unwrap_or(0);
    let loaded = load(&connection, noted).map_err(sql)?;
    let found = loaded.version.cast_unsigned();
    if noted > found {
        report.missing = Some((noted, found));
    }
    mark.note(found.max(noted));
    report.queued = loaded.lanes.queued();
    let referenced = referenced(&connection).map_err(sql)?;

    let reserve = Reserve::new(folder.join("queue.reserve"));
    let clock = Clock::new(Arc::clone(&options.time), loaded.latest_ms);
    let shared = Arc::new(Shared {
        options,
        clock,
        lanes: Mutex::new(loaded.lanes),
        held: Mutex::default(),
        woken: Mutex::default(),
        hot: crate::hot::Hot::default(),
        follow: crate::serving::Follow::default(),
        full: AtomicBool::new(!reserve.is_there()),
        lost: AtomicU64::new(0),
        unreadable: AtomicU64::new(0),
        file_bytes: AtomicU64::new(sqlite_bytes(&connection).map_err(sql)?),
        sums: Mutex::new(loaded.sums),
        dropped: AtomicU64::new(0),
    });
    let (sender, requests) = mpsc::channel(WAITING);
    let (changed, changes) = watch::channel(0);
    // Bounded by the files of bodies there can be: they count within the queue's size until they are removed.
    let (released, to_release) = mpsc::unbounded_channel();
    let log = Log::new(&database).map_err(io(&path))?;
    let writer = Writer {
        database: database.clone(),
        connection,
        requests,
        shared,
        shard: Shard::new(loaded.epoch),
        mark,
        log,
        reserve,
        version: loaded.version.max(noted.cast_signed()),
        lanes: loaded.by_name,
        names: loaded.names,
        last_seq: loaded.last_seq,
        last_lane: loaded.last_lane,
        last_dead: loaded.last_dead,
        lean: false,
        dropped: Dropped::default(),
        held: HashMap::new(),
        unreadable: HashSet::new(),
        released,
        changed,
    };
    let parts = Parts {
        writer,
        database,
        requests: sender,
        changed: changes,
        released: to_release,
    };
    Ok((parts, report, referenced))
}

/// What is queued, by lane: from an index alone.
fn count(connection: &Connection) -> rusqlite::Result<Vec<(LaneNumber, u64, Option<u64>)>> {
    connection
        .prepare(
            "SELECT lane, count(*), min(due) FROM items INDEXED BY items_by_due GROUP BY lane",
        )?
        .query_map([], |row| {
            let due = row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned);
            Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned(), due))
        })?
        .collect()
}

fn load(connection: &Connection, noted: u64) -> rusqlite::Result<Loaded> {
    connection.execute_batch(
        "INSERT OR IGNORE INTO counters VALUES ('version', 0);
         INSERT OR IGNORE INTO counters VALUES ('epoch', 0);",
    )?;
    let version: i64 = connection.query_row(
        "SELECT value FROM counters WHERE name = 'version'",
        [],
        |row| row.get(0),
    )?;
    let counts = count(connection)?;
    // Lanes that nothing names any more are forgotten.
    connection.execute(
        "DELETE FROM lanes WHERE lane NOT IN (SELECT lane FROM dead)
         AND NOT EXISTS (SELECT 1 FROM items INDEXED BY items_by_due WHERE items.lane = lanes.lane)",
        [],
    )?;
    let (sums, last_dead) = Sums::load(connection)?;
    let mut loaded = Loaded {
        epoch: 0,
        version,
        last_seq: 0,
        last_lane: 0,
        lanes: Lanes::default(),
        by_name: HashMap::new(),
        names: HashMap::new(),
        latest_ms: 0,
        sums,
        last_dead,
    };
    let lanes = connection
        .prepare("SELECT lane, namespace, grp, name FROM lanes")?
        .query_map([], |row| {
            let text = |column| row.get::<_, String>(column);
            let function = FunctionKey {
                namespace: text(1)?.into(),
                group: text(2)?.into(),
                name: text(3)?.into(),
            };
            Ok((row.get::<_, i64>(0)?, function))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    for (number, function) in lanes {
        loaded.last_lane = loaded.last_lane.max(number);
        loaded.lanes.add(&function, number);
        loaded.by_name.insert(function.clone(), number);
        loaded.names.insert(number, function);
    }
    for (number, queued, due) in counts {
        loaded.lanes.set(number, queued, due.unwrap_or(u64::MAX));
    }
    let newest = connection
        .query_row(
            "SELECT seq, id, state FROM items ORDER BY seq DESC LIMIT 1",
            [],
            |row| {
                let (seq, id) = (row.get::<_, i64>(0)?, read_id(row, 1)?);
                let state = row.get_ref(2)?.as_blob().unwrap_or_default();
                let state = id.and_then(|id| codec::decode_state(id, seq, state));
                Ok((seq, state.map_or(0, |state| state.accepted_ms)))
            },
        )
        .optional()?;
    (loaded.last_seq, loaded.latest_ms) = newest.unwrap_or((0, 0));
    // No commit's number is given twice, and no owner's.
    let version = version.max(noted.cast_signed());
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; UPDATE counters SET value = value + 1 WHERE name = 'epoch';
         UPDATE counters SET value = {version} WHERE name = 'version';"
    ))?;
    sums.write(connection, last_dead)?;
    connection.execute_batch("COMMIT")?;
    loaded.epoch = connection.query_row(
        "SELECT value FROM counters WHERE name = 'epoch'",
        [],
        |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()),
    )?;
    Ok(loaded)
}

fn referenced(connection: &Connection) -> rusqlite::Result<HashSet<Digest>> {
    let digests = connection
        .prepare("SELECT digest FROM blobs")?
        .query_map([], |row| row.get::<_, Vec<u8>>(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let digests = digests
        .into_iter()
        .filter_map(|bytes| <[u8; 32]>::try_from(bytes).ok());
    Ok(digests.map(Digest::from_bytes).collect())
}

async fn remove_orphans(blobs: &Blobs, referenced: &HashSet<Digest>) -> Result<usize, OpenError> {
    let mut list = std::pin::pin!(blobs.list());
    let mut removed = 0;
    while let Some((digest, _)) = list.try_next().await? {
        if !referenced.contains(&digest) {
            blobs.delete(&digest).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes blobs that belong to nothing, until the queue is closed. What remains then is removed at the next start.
async fn release(mut released: mpsc::UnboundedReceiver<(Digest, u64)>, inner: Weak<Inner>) {
    let mut failed = VecDeque::new();
    loop {
        let next = tokio::select! {
            biased;
            next = released.recv() => next,
            () = tokio::time::sleep(RELEASE_AGAIN), if !failed.is_empty() => failed.pop_front(),
        };
        let Some((digest, bytes)) = next else { return };
        let Some(blobs) = inner.upgrade().map(|inner| inner.blobs.clone()) else {
            return;
        };
        match blobs.delete(&digest).await {
            Ok(_) => {
                let Some(inner) = inner.upgrade() else { return };
                let freed = Sums {
                    blob_bytes: -sql_ms(bytes),
                    ..Sums::default()
                };
                inner.shared.sums.lock().add(freed);
            }
            Err(error) => {
                tracing::warn!(%error, "a spooled body could not be removed; tried again");
                failed.push_back((digest, bytes));
            }
        }
    }
}

/// Has done what is to be done now and then, until the queue is closed.
async fn tick(requests: mpsc::WeakSender<Request>) {
    loop {
        tokio::time::sleep(TICK).await;
        match tidy(&requests).await {
            Ok(()) => {}
            Err(Error::Closed) => return,
            Err(error) => tracing::warn!(%error, "could not tidy the queue"),
        }
    }
}
