//! The writer: one thread, one connection, many requests a commit.
//!
//! What came while the last commit was being synced goes into the next one; there is no timer, so a queue that is idle
//! commits at once and a busy one commits many together. Nobody is answered before the commit is on disk.
//!
//! A group that fails is undone whole, in the file and among the leases, and then its requests are tried one at a time: so
//! one that cannot be carried out, for a damaged row or for want of room, takes no other with it. A damaged row that is
//! met on the way is taken out to the dead letters.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension as _, params};
use tidegate_core::queue::{
    Accepted, Item, Lease, NotLeased, Policy, Progress, Renewed, Seq, Settled, Shard, Table as _,
    Verdict,
};
use tidegate_core::{FunctionKey, InvocationId};
use tidegate_store::sqlite::{Database, Mark};
use tidegate_store::{Digest, Error as StoreError};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::Error;
use crate::lanes::{LaneNumber, Moved};
use crate::log::Log;
use crate::queue::Shared;
use crate::reserve::Reserve;
use crate::schema::PAGE_BYTES;
use crate::table::{Group, Leaving, Prepared, Rows, TableError, id_bytes, sql_ms};
use crate::tidy::Dropped;

/// Requests that may wait: some commits' worth.
pub(crate) const WAITING: usize = 4096;
/// Most requests in one commit. Beyond this the sync is a small part of the work, and the first in line waits longer.
const GROUP: usize = 512;
/// Most bytes of bodies in one commit, for the same reason.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// Damaged rows that are taken out of one request's way.
const DAMAGED: usize = 16;
/// Rows that are looked at for one request for work, beyond those asked for.
const LOOKED: usize = 256;
/// What a submission takes beside head and body, in bytes: the rest of its row, and its places in indexes.
const BESIDE_BYTES: u64 = 512;
pub(crate) enum Command {
    Accept(Arc<Prepared>),
    Take {
        function: FunctionKey,
        most: usize,
        hold_ms: u64,
    },
    Settle(Arc<Settling>),
    Renew {
        leases: Vec<Lease>,
        hold_ms: u64,
    },
    Cancel(InvocationId),
    Lose(Seq),
    Redrive(Vec<i64>),
    Purge(Vec<i64>),
    /// Ends the leases that were not renewed.
    Tick,
    /// Forgets what was kept long enough.
    Forget,
}

/// What came of an attempt, and what follows from each way it may count.
pub(crate) struct Settling {
    pub(crate) lease: Lease,
    pub(crate) verdict: Verdict,
    pub(crate) leaving: Leaving,
    pub(crate) on_done: Vec<Arc<Prepared>>,
    pub(crate) on_dead: Vec<Arc<Prepared>>,
}

/// An item that was leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The right to work on it.
    pub lease: Lease,
    /// Which one it is.
    pub id: InvocationId,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
    /// When it was due, in milliseconds since the Unix epoch.
    pub due_ms: u64,
    /// When it is given up, in milliseconds since the Unix epoch.
    pub deadline_ms: u64,
}

pub(crate) enum Reply {
    Accepted(Accepted<InvocationId>),
    /// The queue is as large as it may be.
    NoRoom,
    Taken(Vec<Taken>),
    Settled(Settled),
    Renewed(Vec<Renewed>),
    Cancelled(Option<bool>),
    Count(usize),
    /// Whether there is more to do.
    More(bool),
}

pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<Reply, Error>>,
}

pub(crate) struct Writer {
    pub(crate) database: Database,
    pub(crate) connection: Connection,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) shard: Shard,
    pub(crate) mark: Mark,
    pub(crate) log: Log,
    pub(crate) reserve: Reserve,
    /// The number of the last commit.
    pub(crate) version: i64,
    pub(crate) lanes: HashMap<FunctionKey, LaneNumber>,
    pub(crate) names: HashMap<LaneNumber, FunctionKey>,
    pub(crate) last_seq: Seq,
    pub(crate) last_lane: LaneNumber,
    /// The number of the last dead letter.
    pub(crate) last_dead: i64,
    /// Whether there is so little room that answers are not kept.
    pub(crate) lean: bool,
    pub(crate) dropped: Dropped,
    /// Of which lane each leased item is.
    pub(crate) held: HashMap<Seq, LaneNumber>,
    /// Rows that SQLite cannot read at all. They are left where they are, for whoever looks at the file.
    pub(crate) unreadable: HashSet<Seq>,
    pub(crate) released: mpsc::UnboundedSender<(Digest, u64)>,
    pub(crate) changed: watch::Sender<u64>,
}

/// The file as the rules see it, made of the writer's parts so that the shard stays free to be used with it.
macro_rules! rows {
    ($writer:expr, $group:expr) => {
        Rows {
            connection: &$writer.connection,
            group: &mut *$group,
            lanes: &mut $writer.lanes,
            names: &mut $writer.names,
            last_seq: &mut $writer.last_seq,
            last_lane: &mut $writer.last_lane,
            last_dead: &mut $writer.last_dead,
            now_ms: $writer.shared.clock.now_ms(),
            remember_ms: $writer.shared.options.remember_ms,
            leaving: None,
            lean: $writer.lean,
        }
    };
}
pub(crate) use rows;

impl Writer {
    /// Works until every sender is gone and what they sent is done.
    pub(crate) fn run(mut self) {
        let mut requests = Vec::with_capacity(GROUP);
        let mut replies = Vec::with_capacity(GROUP);
        while let Some(first) = self.requests.blocking_recv() {
            let mut bytes = first.command.bytes();
            requests.push(first);
            while requests.len() < GROUP
                && bytes < GROUP_BYTES
                && let Ok(request) = self.requests.try_recv()
            {
                bytes += request.command.bytes();
                requests.push(request);
            }
            self.commit(&requests, &mut replies);

            for (request, reply) in requests.drain(..).zip(replies.drain(..)) {
                // A caller that went away does not undo what it asked for.
                drop(request.reply.send(reply));
            }
            self.log.committed(&self.connection, bytes);
        }
        if let Err(error) = self.database.empty_log(&self.connection) {
            tracing::warn!(%error, "could not fold the queue's log into its file; the next start will");
        }
    }

    fn commit(&mut self, requests: &[Request], replies: &mut Vec<Result<Reply, Error>>) {
        match self.group(requests, replies) {
            Ok(()) => return,
            Err(error) if requests.len() == 1 => {
                replies.clear();
                replies.push(self.alone(&requests[0], error));
                return;
            }
            Err(_) => replies.clear(),
        }
        for request in requests {
            let mut one = Vec::with_capacity(1);
            let reply = match self.group(std::slice::from_ref(request), &mut one) {
                Ok(()) => one.pop().unwrap_or(Err(Error::Closed)),
                Err(error) => self.alone(request, error),
            };
            replies.push(reply);
        }
    }

    /// What to do about a request that failed by itself.
    fn alone(&mut self, request: &Request, error: TableError) -> Result<Reply, Error> {
        let reply = self.patiently(request, error);
        self.lean = false;
        reply
    }

    fn patiently(&mut self, request: &Request, mut error: TableError) -> Result<Reply, Error> {
        for _ in 0..DAMAGED {
            match error {
                TableError::Damaged(seq) => {
                    tracing::error!(
                        seq,
                        "an invocation is damaged on disk; it is among the dead letters"
                    );
                    self.transaction(|writer, group| writer.lose(group, seq))
                        .map_err(|error| self.error(&error))?;
                }
                TableError::Sql(ref sql) => {
                    let store = self.database.error(sql);
                    let makes_room = !matches!(request.command, Command::Accept(_));
                    let is_full = matches!(store, StoreError::Full { .. });
                    if !(is_full && makes_room && self.find_room()) {
                        return Err(store.into());
                    }
                }
            }
            let mut one = Vec::with_capacity(1);
            match self.group(std::slice::from_ref(request), &mut one) {
                Ok(()) => return one.pop().unwrap_or(Err(Error::Closed)),
                Err(again) => error = again,
            }
        }
        Err(self.error(&error))
    }

    /// Room for what makes room: first what was kept free, then that of answers. False if neither is left.
    fn find_room(&mut self) -> bool {
        self.reserve.give_up(&self.database, &self.connection)
            || !std::mem::replace(&mut self.lean, true)
    }

    fn group(
        &mut self,
        requests: &[Request],
        replies: &mut Vec<Result<Reply, Error>>,
    ) -> Result<(), TableError> {
        self.transaction(|writer, group| {
            for request in requests {
                let reply = writer.apply(&request.command, group)?;
                replies.push(Ok(reply));
            }
            Ok(())
        })
    }

    /// Does it and commits, or leaves everything as it was.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &mut Group) -> Result<T, TableError>,
    ) -> Result<T, TableError> {
        let mut group = Group::default();
        let last = (self.last_seq, self.last_lane, self.last_dead);
        let done = self.connection.prepare_cached("BEGIN IMMEDIATE");
        let done = done.and_then(|mut begin| begin.execute([]));
        let done = done.map_err(TableError::from).and_then(|_| {
            let worked = catch_unwind(AssertUnwindSafe(|| work(self, &mut group)));
            worked.unwrap_or_else(|_| {
                let abort = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT);
                let what = Some("a request panicked in the writer".to_owned());
                Err(rusqlite::Error::SqliteFailure(abort, what).into())
            })
        });
        let done = done.and_then(|value| {
            if group.wrote {
                let next = self.version + 1;
                self.connection
                    .prepare_cached("UPDATE counters SET value = ?1 WHERE name = 'version'")?
                    .execute([next])?;
            }
            if self.last_dead != last.2 || group.sums.dead_count != 0 {
                let sums = self.shared.sums.lock().plus(group.sums);
                sums.write(&self.connection, self.last_dead)?;
            }
            self.connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(value)
        });
        if done.is_err() {
            if !self.connection.is_autocommit()
                && let Err(error) = self.connection.execute_batch("ROLLBACK")
            {
                tracing::error!(%error, "could not roll back");
            }
            (self.last_seq, self.last_lane, self.last_dead) = last;
            for function in &group.new_lanes {
                if let Some(number) = self.lanes.remove(function) {
                    self.names.remove(&number);
                }
            }
            self.shard.undone();
            return done;
        }
        self.shard.committed();
        self.take_effect(group);
        done
    }

    /// What was committed shows.
    fn take_effect(&mut self, group: Group) {
        if group.wrote {
            self.version += 1;
            self.mark.note(self.version.cast_unsigned());
            match sqlite_bytes(&self.connection) {
                Ok(bytes) => self.shared.file_bytes.store(bytes, Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, "could not ask for the size of the queue"),
            }
        }
        self.shared.sums.lock().add(group.sums);
        self.dropped.note(group.dropped);
        self.shared
            .dropped
            .fetch_add(group.dropped, Ordering::Relaxed);
        self.shared.lost.fetch_add(group.lost, Ordering::Relaxed);
        if !group.ended.is_empty() || !group.leased.is_empty() {
            let mut held = self.shared.held.lock();
            for seq in &group.ended {
                self.held.remove(seq);
                held.remove(seq);
            }
            held.extend(&group.leased);
        }
        if !group.new_lanes.is_empty() || !group.moved.is_empty() {
            let mut woken = Vec::new();
            let mut lanes = self.shared.lanes.lock();
            for function in &group.new_lanes {
                if let Some(number) = self.lanes.get(function) {
                    lanes.add(function, *number);
                }
            }
            for moved in &group.moved {
                if let Moved::Came(number, _, Some(_)) | Moved::Due(number, ..) = moved {
                    woken.push(*number);
                }
                lanes.apply(moved);
            }
            drop(lanes);
            woken.dedup();
            if !woken.is_empty() {
                let functions = woken.iter().filter_map(|number| self.names.get(number));
                self.shared.woken.lock().extend(functions.cloned());
                self.changed.send_modify(|count| *count += 1);
            }
        }
        for released in group.released {
            // Nobody is there any more when the queue is closed; then the next start finds it.
            let _ = self.released.send(released);
        }
    }

    fn apply(&mut self, command: &Command, group: &mut Group) -> Result<Reply, TableError> {
        match command {
            Command::Accept(new) => {
                group.accepted_bytes += new.bytes() + BESIDE_BYTES;
                if self.shared.used_bytes() + group.accepted_bytes
                    > self.shared.options.max_file_bytes
                {
                    group.accepted_bytes -= new.bytes() + BESIDE_BYTES;
                    // What was accepted before needs no room.
                    let known = rows!(self, group).remembered(new)?;
                    return Ok(
                        known.map_or(Reply::NoRoom, |id| Reply::Accepted(Accepted::Duplicate(id)))
                    );
                }
                let mut rows = rows!(self, group);
                self.shard
                    .accept(&mut rows, Arc::clone(new))
                    .map(Reply::Accepted)
            }
            Command::Take {
                function,
                most,
                hold_ms,
            } => self
                .take(function, *most, *hold_ms, group)
                .map(Reply::Taken),
            Command::Settle(settling) => self.settle(settling, group).map(Reply::Settled),
            Command::Renew { leases, hold_ms } => {
                let until = self.shared.clock.elapsed_ms() + hold_ms;
                let renewed = leases.iter().map(|lease| self.shard.renew(lease, until));
                Ok(Reply::Renewed(renewed.collect()))
            }
            Command::Cancel(id) => {
                let mut rows = rows!(self, group);
                let Some(seq) = rows.seq_of(*id)? else {
                    return Ok(Reply::Cancelled(None));
                };
                let leased = self.shard.is_leased(seq);
                self.shard.cancel(&mut rows, seq)?;
                self.ended(seq, group);
                Ok(Reply::Cancelled(Some(leased)))
            }
            Command::Lose(seq) => {
                self.lose(group, *seq)?;
                Ok(Reply::Count(1))
            }
            Command::Redrive(numbers) => {
                let mut count = 0;
                for number in numbers {
                    count += usize::from(self.redrive(*number, group)?);
                }
                Ok(Reply::Count(count))
            }
            Command::Purge(numbers) => {
                let mut count = 0;
                for number in numbers {
                    count += usize::from(self.purge(*number, group)?);
                }
                Ok(Reply::Count(count))
            }
            Command::Tick => {
                self.tick(group);
                Ok(Reply::More(false))
            }
            Command::Forget => self.forget(group).map(Reply::More),
        }
    }

    fn take(
        &mut self,
        function: &FunctionKey,
        most: usize,
        hold_ms: u64,
        group: &mut Group,
    ) -> Result<Vec<Taken>, TableError> {
        let counted = self.shared.lanes.lock().get(function).cloned();
        let Some(counted) = counted else {
            return Ok(Vec::new());
        };
        let lane = counted.number;
        let now_ms = self.shared.clock.now_ms();
        let until = self.shared.clock.elapsed_ms() + hold_ms;
        let mut taken = Vec::new();
        let mut at = counted.cursor;
        let mut looked = 0;
        let mut next_due = u64::MAX;
        'pages: loop {
            let page = self.due_page(lane, at, most - taken.len() + 1)?;
            let full = page.len() > most - taken.len();
            for (due, seq) in page {
                if due > now_ms {
                    next_due = due;
                    break 'pages;
                }
                if taken.len() == most || looked >= most + LOOKED {
                    next_due = due;
                    break 'pages;
                }
                looked += 1;
                if let Some(one) = self.take_one(lane, seq, now_ms, until, group)? {
                    taken.push(one);
                }
                at = (due, seq);
            }
            if !full {
                break;
            }
        }
        group
            .moved
            .push(Moved::Looked(lane, counted.cursor, at, next_due));
        Ok(taken)
    }

    /// Items of a lane behind a place, by when they are due.
    fn due_page(
        &self,
        lane: LaneNumber,
        after: (u64, Seq),
        most: usize,
    ) -> Result<Vec<(u64, Seq)>, TableError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT due, seq FROM items INDEXED BY items_by_due
             WHERE lane = ?1 AND due >= ?2 AND (due > ?2 OR seq > ?3) ORDER BY due, seq LIMIT ?4",
        )?;
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![lane, sql_ms(after.0), after.1, limit], |row| {
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn take_one(
        &mut self,
        lane: LaneNumber,
        seq: Seq,
        now_ms: u64,
        until: u64,
        group: &mut Group,
    ) -> Result<Option<Taken>, TableError> {
        if self.unreadable.contains(&seq) {
            return Ok(None);
        }
        let mut rows = rows!(self, group);
        let leased = self.shard.lease(&mut rows, seq, now_ms, until);
        let found = match leased {
            Ok(Ok((lease, item))) => {
                let id = rows.find(seq)?.map(|found| found.id);
                id.map(|id| (lease, item, id))
            }
            Ok(Err(NotLeased::TooOld)) => {
                self.follow(group)?;
                None
            }
            Ok(Err(NotLeased::Held | NotLeased::Gone | NotLeased::NotYet)) => None,
            Err(TableError::Sql(error))
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt) =>
            {
                tracing::error!(seq, %error, "an invocation cannot be read; it stays where it is");
                self.unreadable.insert(seq);
                self.shared.unreadable.fetch_add(1, Ordering::Relaxed);
                None
            }
            Err(error) => return Err(error),
        };
        let Some((lease, item, id)) = found else {
            return Ok(None);
        };
        // Should the group fail, this tells of a lease that is not there, and is overwritten by the next.
        self.held.insert(seq, lane);
        // It may have come back in this very commit.
        group.ended.retain(|ended| *ended != seq);
        group.leased.push(seq);
        group.moved.push(Moved::Leased(lane));
        Ok(Some(Taken {
            lease,
            id,
            attempt: item.progress.tries.saturating_add(1),
            due_ms: item.due_ms,
            deadline_ms: item.deadline_ms,
        }))
    }

    /// What follows from the end of an item that was just given up, as the last of the dead letters.
    fn follow(&mut self, group: &mut Group) -> Result<(), TableError> {
        let number = self.last_dead;
        let letter = crate::dead::one(&self.connection, number)?;
        let loaded = crate::dead::load(&self.connection, "dead", "number", number)?;
        let (Some(letter), Some(Ok((submission, _)))) = (letter, loaded) else {
            return Ok(());
        };
        self.shared.hot.take(submission.id);
        for new in self.shared.follow.ask(submission, &letter) {
            match crate::queue::prepare(new) {
                Ok(prepared) => {
                    let mut rows = rows!(self, group);
                    self.shard.accept(&mut rows, Arc::new(prepared))?;
                }
                Err(error) => {
                    tracing::warn!(%error, "what follows from an invocation cannot be queued");
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, settling: &Settling, group: &mut Group) -> Result<Settled, TableError> {
        let now_ms = self.shared.clock.now_ms();
        let random = random();
        let mut rows = rows!(self, group);
        rows.leaving = Some(&settling.leaving);
        let settled = self.shard.settle(
            &mut rows,
            &settling.lease,
            &settling.verdict,
            now_ms,
            random,
        )?;
        let follow = match settled {
            Settled::Stale => return Ok(settled),
            Settled::Done => settling.on_done.as_slice(),
            Settled::Dead(_) => settling.on_dead.as_slice(),
            Settled::Again(_) => &[],
        };
        rows.leaving = None;
        for new in follow {
            self.shard.accept(&mut rows, Arc::clone(new))?;
        }
        let seq = settling.lease.seq;
        if let (Settled::Again(due), Some(lane)) = (settled, self.held.get(&seq)) {
            group.moved.push(Moved::Due(*lane, seq, due));
        }
        self.ended(seq, group);
        Ok(settled)
    }

    /// A lease ended. What was not committed is counted again when it is tried again.
    pub(crate) fn ended(&mut self, seq: Seq, group: &mut Group) {
        if let Some(lane) = self.held.get(&seq) {
            group.moved.push(Moved::Ended(*lane));
        }
        // It may have been taken in this very commit.
        group.leased.retain(|taken| *taken != seq);
        group.ended.push(seq);
    }

    fn lose(&mut self, group: &mut Group, seq: Seq) -> Result<(), TableError> {
        let key = self
            .connection
            .prepare_cached("SELECT okey FROM items WHERE seq = ?1")?
            .query_row([seq], |row| row.get::<_, Option<i64>>(0))
            .optional()?;
        let Some(key) = key else {
            return Ok(());
        };
        let item = Item {
            seq,
            due_ms: 0,
            behind: false,
            deadline_ms: 0,
            key,
            progress: Progress::default(),
            policy: Policy::default(),
        };
        let mut rows = rows!(self, group);
        self.shard.lose(&mut rows, &item)?;
        self.ended(seq, group);
        Ok(())
    }

    /// Brings a dead letter back, as if it had just been accepted; false if it is not there, or damaged.
    fn redrive(&mut self, number: i64, group: &mut Group) -> Result<bool, TableError> {
        let Some(prepared) = crate::dead::revive(&self.connection, number)? else {
            return Ok(false);
        };
        let id = prepared.id;
        let mut rows = rows!(self, group);
        if rows.seq_of(id)?.is_some() {
            return Ok(false);
        }
        rows.unbury(number)?;
        self.shard.accept(&mut rows, Arc::new(prepared))?;
        let mut forget = self
            .connection
            .prepare_cached("DELETE FROM results WHERE id = ?1 RETURNING length(finished)")?;
        for bytes in forget.query_map([id_bytes(id)], |row| row.get::<_, i64>(0))? {
            group.sums.result_bytes -= bytes?;
        }
        Ok(true)
    }

    pub(crate) fn purge(&mut self, number: i64, group: &mut Group) -> Result<bool, TableError> {
        let mut rows = rows!(self, group);
        let Some(id) = rows.unbury(number)? else {
            return Ok(false);
        };
        if let Some(id) = id {
            rows.release(id)?;
        }
        Ok(true)
    }

    fn error(&self, error: &TableError) -> Error {
        match error {
            TableError::Sql(error) => self.database.error(error).into(),
            TableError::Damaged(seq) => Error::Damaged {
                id: InvocationId::from_u128(seq.cast_unsigned().into()),
                detail: "a row of its ordering key".to_owned(),
            },
        }
    }
}

/// What the file takes, without the pages in it that are free.
pub(crate) fn sqlite_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |sql: &str| -> rusqlite::Result<i64> {
        connection
            .prepare_cached(sql)?
            .query_row([], |row| row.get(0))
    };
    let pages = pragma("PRAGMA page_count")? - pragma("PRAGMA freelist_count")?;
    Ok(u64::try_from(pages).unwrap_or(0) * u64::from(PAGE_BYTES))
}

/// Some of an id's bits are as random as any.
fn random() -> u64 {
    uuid::Uuid::now_v7().as_u64_pair().1
}

impl Command {
    fn bytes(&self) -> usize {
        match self {
            Self::Accept(new) => new.head.len() + new.body.len(),
            _ => 0,
        }
    }
}
