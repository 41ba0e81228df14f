//! Moves what can be read of a damaged file to a new one.
//!
//! Rows are asked for one at a time by number, so that a damaged page costs the rows on it and no others; the indexes, which
//! may be what is damaged, are not used. The old file is kept for whoever wants to look at it.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, Row, Statement, params, params_from_iter,
};
use tidegate_store::sqlite::{Database, Layout};

use crate::dead;
use crate::error::OpenError;
use crate::submission::Body;
use crate::sums::Sums;
use crate::table::{id_bytes, read_id, sql_ms};

/// Numbers that are tried one at a time behind a damaged place before the steps grow.
const STEPS: i64 = 4096;

/// The tables whose rows have numbers, with their first column.
const NUMBERED: [(&str, &str); 4] = [
    ("lanes", "lane"),
    ("items", "seq"),
    ("dead", "number"),
    ("results", "number"),
];

/// Gives a connection to a new file under the old name, and the name under which the old one is kept.
pub(crate) fn salvage(
    database: &Database,
    damaged: Connection,
    layout: &Layout,
) -> Result<(Connection, PathBuf), OpenError> {
    let path = database.path();
    drop(damaged);
    let stamp = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let aside = path.with_file_name(format!("damaged-{stamp}.db"));
    fs::rename(path, &aside).map_err(|source| OpenError::Io {
        path: path.to_owned(),
        source,
    })?;
    remove(path, &["-wal", "-shm"]);
    match fill(database, &aside, layout) {
        Ok(connection) => Ok((connection, aside)),
        Err(error) => {
            // What there is of a new one must not be taken for the whole at the next start.
            remove(path, &["", "-wal", "-shm"]);
            if let Err(error) = fs::rename(&aside, path) {
                tracing::error!(%error, path = %aside.display(), "the damaged file of the queue could not be put back");
            }
            Err(error)
        }
    }
}

fn remove(file: &Path, suffixes: &[&str]) {
    for suffix in suffixes {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        drop(fs::remove_file(name));
    }
}

/// A new file of what can be read of the one that was put aside.
fn fill(database: &Database, aside: &Path, layout: &Layout) -> Result<Connection, OpenError> {
    let (connection, _) = database.prepare(layout)?;
    let sql = |error: rusqlite::Error| OpenError::from(database.error(&error));
    // A connection of its own: to one that writes as well, a damaged page that was read can fail the commit.
    let old = Connection::open(aside).map_err(sql)?;
    for (table, column) in NUMBERED {
        copy(&old, &connection, table, column).map_err(sql)?;
    }
    for table in ["words", "blobs", "counters"] {
        // What cannot be read of these is done without: a word forgotten, a count begun anew ahead of the mark.
        copy_readable(&old, &connection, table).map_err(sql)?;
    }
    drop(old);
    Sums::forget(&connection).map_err(sql)?;
    for (table, column) in [("items", "seq"), ("dead", "number")] {
        claim_bodies(&connection, table, column).map_err(sql)?;
    }
    Ok(connection)
}

/// Notes the bodies beside the file that rows name, in case that the table of them could not be read: what nothing names is
/// removed.
fn claim_bodies(connection: &Connection, table: &str, column: &str) -> rusqlite::Result<()> {
    let mut next = connection.prepare(&format!(
        "SELECT {column}, id FROM {table} WHERE {column} > ?1 AND length(body) = 0
         AND id NOT IN (SELECT id FROM blobs) ORDER BY {column} LIMIT 1"
    ))?;
    let mut at = i64::MIN;
    while let Some((number, id)) = next
        .query_row([at], |row| Ok((row.get::<_, i64>(0)?, read_id(row, 1)?)))
        .optional()?
    {
        at = number;
        if let Some(id) = id
            && let Some(Ok((submission, _))) = dead::load(connection, table, column, number)?
            && let Body::Spooled(spooled) = submission.request.body
        {
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO blobs (id, digest, bytes) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![
                    id_bytes(id),
                    spooled.digest.as_bytes(),
                    sql_ms(spooled.bytes)
                ])?;
        }
    }
    Ok(())
}

fn copy(old: &Connection, new: &Connection, table: &str, column: &str) -> rusqlite::Result<()> {
    let first = old.query_row(
        &format!("SELECT {column} FROM {table} NOT INDEXED ORDER BY {column} LIMIT 1"),
        [],
        |row| row.get::<_, i64>(0),
    );
    // If even the edge cannot be read, every number that was ever given is one that may be there.
    let from = match first {
        Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(()),
        Ok(first) => first,
        Err(_) => 1,
    };
    let mut read = old.prepare(&format!(
        "SELECT * FROM {table} NOT INDEXED WHERE {column} = ?1"
    ))?;
    let mut next = old.prepare(&format!(
        "SELECT {column} FROM {table} NOT INDEXED WHERE {column} >= ?1 ORDER BY {column} LIMIT 1"
    ))?;
    let mut insert = Insert::new(new, table, read.column_count())?;
    new.execute_batch("BEGIN")?;
    let (mut at, mut failed) = (from, 0_i64);
    loop {
        match next.query_row([at], |row| row.get::<_, i64>(0)) {
            Ok(number) => {
                match read.query_row([number], values) {
                    Ok(row) => insert.row(row)?,
                    Err(error) if is_damage(&error) => {}
                    Err(error) => return Err(error),
                }
                failed = 0;
                at = number.saturating_add(1);
            }
            Err(rusqlite::Error::QueryReturnedNoRows) => break,
            Err(error) if is_damage(&error) => {
                failed += 1;
                // A page holds few rows; behind more failures than that the way to what follows is damaged, and steps
                // grow so that it ends.
                at = at.saturating_add(1 + (failed / STEPS) * failed);
                if at == i64::MAX {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    new.execute_batch("COMMIT")
}

/// Copies rows up to the first that cannot be read.
fn copy_readable(old: &Connection, new: &Connection, table: &str) -> rusqlite::Result<()> {
    let mut read = old.prepare(&format!("SELECT * FROM {table}"))?;
    let mut insert = Insert::new(new, table, read.column_count())?;
    new.execute_batch("BEGIN")?;
    let mut rows = read.query([])?;
    while let Ok(Some(row)) = rows.next() {
        if let Ok(row) = values(row) {
            insert.row(row)?;
        }
    }
    new.execute_batch("COMMIT")
}

/// Puts rows into the new file.
struct Insert<'a>(Statement<'a>);

impl<'a> Insert<'a> {
    fn new(new: &'a Connection, table: &str, columns: usize) -> rusqlite::Result<Self> {
        let places = vec!["?"; columns].join(", ");
        let sql = format!("INSERT OR IGNORE INTO {table} VALUES ({places})");
        new.prepare(&sql).map(Self)
    }

    /// One that is so damaged that it fits no row is left out.
    fn row(&mut self, row: Vec<Value>) -> rusqlite::Result<()> {
        match self.0.execute(params_from_iter(row)) {
            Err(error) if !is_damage(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

fn values(row: &Row<'_>) -> rusqlite::Result<Vec<Value>> {
    (0..row.as_ref().column_count())
        .map(|column| row.get(column))
        .collect()
}

/// Whether it is the row's fault: SQLite cannot read it, or it holds what no row of ours does.
fn is_damage(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code().is_none_or(|code| {
        matches!(
            code,
            ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{APPLICATION_ID, MIGRATIONS, PAGE_BYTES};

    #[test]
    fn a_new_file_that_cannot_be_made_leaves_the_old_one_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        fs::write(&path, "what is left of it").unwrap();
        // Nothing can have a log there.
        fs::create_dir(folder.path().join("queue.db-wal")).unwrap();
        let damaged = Connection::open_in_memory().unwrap();
        let layout = Layout {
            application_id: APPLICATION_ID,
            migrations: MIGRATIONS,
            page_bytes: Some(PAGE_BYTES),
            max_bytes: 1 << 20,
        };
        let made = salvage(&Database::new(path.clone()), damaged, &layout);
        assert!(made.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"what is left of it");
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 2);
    }
}
