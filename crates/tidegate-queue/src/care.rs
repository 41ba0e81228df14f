//! Looking after the queue: what stands where, and what an operator does about it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_core::InvocationId;
use tidegate_core::queue::Seq;

use crate::codec;
use crate::dead::{self, DeadFilter, DeadLetter};
use crate::error::Error;
use crate::listing::{self, Entry, Filter, Page};
use crate::queue::{Cancelled, Queue, Shared, Shown, Stats};
use crate::submission::{Finished, Submission};
use crate::table::id_bytes;
use crate::writer::{Command, Reply};

/// Dead letters redriven in one commit.
const REDRIVE: usize = 64;

impl Queue {
    /// Counts.
    pub fn stats(&self) -> Stats {
        let shared = &self.inner.shared;
        let (bytes, sums) = (shared.used_bytes(), *shared.sums.lock());
        Stats {
            queued: shared.lanes.lock().queued(),
            leased: shared.held.lock().len() as u64,
            lost: shared.lost.load(Ordering::Relaxed),
            unreadable: shared.unreadable.load(Ordering::Relaxed),
            full: shared.full.load(Ordering::Relaxed) || bytes >= shared.options.max_file_bytes,
            bytes,
            dead: sums.dead_count.unsigned_abs(),
            dead_bytes: sums.dead_bytes.unsigned_abs(),
            dead_dropped: shared.dropped.load(Ordering::Relaxed),
        }
    }

    /// A page of the items that are not done, in the order of acceptance, from behind `from`.
    ///
    /// # Errors
    /// What keeps the file from being read.
    pub async fn list(
        &self,
        filter: Filter,
        from: Option<i64>,
        limit: usize,
    ) -> Result<Page<Entry>, Error> {
        let shared = Arc::clone(&self.inner.shared);
        self.inner
            .readers
            .run(move |database, connection| {
                let name = |number| listing::names(&shared.lanes.lock(), number, &filter);
                let leased = |seq| shared.held.lock().contains(&seq);
                listing::items(connection, name, leased, from.unwrap_or(0), limit)
                    .map_err(|error| database.error(&error).into())
            })
            .await
    }

    /// Where an invocation stands.
    ///
    /// # Errors
    /// [`Error::NotFound`], or what keeps the file from being read.
    pub async fn show(&self, id: InvocationId) -> Result<Shown, Error> {
        let shared = Arc::clone(&self.inner.shared);
        let found: Result<_, Error> = self
            .inner
            .readers
            .run(move |database, connection| {
                show(connection, &shared, id).map_err(|error| database.error(&error).into())
            })
            .await;
        found?.ok_or(Error::NotFound { id })
    }

    /// The request of an item or dead letter.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], or what keeps the file from being read.
    pub async fn submission(&self, id: InvocationId) -> Result<Submission, Error> {
        let found: Result<_, Error> = self
            .inner
            .readers
            .run(move |database, connection| {
                let sql = |error: rusqlite::Error| Error::from(database.error(&error));
                if let Some(seq) = seq_of(connection, id).map_err(sql)? {
                    return dead::load(connection, "items", "seq", seq).map_err(sql);
                }
                match dead::numbers(connection, id).map_err(sql)?.last() {
                    Some(number) => dead::load(connection, "dead", "number", *number).map_err(sql),
                    None => Ok(None),
                }
            })
            .await;
        match found? {
            None => Err(Error::NotFound { id }),
            Some(Ok((submission, _))) => Ok(submission),
            Some(Err(detail)) => Err(Error::Damaged {
                id,
                detail: detail.to_owned(),
            }),
        }
    }

    /// How an invocation ended, as long as that is kept.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it has not ended or its result is not kept, or what keeps the file from being read.
    pub async fn result(&self, id: InvocationId) -> Result<Finished, Error> {
        let now = self.now_ms();
        let found: Result<_, Error> = self
            .inner
            .readers
            .run(move |database, connection| {
                finished(connection, id, now).map_err(|error| database.error(&error).into())
            })
            .await;
        found?.ok_or(Error::NotFound { id })
    }

    /// Takes an item out, whether or not it runs.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it is not in the queue, or what keeps the file from being written.
    pub async fn cancel(&self, id: InvocationId) -> Result<Cancelled, Error> {
        self.inner.shared.hot.take(id);
        match self.send(Command::Cancel(id)).await? {
            Reply::Cancelled(Some(true)) => {
                // Nobody may listen.
                drop(self.inner.cancelled.send(id));
                Ok(Cancelled::Running)
            }
            Reply::Cancelled(Some(false)) => Ok(Cancelled::Waiting),
            _ => Err(Error::NotFound { id }),
        }
    }

    /// A page of the dead letters, the latest first, from behind `from`.
    ///
    /// # Errors
    /// What keeps the file from being read.
    pub async fn dead(
        &self,
        filter: DeadFilter,
        from: Option<i64>,
        limit: usize,
    ) -> Result<Page<DeadLetter>, Error> {
        self.inner
            .readers
            .run(move |database, connection| {
                listing::dead(connection, &filter, from, limit)
                    .map_err(|error| database.error(&error).into())
            })
            .await
    }

    /// Sends dead letters again, as if they had just been accepted, at most so many a second. Gives how many; a damaged one
    /// cannot be sent. What dies again meanwhile is not sent twice.
    ///
    /// # Errors
    /// What keeps the file from being read or written; what was sent until then stays sent.
    pub async fn redrive(&self, filter: DeadFilter, per_second: u32) -> Result<u64, Error> {
        self.redrive_telling(filter, per_second, |_| ()).await
    }

    /// The same, telling again and again how many were sent until then.
    ///
    /// # Errors
    /// As [`Queue::redrive`].
    pub async fn redrive_telling(
        &self,
        filter: DeadFilter,
        per_second: u32,
        told: impl Fn(u64) + Send,
    ) -> Result<u64, Error> {
        let batch = usize::try_from(per_second / 10)
            .unwrap_or(REDRIVE)
            .clamp(1, REDRIVE);
        let pause = Duration::from_secs_f64(batch as f64 / f64::from(per_second.max(1)));
        self.each_dead(filter, batch, Some(pause), Command::Redrive, told)
            .await
    }

    /// Sends one dead letter again.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none with this id that is whole, or what keeps the file from being written.
    pub async fn redrive_one(&self, id: InvocationId) -> Result<(), Error> {
        let numbers = self.dead_numbers(id).await?;
        match self.send(Command::Redrive(numbers)).await? {
            Reply::Count(count) if count > 0 => Ok(()),
            _ => Err(Error::NotFound { id }),
        }
    }

    /// Throws dead letters away, and gives how many.
    ///
    /// # Errors
    /// What keeps the file from being read or written; what was thrown away until then is gone.
    pub async fn purge(&self, filter: DeadFilter) -> Result<u64, Error> {
        self.each_dead(filter, listing::MAX_PAGE, None, Command::Purge, |_| ())
            .await
    }

    /// Throws one dead letter away.
    ///
    /// # Errors
    /// [`Error::NotFound`], or what keeps the file from being written.
    pub async fn purge_one(&self, id: InvocationId) -> Result<(), Error> {
        let numbers = self.dead_numbers(id).await?;
        match self.send(Command::Purge(numbers)).await? {
            Reply::Count(count) if count > 0 => Ok(()),
            _ => Err(Error::NotFound { id }),
        }
    }

    async fn dead_numbers(&self, id: InvocationId) -> Result<Vec<i64>, Error> {
        self.inner
            .readers
            .run(move |database, connection| {
                dead::numbers(connection, id).map_err(|error| database.error(&error).into())
            })
            .await
    }

    async fn each_dead(
        &self,
        filter: DeadFilter,
        batch: usize,
        pause: Option<Duration>,
        command: impl Fn(Vec<i64>) -> Command,
        told: impl Fn(u64) + Send,
    ) -> Result<u64, Error> {
        let (mut from, mut total) = (None, 0);
        loop {
            let page = self.dead(filter.clone(), from, batch).await?;
            let numbers: Vec<i64> = page.items.iter().map(|letter| letter.number).collect();
            if !numbers.is_empty()
                && let Reply::Count(count) = self.send(command(numbers)).await?
            {
                total += count as u64;
                told(total);
            }
            from = page.next;
            if from.is_none() {
                return Ok(total);
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

fn seq_of(connection: &rusqlite::Connection, id: InvocationId) -> rusqlite::Result<Option<Seq>> {
    use rusqlite::OptionalExtension as _;
    connection
        .prepare_cached("SELECT seq FROM items WHERE id = ?1")?
        .query_row([id_bytes(id)], |row| row.get(0))
        .optional()
}

fn finished(
    connection: &rusqlite::Connection,
    id: InvocationId,
    now_ms: u64,
) -> rusqlite::Result<Option<Finished>> {
    use rusqlite::OptionalExtension as _;
    let bytes: Option<Vec<u8>> = connection
        .prepare_cached(
            "SELECT finished FROM results WHERE id = ?1 AND until > ?2 ORDER BY number DESC LIMIT 1",
        )?
        .query_row(
            rusqlite::params![id_bytes(id), crate::table::sql_ms(now_ms)],
            |row| row.get(0),
        )
        .optional()?;
    Ok(bytes.and_then(|bytes| codec::decode_finished(id, &bytes)))
}

fn show(
    connection: &rusqlite::Connection,
    shared: &Shared,
    id: InvocationId,
) -> rusqlite::Result<Option<Shown>> {
    use rusqlite::OptionalExtension as _;
    if let Some(seq) = seq_of(connection, id)? {
        let name = |number| listing::names(&shared.lanes.lock(), number, &Filter::All);
        let held = |seq| shared.held.lock().contains(&seq);
        let page = listing::items(connection, name, held, seq - 1, 1)?;
        let entry = page.items.into_iter().find(|entry| entry.id == id);
        if let Some(entry) = entry {
            let leased = shared.held.lock().contains(&seq);
            return Ok(Some(Shown::Queued { entry, leased }));
        }
    }
    if let Some(number) = dead::numbers(connection, id)?.last() {
        let letter = connection
            .prepare_cached(&format!(
                "SELECT {} FROM dead WHERE number = ?1",
                dead::COLUMNS
            ))?
            .query_row([number], dead::read)
            .optional()?;
        if let Some(letter) = letter.flatten() {
            return Ok(Some(Shown::Dead(letter)));
        }
    }
    let now = shared.clock.now_ms();
    Ok(finished(connection, id, now)?.map(Shown::Finished))
}
