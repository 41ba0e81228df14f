//! What is done now and then: leases that were not renewed end, and what was kept long enough is forgotten.
//!
//! Of each kind so much goes in one commit, so that many that end together hold nobody up; while there is more, the next
//! batch follows after a pause as long as the batch took. So what can be forgotten grows with what comes, and the writer has
//! half of its time for others.

use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension as _, params};
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::lanes::Moved;
use crate::sums::Sums;
use crate::table::{Group, Rows, TableError, sql_ms};
use crate::writer::{Command, Reply, Request, Writer, rows};

/// Words, results and dead letters that are forgotten in one commit.
pub(crate) const FORGOTTEN: i64 = 256;
/// Bytes of dead letters that are forgotten in one commit: freeing a row reads it.
const FORGOTTEN_BYTES: i64 = 8 * 1024 * 1024;
/// Nobody is told of dead letters that went more often than this.
const SAID: Duration = Duration::from_secs(60);

/// Who is told of dead letters that went.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    unsaid: u64,
    said: Option<Instant>,
}

impl Dropped {
    pub(crate) fn note(&mut self, count: u64) {
        self.unsaid += count;
        if self.unsaid > 0 && self.said.is_none_or(|said| said.elapsed() >= SAID) {
            tracing::warn!(
                count = self.unsaid,
                "dead letters went: they were kept long enough, or there were too many"
            );
            (self.unsaid, self.said) = (0, Some(Instant::now()));
        }
    }
}

impl Writer {
    /// What has to be done whatever the state of the file.
    pub(crate) fn tick(&mut self, group: &mut Group) {
        self.shared.clock.adjust();
        self.reserve.tend(&self.shared);
        for seq in self.shard.expire(self.shared.clock.elapsed_ms()) {
            let found = rows!(self, group).find(seq);
            if let (Some(lane), Ok(Some(found))) = (self.held.get(&seq), found) {
                let due = found.state.item.due_ms;
                group.moved.push(Moved::Due(*lane, seq, due));
            }
            self.ended(seq, group);
        }
    }

    /// Whether there is more to forget.
    pub(crate) fn forget(&mut self, group: &mut Group) -> Result<bool, TableError> {
        let words = self.forget_words(group)?;
        let results = self.forget_results(group)?;
        let dead = self.forget_dead(group)?;
        Ok(words || results || dead)
    }

    /// What there will be when this group is committed.
    fn sums(&self, group: &Group) -> Sums {
        self.shared.sums.lock().plus(group.sums)
    }

    fn forget_words(&mut self, group: &mut Group) -> Result<bool, TableError> {
        let words = self
            .connection
            .prepare_cached(
                "DELETE FROM words WHERE word IN
                 (SELECT word FROM words WHERE until <= ?1 ORDER BY until LIMIT ?2)",
            )?
            .execute(params![sql_ms(self.shared.clock.now_ms()), FORGOTTEN])?;
        group.wrote |= words > 0;
        Ok(words == FORGOTTEN as usize)
    }

    fn forget_results(&mut self, group: &mut Group) -> Result<bool, TableError> {
        let most = sql_ms(self.shared.options.max_result_bytes);
        // When there are too many, the oldest go before their time.
        let which = if self.sums(group).result_bytes > most {
            "SELECT number FROM results WHERE ?1 > 0 ORDER BY number LIMIT ?2"
        } else {
            "SELECT number FROM results WHERE until <= ?1 ORDER BY until LIMIT ?2"
        };
        let sql =
            format!("DELETE FROM results WHERE number IN ({which}) RETURNING length(finished)");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let now_ms = sql_ms(self.shared.clock.now_ms());
        let sizes = statement.query_map(params![now_ms, FORGOTTEN], |row| row.get::<_, i64>(0))?;
        let mut count = 0;
        for size in sizes {
            count += 1;
            group.sums.result_bytes -= size?;
            group.wrote = true;
        }
        Ok(count == FORGOTTEN || count > 0 && self.sums(group).result_bytes > most)
    }

    /// The oldest dead letters go when they are too old, or while all of them are too large.
    fn forget_dead(&mut self, group: &mut Group) -> Result<bool, TableError> {
        let options = &self.shared.options;
        let most = sql_ms(options.max_dead_bytes);
        let now_ms = self.shared.clock.now_ms();
        let died_before = sql_ms(now_ms.saturating_sub(options.dead_keep_ms));
        let before = self.sums(group).dead_bytes;
        for _ in 0..FORGOTTEN {
            let bytes = self.sums(group).dead_bytes;
            if before - bytes >= FORGOTTEN_BYTES {
                return Ok(true);
            }
            let oldest: Option<(i64, i64)> = self
                .connection
                .prepare_cached("SELECT number, died FROM dead ORDER BY number LIMIT 1")?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            match oldest {
                Some((number, died)) if bytes > most || died <= died_before => {
                    self.purge(number, group)?;
                    group.dropped += 1;
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Has it all done. Holds nobody back who closes the queue meanwhile.
///
/// # Errors
/// [`Error::Closed`], or what keeps the file from being written.
pub(crate) async fn tidy(requests: &mpsc::WeakSender<Request>) -> Result<(), Error> {
    loop {
        let began = Instant::now();
        // One after the other: damage among what is kept does not keep leases from ending.
        ask(requests, Command::Tick).await?;
        match ask(requests, Command::Forget).await? {
            Reply::More(true) => tokio::time::sleep(began.elapsed()).await,
            _ => return Ok(()),
        }
    }
}

async fn ask(requests: &mpsc::WeakSender<Request>, command: Command) -> Result<Reply, Error> {
    let (reply, answer) = oneshot::channel();
    let sender = requests.upgrade().ok_or(Error::Closed)?;
    let request = Request { command, reply };
    sender.send(request).await.map_err(|_| Error::Closed)?;
    drop(sender);
    answer.await.map_err(|_| Error::Closed)?
}
