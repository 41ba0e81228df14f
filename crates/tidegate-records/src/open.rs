//! Opening a folder: what is read, and what is made of what a crash left.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::encode::{Batch, Kind};
use crate::options::{Damage, MAX_REPORTED};
use crate::pending::Pending;
use crate::recorder::{Accounts, Counters, Inner, READERS, Requests};
use crate::segment::{FIRST_FRAME, FRAME_HEADER, Found, Scanner, Series};
use crate::shared::Shared;
use crate::usage::{self, Place, Store};
use crate::writer::{Writer, complain, now_us};
use crate::{Error, OpenReport, Options};

/// Most shards of records: more threads than that share.
const MAX_SHARDS: usize = 16;
/// Shards of lines: few threads read what functions print.
const LINE_SHARDS: usize = 2;

pub(crate) fn open(
    folder: &Path,
    options: Options,
) -> Result<(Arc<Inner>, JoinHandle<()>, OpenReport), Error> {
    let lock = lock(folder)?;
    let mut report = OpenReport::default();
    let mut damage = Vec::new();
    let loaded = Store::open(folder.join("usage"))?;
    let (mut usage, place) = (loaded.store, loaded.place);
    let records = Series::open(
        Kind::Records,
        folder.join("records"),
        options.records,
        place,
        &mut |found| damage.push(found),
    )?;
    let lines = Series::open(
        Kind::Lines,
        folder.join("lines"),
        options.lines,
        Place::default(),
        &mut |found| damage.push(found),
    )?;
    report.unfinished_bytes = records.unfinished + lines.unfinished;
    let (records, lines) = (records.series, lines.series);
    replay(&records, place, &mut usage, &mut report, &mut damage)?;
    report.segments = records.size().0 + lines.size().0;
    report.usage_rebuilt = !loaded.sound && report.replayed > 0;
    if !loaded.sound {
        // From now on the lack of one means that it was lost.
        let hour = usage::hour_of(now_us());
        let written = records
            .sync()
            .and_then(|()| usage.checkpoint(records.end(), hour));
        complain(written, "no checkpoint of the usage can be written");
    }
    damage.truncate(MAX_REPORTED);
    report.damage = damage;

    let shards = thread::available_parallelism().map_or(2, |n| n.get().clamp(2, MAX_SHARDS));
    let shared = Arc::new(Shared::new(
        Pending::new(shards, options.buffer_bytes),
        Pending::new(LINE_SHARDS, options.buffer_bytes),
        options.granularity.as_micros() as u64,
    ));
    let mut accounts = Accounts::new(&options);
    bill_today(&usage, &mut accounts, &shared)?;
    let inner = Arc::new(Inner {
        shared,
        options,
        records,
        lines,
        usage: Mutex::new(usage),
        requests: Requests::default(),
        failing: Mutex::new(None),
        counters: Counters::default(),
        news: watch::channel(0).0,
        readers: Arc::new(Semaphore::new(READERS)),
        closed: AtomicBool::new(false),
        accounts: Mutex::new(accounts),
        lock,
    });
    let writer = Writer::new(inner.clone());
    let thread = thread::Builder::new().name("records".into());
    let thread = thread.spawn(|| writer.run());
    let thread = thread.map_err(Error::io("start the thread that writes", folder))?;
    inner.shared.set_writer(thread.thread().clone());
    // Whoever came before that has not woken it.
    thread.thread().unpark();
    Ok((inner, thread, report))
}

/// Makes the folder, for its owner alone, and takes it.
fn lock(folder: &Path) -> Result<File, Error> {
    let mut make = DirBuilder::new();
    let made = make.recursive(true).mode(0o700).create(folder);
    made.map_err(Error::io("make", folder))?;
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            path: folder.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(Error::io("lock", &path)(source)),
    }
}

/// Counts the usage of the batches behind the checkpoint.
fn replay(
    records: &Series,
    from: Place,
    usage: &mut Store,
    report: &mut OpenReport,
    damage: &mut Vec<Damage>,
) -> Result<(), Error> {
    let files = records.files();
    let last = files.last().map(|(name, _, _)| *name);
    for (name, path, end) in files {
        if name.number < from.segment {
            continue;
        }
        let behind = name.number == from.segment;
        let start = if behind { from.offset } else { FIRST_FRAME };
        let file = match File::open(&path) {
            Err(_) if end <= FIRST_FRAME => continue,
            file => file.map_err(Error::io("read", &path))?,
        };
        let mut scanner = Scanner::new(&file, name.salt, start, end);
        while let Some(found) = scanner.next().map_err(Error::io("read", &path))? {
            let (offset, bytes) = match found {
                Found::Frame { offset, payload } => {
                    let bytes = (FRAME_HEADER + payload.len()) as u64;
                    if let Ok(batch) = Batch::decode(payload, Kind::Records) {
                        let place = Place {
                            segment: name.number,
                            offset: offset + bytes,
                        };
                        usage.add(place, &batch.entries, &mut |found| damage.push(found));
                        report.replayed += 1;
                        continue;
                    }
                    (offset, bytes)
                }
                Found::Damaged { offset, bytes } => (offset, bytes),
            };
            if Some(name) == last && offset + bytes == end {
                // The write that the crash interrupted.
                report.unfinished_bytes += bytes;
                continue;
            }
            let found = Damage {
                path: path.clone(),
                offset,
                bytes,
            };
            if !damage.contains(&found) {
                damage.push(found);
            }
        }
    }
    Ok(())
}

/// Adds what each namespace was billed today, before the server started.
fn bill_today(usage: &Store, accounts: &mut Accounts, shared: &Shared) -> Result<(), Error> {
    let day = usage::hour_of(now_us()) / 24;
    let billed = usage.billed_on(day, &mut |found| {
        tracing::warn!(path = %found.path.display(), "some of today's usage is damaged and lost");
    })?;
    for (name, byte_us) in billed {
        let namespace = accounts.namespace(&name, shared);
        namespace.today.add_used(day, byte_us >> 20);
    }
    Ok(())
}
