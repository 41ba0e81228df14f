//! Dead letters: what was given up, kept until somebody sends it again or throws it away.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tidegate_core::InvocationId;
use tidegate_core::queue::Reason;

use crate::codec::{self, State};
use crate::listing::Filter;
use crate::submission::{Body, Finished, Submission};
use crate::table::{Prepared, TableError, read_id};

/// Something that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its place among the dead letters.
    pub number: i64,
    /// Which one, how it ended, and what it answered last.
    pub finished: Finished,
    /// Why it was given up.
    pub reason: Reason,
    /// When it was accepted, in milliseconds since the Unix epoch; 0 if that cannot be read.
    pub accepted_ms: u64,
    /// How often it failed.
    pub failures: u32,
    /// The length of its body in bytes, where it is not a blob.
    pub body_bytes: u64,
}

/// Which dead letters. All conditions have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Of which namespace or function.
    pub of: Filter,
    /// Given up for this reason.
    pub reason: Option<Reason>,
    /// Given up at or after this time, in milliseconds since the Unix epoch.
    pub since_ms: Option<u64>,
    /// Given up before this time.
    pub until_ms: Option<u64>,
}

pub(crate) const COLUMNS: &str =
    "number, seq, id, reason, finished, state, length(body), died, lane";

pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Option<DeadLetter>> {
    let Some(id) = read_id(row, 2)? else {
        return Ok(None);
    };
    let finished = row.get_ref(4)?.as_blob().unwrap_or_default();
    let state = row.get_ref(5)?.as_blob().unwrap_or_default();
    let state = codec::decode_state(id, row.get(1)?, state);
    let number = row.get(0)?;
    let reason = codec::reason(row.get::<_, u8>(3).unwrap_or(u8::MAX));
    Ok(
        codec::decode_finished(id, finished).map(|finished| DeadLetter {
            number,
            finished,
            reason: reason.unwrap_or(Reason::Damaged),
            accepted_ms: state.as_ref().map_or(0, |state| state.accepted_ms),
            failures: state.map_or(0, |state| state.item.progress.failures),
            body_bytes: row.get::<_, i64>(6).unwrap_or(0).cast_unsigned(),
        }),
    )
}

/// A dead letter by its number.
pub(crate) fn one(connection: &Connection, number: i64) -> rusqlite::Result<Option<DeadLetter>> {
    let sql = format!("SELECT {COLUMNS} FROM dead WHERE number = ?1");
    let letter = connection
        .prepare_cached(&sql)?
        .query_row([number], read)
        .optional()?;
    Ok(letter.flatten())
}

impl DeadFilter {
    pub(crate) fn fits(&self, letter: &DeadLetter) -> bool {
        self.of.fits(&letter.finished.function)
            && self.reason.is_none_or(|reason| reason == letter.reason)
            && self
                .since_ms
                .is_none_or(|since| letter.finished.ended_ms >= since)
            && self
                .until_ms
                .is_none_or(|until| letter.finished.ended_ms < until)
    }
}

type Parts = (InvocationId, State, Vec<u8>, Bytes);

/// The parts of a row of `table` that is as it was written.
fn parts(
    connection: &Connection,
    table: &str,
    column: &str,
    number: i64,
) -> rusqlite::Result<Option<Option<Parts>>> {
    connection
        .prepare_cached(&format!(
            "SELECT seq, id, state, head, body FROM {table} WHERE {column} = ?1"
        ))?
        .query_row([number], |row| {
            let Some(id) = read_id(row, 1)? else {
                return Ok(None);
            };
            let blob = |column| {
                row.get_ref(column)
                    .map(|value| value.as_blob().unwrap_or_default())
            };
            let state = codec::decode_state(id, row.get(0)?, blob(2)?);
            let (head, body) = (blob(3)?.to_vec(), Bytes::copy_from_slice(blob(4)?));
            Ok(state.map(|state| (id, state, head, body)))
        })
        .optional()
}

/// What was submitted in this row of `items`, with its state, or what of it does not fit. Nothing if there is no such row.
pub(crate) fn load(
    connection: &Connection,
    table: &str,
    column: &str,
    number: i64,
) -> rusqlite::Result<Option<Result<(Submission, State), &'static str>>> {
    let Some(found) = parts(connection, table, column, number)? else {
        return Ok(None);
    };
    let Some((id, state, head, body)) = found else {
        return Ok(Some(Err("the sum of its state does not fit")));
    };
    let submission = codec::decode_head(id, state.item.policy, &head, body);
    Ok(Some(submission.map(|submission| (submission, state))))
}

/// A dead letter as a submission, if it is whole.
pub(crate) fn revive(connection: &Connection, number: i64) -> Result<Option<Prepared>, TableError> {
    let Some(Some((id, state, head, body))) = parts(connection, "dead", "number", number)? else {
        return Ok(None);
    };
    let Ok(submission) = codec::decode_head(id, state.item.policy, &head, body.clone()) else {
        return Ok(None);
    };
    let spooled = match submission.request.body {
        Body::Spooled(spooled) => Some(spooled),
        Body::Inline(_) => None,
    };
    Ok(Some(Prepared {
        id,
        function: crate::lanes::lane_of(&submission.function, &submission.target),
        head,
        body,
        spooled,
        order: state.item.key,
        word: None,
        due_ms: 0,
        policy: state.item.policy,
        keep_result_ms: state.keep_result_ms,
    }))
}

/// Numbers and ids of dead letters that have this id.
pub(crate) fn numbers(connection: &Connection, id: InvocationId) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT number FROM dead WHERE id = ?1")?
        .query_map(params![crate::table::id_bytes(id)], |row| row.get(0))?
        .collect()
}
