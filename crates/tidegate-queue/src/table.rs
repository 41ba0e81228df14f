//! The file as the rules see it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, params};
use tidegate_core::queue::{End, Item, Policy, Progress, Reason, Seq, Table};
use tidegate_core::{FunctionKey, InvocationId};
use tidegate_store::Digest;

use crate::codec::{self, State};
use crate::lanes::{LaneNumber, Moved};
use crate::submission::{Answer, Ending, Finished, Spooled};
use crate::sums::Sums;

/// A submission as it will be written. Made by whoever submits, so that the one writer has little to do.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) id: InvocationId,
    pub(crate) function: FunctionKey,
    pub(crate) head: Vec<u8>,
    /// Empty for a spooled one.
    pub(crate) body: Bytes,
    pub(crate) spooled: Option<Spooled>,
    pub(crate) order: Option<i64>,
    pub(crate) word: Option<[u8; 16]>,
    /// In milliseconds since the Unix epoch; 0 for at once.
    pub(crate) due_ms: u64,
    pub(crate) policy: Policy,
    pub(crate) keep_result_ms: u64,
}

impl Prepared {
    /// Head and body, wherever that is, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let spooled = self.spooled.map_or(0, |spooled| spooled.bytes);
        (self.head.len() + self.body.len()) as u64 + spooled
    }
}

/// What is known of an end beside what the rules know.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) ended: Option<tidegate_core::queue::Ended>,
    pub(crate) message: Option<String>,
    pub(crate) answer: Option<Answer>,
}

/// Why the table could not be read or written.
#[derive(Debug)]
pub(crate) enum TableError {
    Sql(rusqlite::Error),
    /// This row is not as it was written.
    Damaged(Seq),
}

/// What a group has done so far, to take effect when it is committed.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) moved: Vec<Moved>,
    /// Blobs that belong to nothing any more, with their sizes in bytes.
    pub(crate) released: Vec<(Digest, u64)>,
    /// What submissions take that were accepted, in bytes.
    pub(crate) accepted_bytes: u64,
    /// What is to be added to the sums.
    pub(crate) sums: Sums,
    /// Dead letters that went because of their age or their number.
    pub(crate) dropped: u64,
    pub(crate) new_lanes: Vec<FunctionKey>,
    pub(crate) leased: Vec<Seq>,
    /// Items whose lease ended.
    pub(crate) ended: Vec<Seq>,
    pub(crate) lost: u64,
    /// Whether anything was written.
    pub(crate) wrote: bool,
}

pub(crate) struct Rows<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) group: &'a mut Group,
    pub(crate) lanes: &'a mut HashMap<FunctionKey, LaneNumber>,
    pub(crate) names: &'a mut HashMap<LaneNumber, FunctionKey>,
    pub(crate) last_seq: &'a mut Seq,
    pub(crate) last_lane: &'a mut LaneNumber,
    pub(crate) last_dead: &'a mut i64,
    pub(crate) now_ms: u64,
    pub(crate) remember_ms: u64,
    pub(crate) leaving: Option<&'a Leaving>,
    /// Whether there is so little room that answers are not kept.
    pub(crate) lean: bool,
}

/// What a dead letter keeps of its item.
struct Kept {
    state: Vec<u8>,
    head: Vec<u8>,
    body: Vec<u8>,
}

/// A row without request and body.
pub(crate) struct Found {
    pub(crate) id: InvocationId,
    pub(crate) lane: LaneNumber,
    pub(crate) state: State,
}

impl From<rusqlite::Error> for TableError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

pub(crate) fn id_bytes(id: InvocationId) -> [u8; 16] {
    id.as_u128().to_be_bytes()
}

pub(crate) fn read_id(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<InvocationId>> {
    let bytes = row.get_ref(column)?.as_blob().unwrap_or_default();
    let id = <[u8; 16]>::try_from(bytes).ok();
    Ok(id.map(|id| InvocationId::from_u128(u128::from_be_bytes(id))))
}

/// Milliseconds as SQLite keeps them.
pub(crate) fn sql_ms(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn blob(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    match row.get_ref(column)?.as_blob() {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(_) => Err(rusqlite::Error::InvalidColumnType(
            column,
            String::new(),
            Type::Blob,
        )),
    }
}

impl Rows<'_> {
    pub(crate) fn find(&self, seq: Seq) -> Result<Option<Found>, TableError> {
        let found = self
            .connection
            .prepare_cached("SELECT id, lane, state FROM items WHERE seq = ?1")?
            .query_row([seq], |row| {
                let (id, lane) = (read_id(row, 0)?, row.get::<_, i64>(1)?);
                let state = row.get_ref(2)?.as_blob().unwrap_or_default();
                let state = id.and_then(|id| codec::decode_state(id, seq, state));
                Ok(id.zip(state).map(|(id, state)| Found { id, lane, state }))
            })
            .optional()?;
        match found {
            None => Ok(None),
            Some(None) => Err(TableError::Damaged(seq)),
            Some(found) => Ok(found),
        }
    }

    pub(crate) fn seq_of(&self, id: InvocationId) -> Result<Option<Seq>, TableError> {
        Ok(self
            .connection
            .prepare_cached("SELECT seq FROM items WHERE id = ?1")?
            .query_row([id_bytes(id)], |row| row.get(0))
            .optional()?)
    }

    fn lane(&mut self, function: &FunctionKey) -> rusqlite::Result<LaneNumber> {
        if let Some(number) = self.lanes.get(function) {
            return Ok(*number);
        }
        *self.last_lane += 1;
        let number = *self.last_lane;
        self.connection
            .prepare_cached(
                "INSERT INTO lanes (lane, namespace, grp, name) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                number,
                &*function.namespace,
                &*function.group,
                &*function.name
            ])?;
        self.lanes.insert(function.clone(), number);
        self.names.insert(number, function.clone());
        self.group.new_lanes.push(function.clone());
        Ok(number)
    }

    fn whose(&self, lane: LaneNumber) -> FunctionKey {
        let lane = self.names.get(&lane);
        lane.map_or_else(nameless, |lane| crate::lanes::whose(lane).0)
    }

    /// Keeps how it ended, for as long as was asked.
    fn keep_result(
        &mut self,
        keep_ms: u64,
        finished: &[u8],
        id: InvocationId,
    ) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("INSERT INTO results (id, until, finished) VALUES (?1, ?2, ?3)")?
            .execute(params![
                id_bytes(id),
                sql_ms(self.now_ms.saturating_add(keep_ms)),
                finished
            ])?;
        self.group.sums.result_bytes += i64::try_from(finished.len()).unwrap_or(0);
        Ok(())
    }

    /// Lets go of the blob of an item that is gone, and gives its size in bytes.
    pub(crate) fn release(&mut self, id: InvocationId) -> rusqlite::Result<u64> {
        let found = self
            .connection
            .prepare_cached("DELETE FROM blobs WHERE id = ?1 RETURNING digest, bytes")?
            .query_row([id_bytes(id)], |row| {
                Ok((blob(row, 0)?, row.get::<_, i64>(1)?.cast_unsigned()))
            })
            .optional()?;
        let Some((digest, bytes)) = found else {
            return Ok(0);
        };
        if let Ok(digest) = <[u8; 32]>::try_from(digest) {
            self.group
                .released
                .push((Digest::from_bytes(digest), bytes));
        }
        Ok(bytes)
    }

    /// Notes whose a blob is. One that comes back from the dead letters was counted before.
    fn keep_blob(&mut self, id: InvocationId, spooled: &Spooled) -> rusqlite::Result<()> {
        let known = self.group.released.len();
        self.release(id)?;
        if let Some((digest, bytes)) = self.group.released.get(known).copied()
            && digest == spooled.digest
        {
            self.group.released.truncate(known);
            self.group.sums.blob_bytes -= bytes.cast_signed();
        }
        let bytes = sql_ms(spooled.bytes);
        self.connection
            .prepare_cached("INSERT INTO blobs (id, digest, bytes) VALUES (?1, ?2, ?3)")?
            .execute(params![id_bytes(id), spooled.digest.as_bytes(), bytes])?;
        self.group.sums.blob_bytes += bytes;
        Ok(())
    }

    fn blob_bytes(&self, id: InvocationId) -> rusqlite::Result<i64> {
        let bytes = self
            .connection
            .prepare_cached("SELECT bytes FROM blobs WHERE id = ?1")?
            .query_row([id_bytes(id)], |row| row.get(0))
            .optional()?;
        Ok(bytes.unwrap_or(0))
    }

    /// Puts it among the dead letters, under a number that was never given.
    fn bury(
        &mut self,
        seq: Seq,
        id: InvocationId,
        lane: LaneNumber,
        reason: Reason,
        finished: &[u8],
        kept: &Kept,
    ) -> rusqlite::Result<()> {
        *self.last_dead += 1;
        self.connection
            .prepare_cached(
                "INSERT INTO dead (number, seq, id, lane, died, reason, finished, state, head, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                *self.last_dead,
                seq,
                id_bytes(id),
                lane,
                sql_ms(self.now_ms),
                codec::reason_number(reason),
                finished,
                kept.state,
                kept.head,
                kept.body,
            ])?;
        let row = finished.len() + kept.head.len() + kept.body.len();
        let spooled = self.blob_bytes(id)?;
        self.group.sums.dead_count += 1;
        self.group.sums.dead_bytes += i64::try_from(row).unwrap_or(0) + spooled;
        Ok(())
    }

    /// Takes one out from among the dead letters, and gives its id if it can be read. Its blob stays.
    pub(crate) fn unbury(&mut self, number: i64) -> rusqlite::Result<Option<Option<InvocationId>>> {
        let found = self
            .connection
            .prepare_cached(
                "DELETE FROM dead WHERE number = ?1
                 RETURNING id, length(finished) + length(head) + length(body)",
            )?
            .query_row([number], |row| {
                Ok((read_id(row, 0)?, row.get::<_, i64>(1)?))
            })
            .optional()?;
        let Some((id, bytes)) = found else {
            return Ok(None);
        };
        let spooled = id.map_or(Ok(0), |id| self.blob_bytes(id))?;
        self.group.wrote = true;
        self.group.sums.dead_count -= 1;
        self.group.sums.dead_bytes -= bytes + spooled;
        Ok(Some(id))
    }

    /// Takes a row out of which nothing can be relied on but its place.
    fn remove_damaged(&mut self, seq: Seq) -> Result<(), TableError> {
        let (id, lane) = self
            .connection
            .prepare_cached("SELECT id, lane FROM items WHERE seq = ?1")?
            .query_row([seq], |row| Ok((read_id(row, 0)?, row.get::<_, i64>(1)?)))?;
        let id = id.unwrap_or(InvocationId::from_u128(0));
        let function = self.whose(lane);
        let finished = Finished {
            id,
            function,
            ended: Ending::Dead(Reason::Damaged),
            message: Some("what is stored of it is not what was written".to_owned()),
            ended_ms: self.now_ms,
            tries: 0,
            answer: None,
            last: None,
        };
        self.connection
            .prepare_cached("DELETE FROM items WHERE seq = ?1")?
            .execute([seq])?;
        self.release(id)?;
        let nothing = Kept {
            state: Vec::new(),
            head: Vec::new(),
            body: Vec::new(),
        };
        let finished = codec::encode_finished(&finished);
        self.bury(seq, id, lane, Reason::Damaged, &finished, &nothing)?;
        self.group.moved.push(Moved::Left(lane));
        self.group.lost += 1;
        Ok(())
    }

    /// What there is to tell of an end.
    fn finished(&self, found: &Found, ended: Ending) -> Finished {
        let leaving = self.leaving;
        let mut message = leaving.and_then(|leaving| leaving.message.clone());
        let mut answer = leaving.and_then(|leaving| leaving.answer.clone());
        if self.lean && answer.take().is_some() {
            let why = "its answer was not kept: the queue has no room";
            message = Some(message.map_or_else(|| why.to_owned(), |said| format!("{said}; {why}")));
        }
        let is_dead = matches!(ended, Ending::Dead(_));
        Finished {
            id: found.id,
            function: self.whose(found.lane),
            ended,
            message,
            ended_ms: self.now_ms,
            tries: found.state.item.progress.tries + u32::from(leaving.is_some()),
            answer,
            last: leaving
                .filter(|_| is_dead)
                .and_then(|leaving| leaving.ended),
        }
    }

    fn kept(&self, seq: Seq) -> rusqlite::Result<Kept> {
        self.connection
            .prepare_cached("SELECT state, head, body FROM items WHERE seq = ?1")?
            .query_row([seq], |row| {
                Ok(Kept {
                    state: blob(row, 0)?,
                    head: blob(row, 1)?,
                    body: blob(row, 2)?,
                })
            })
    }

    /// Whoever cancelled a submission may want it after all: its word means nothing any more.
    fn forget_word(&mut self, seq: Seq, id: InvocationId) -> rusqlite::Result<()> {
        // One that is damaged is remembered until its time is over.
        let Some(Ok((submission, _))) = crate::dead::load(self.connection, "items", "seq", seq)?
        else {
            return Ok(());
        };
        if let Some(word) = &submission.idempotency {
            let word = codec::word_number(&submission.function, word);
            self.connection
                .prepare_cached("DELETE FROM words WHERE word = ?1 AND id = ?2")?
                .execute(params![word, id_bytes(id)])?;
        }
        Ok(())
    }

    fn write_state(&mut self, found: &Found) -> Result<(), TableError> {
        let item = &found.state.item;
        let due = (!item.behind).then(|| sql_ms(item.due_ms));
        self.connection
            .prepare_cached("UPDATE items SET due = ?2, state = ?3 WHERE seq = ?1")?
            .execute(params![
                item.seq,
                due,
                codec::encode_state(found.id, &found.state)
            ])?;
        self.group.wrote = true;
        if !item.behind {
            self.group
                .moved
                .push(Moved::Due(found.lane, item.seq, item.due_ms));
        }
        Ok(())
    }
}

/// Stands for a function whose name cannot be read.
fn nameless() -> FunctionKey {
    FunctionKey {
        namespace: "".into(),
        group: "".into(),
        name: "".into(),
    }
}

/// What was accepted with this word, if that is still remembered.
pub(crate) fn remembered(
    connection: &Connection,
    word: [u8; 16],
    now_ms: u64,
) -> rusqlite::Result<Option<InvocationId>> {
    let id = connection
        .prepare_cached("SELECT id FROM words WHERE word = ?1 AND until > ?2")?
        .query_row(params![word, sql_ms(now_ms)], |row| read_id(row, 0))
        .optional()?;
    Ok(id.flatten())
}

impl Table for Rows<'_> {
    type New = Arc<Prepared>;
    type Id = InvocationId;
    type Error = TableError;

    fn remembered(&mut self, new: &Arc<Prepared>) -> Result<Option<InvocationId>, TableError> {
        let Some(word) = new.word else {
            return Ok(None);
        };
        Ok(remembered(self.connection, word, self.now_ms)?)
    }

    fn key(new: &Arc<Prepared>) -> Option<i64> {
        new.order
    }

    fn insert(&mut self, new: Arc<Prepared>, behind: bool) -> Result<Option<Seq>, TableError> {
        let lane = self.lane(&new.function)?;
        let seq = *self.last_seq + 1;
        let due_ms = if new.due_ms == 0 {
            self.now_ms
        } else {
            new.due_ms
        };
        let state = State {
            item: Item {
                seq,
                due_ms,
                behind,
                deadline_ms: new.policy.deadline_ms(due_ms),
                key: new.order,
                progress: Progress::default(),
                policy: new.policy,
            },
            accepted_ms: self.now_ms,
            keep_result_ms: new.keep_result_ms,
            spooled: new.spooled.is_some(),
        };
        let due = (!behind).then_some(due_ms);
        let inserted = self
            .connection
            .prepare_cached(
                "INSERT INTO items (seq, id, lane, due, okey, state, head, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                seq,
                id_bytes(new.id),
                lane,
                due.map(sql_ms),
                new.order,
                codec::encode_state(new.id, &state),
                new.head,
                new.body.as_ref(),
            ]);
        match inserted {
            Ok(_) => {}
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        *self.last_seq = seq;
        self.group.wrote = true;
        if let Some(word) = new.word {
            let until = sql_ms(self.now_ms.saturating_add(self.remember_ms));
            self.connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO words (word, id, until) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![word, id_bytes(new.id), until])?;
        }
        if let Some(spooled) = new.spooled {
            self.keep_blob(new.id, &spooled)?;
        }
        self.group.moved.push(Moved::Came(lane, seq, due));
        Ok(Some(seq))
    }

    fn item(&mut self, seq: Seq) -> Result<Option<Item>, TableError> {
        Ok(self.find(seq)?.map(|found| found.state.item))
    }

    fn first_of_key(&mut self, key: i64) -> Result<Option<Item>, TableError> {
        let seq = self
            .connection
            .prepare_cached(
                "SELECT seq FROM items INDEXED BY items_by_key WHERE okey = ?1 ORDER BY seq LIMIT 1",
            )?
            .query_row([key], |row| row.get(0))
            .optional()?;
        match seq {
            Some(seq) => self.item(seq),
            None => Ok(None),
        }
    }

    fn change(&mut self, item: &Item) -> Result<(), TableError> {
        let Some(mut found) = self.find(item.seq)? else {
            return Ok(());
        };
        found.state.item = item.clone();
        self.write_state(&found)
    }

    fn remove(&mut self, item: &Item, end: End) -> Result<(), TableError> {
        self.group.wrote = true;
        let found = match self.find(item.seq) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(TableError::Damaged(_)) => return self.remove_damaged(item.seq),
            Err(error) => return Err(error),
        };
        let leaving = self.leaving;
        let ended = match (end, leaving.and_then(|leaving| leaving.ended)) {
            (End::Cancelled, _) => Ending::Cancelled,
            (End::Dead(reason), _) => Ending::Dead(reason),
            (End::Done, Some(ended)) => Ending::Done(ended),
            (End::Done, None) => Ending::Done(tidegate_core::queue::Ended {
                outcome: tidegate_core::Outcome::Ok,
                status: None,
                retry_after_ms: None,
            }),
        };
        let keep_ms = found.state.keep_result_ms;
        let dead = match end {
            End::Dead(reason) => Some(reason),
            End::Done => None,
            End::Cancelled => {
                self.forget_word(item.seq, found.id)?;
                None
            }
        };
        // It goes out before what it leaves comes in: where there is no room for both, its own is used.
        let kept = match dead {
            Some(_) => Some(self.kept(item.seq)?),
            None => None,
        };
        self.connection
            .prepare_cached("DELETE FROM items WHERE seq = ?1")?
            .execute([item.seq])?;
        self.group.moved.push(Moved::Left(found.lane));
        if keep_ms > 0 || dead.is_some() {
            let finished = codec::encode_finished(&self.finished(&found, ended));
            if keep_ms > 0 {
                self.keep_result(keep_ms, &finished, found.id)?;
            }
            if let (Some(reason), Some(kept)) = (dead, kept) {
                self.group.lost += u64::from(reason == Reason::Damaged);
                self.bury(item.seq, found.id, found.lane, reason, &finished, &kept)?;
            }
        }
        if found.state.spooled && dead.is_none() {
            self.release(found.id)?;
        }
        Ok(())
    }
}
