//! Sizes that have bounds: counted as they change, so that nothing is ever looked through to know them.
//!
//! Those of the dead letters stand in the file too, for there may be more of them than a start has time to read.

use rusqlite::{Connection, OptionalExtension as _, params};
use tidegate_core::InvocationId;

use crate::dead;
use crate::table::{id_bytes, read_id, sql_ms};

/// What is counted, or what is to be added to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) dead_count: i64,
    /// With their spooled bodies.
    pub(crate) dead_bytes: i64,
    pub(crate) result_bytes: i64,
    /// Of all spooled bodies.
    pub(crate) blob_bytes: i64,
}

/// The names under which they stand in the file, and the last number of a dead letter.
const DEAD_COUNT: &str = "dead-count";
const DEAD_BYTES: &str = "dead-bytes";
const DEAD_NUMBER: &str = "dead-number";

impl Sums {
    pub(crate) fn add(&mut self, other: Self) {
        // A size that was read from a damaged row may be another than the one that was added for it.
        let sum = |one: i64, other: i64| (one + other).max(0);
        self.dead_count = sum(self.dead_count, other.dead_count);
        self.dead_bytes = match self.dead_count {
            0 => 0,
            _ => sum(self.dead_bytes, other.dead_bytes),
        };
        self.result_bytes = sum(self.result_bytes, other.result_bytes);
        self.blob_bytes = sum(self.blob_bytes, other.blob_bytes);
    }

    pub(crate) fn plus(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    /// Writes those that stand in the file.
    pub(crate) fn write(&self, connection: &Connection, last_dead: i64) -> rusqlite::Result<()> {
        for (name, value) in [
            (DEAD_COUNT, self.dead_count),
            (DEAD_BYTES, self.dead_bytes),
            (DEAD_NUMBER, last_dead),
        ] {
            connection
                .prepare_cached("INSERT OR REPLACE INTO counters (name, value) VALUES (?1, ?2)")?
                .execute(params![name, value])?;
        }
        Ok(())
    }

    /// What the file has, and the last number of a dead letter. Whatever an older release, or a salvage, left out of it is
    /// counted now.
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<(Self, i64)> {
        size_blobs(connection)?;
        let sum = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let last = sum("SELECT coalesce(max(number), 0) FROM dead")?;
        let (count, bytes) = match (
            noted(connection, DEAD_COUNT)?,
            noted(connection, DEAD_BYTES)?,
        ) {
            (Some(count), Some(bytes)) => (count, bytes),
            _ => (
                sum("SELECT count(*) FROM dead")?,
                sum(
                    "SELECT coalesce(sum(length(finished) + length(head) + length(body)
                     + coalesce((SELECT bytes FROM blobs WHERE blobs.id = dead.id), 0)), 0) FROM dead",
                )?,
            ),
        };
        let sums = Self {
            dead_count: count,
            dead_bytes: bytes,
            result_bytes: sum("SELECT coalesce(sum(length(finished)), 0) FROM results")?,
            blob_bytes: sum("SELECT coalesce(sum(bytes), 0) FROM blobs")?,
        };
        let last = noted(connection, DEAD_NUMBER)?.unwrap_or(0).max(last);
        Ok((sums, last))
    }

    /// Has the dead letters counted at the next load.
    pub(crate) fn forget(connection: &Connection) -> rusqlite::Result<()> {
        connection
            .execute(
                "DELETE FROM counters WHERE name IN (?1, ?2)",
                [DEAD_COUNT, DEAD_BYTES],
            )
            .map(drop)
    }
}

fn noted(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT value FROM counters WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Fills in the sizes that an older release did not write. They are at most as many as there are files of bodies.
fn size_blobs(connection: &Connection) -> rusqlite::Result<()> {
    let ids: Vec<InvocationId> = connection
        .prepare("SELECT id FROM blobs WHERE bytes = 0")?
        .query_map([], |row| read_id(row, 0))?
        .filter_map(Result::transpose)
        .collect::<rusqlite::Result<_>>()?;
    for id in ids {
        if let Some(bytes) = body_bytes(connection, id)? {
            connection.execute(
                "UPDATE blobs SET bytes = ?2 WHERE id = ?1",
                params![id_bytes(id), sql_ms(bytes)],
            )?;
        }
    }
    Ok(())
}

/// What an item or dead letter says of the size of its body.
fn body_bytes(connection: &Connection, id: InvocationId) -> rusqlite::Result<Option<u64>> {
    for (table, column) in [("items", "seq"), ("dead", "number")] {
        let number = connection
            .prepare_cached(&format!("SELECT {column} FROM {table} WHERE id = ?1"))?
            .query_row([id_bytes(id)], |row| row.get(0))
            .optional()?;
        if let Some(number) = number
            && let Some(Ok((submission, _))) = dead::load(connection, table, column, number)?
        {
            return Ok(Some(submission.request.body_bytes()));
        }
    }
    Ok(None)
}
