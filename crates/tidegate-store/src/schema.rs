//! The tables, and how older data becomes today's.
//!
//! `PRAGMA user_version` counts the migrations that were applied; each runs in a transaction of its own together with
//! the new count, so a kill in between repeats or keeps a whole step. A released migration is never edited.

use rusqlite::{Connection, TransactionBehavior};

/// Marks the file as ours: "TIDE".
pub(crate) const APPLICATION_ID: u32 = 0x5449_4445;

/// Step `n` turns version `n` into version `n + 1`.
pub(crate) const MIGRATIONS: &[&str] = &[
    // Key columns are text and the document is JSON text, so that any SQLite shell can read them. `owners` finds the
    // dependents of an object that went. The checksum covers all other columns of `objects`, see `rows`.
    "CREATE TABLE objects (
        id INTEGER PRIMARY KEY,
        api_version TEXT NOT NULL,
        kind TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        uid TEXT NOT NULL,
        version INTEGER NOT NULL,
        document TEXT NOT NULL,
        checksum BLOB NOT NULL
     ) STRICT;
     CREATE UNIQUE INDEX objects_by_key ON objects (api_version, kind, namespace, name);
     CREATE UNIQUE INDEX objects_by_uid ON objects (uid);
     CREATE TABLE owners (
        owner_uid TEXT NOT NULL,
        object_id INTEGER NOT NULL,
        PRIMARY KEY (owner_uid, object_id)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX owners_by_object ON owners (object_id);
     CREATE TABLE counters (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL,
        checksum BLOB NOT NULL
     ) STRICT, WITHOUT ROWID;",
];

/// What the file is.
#[derive(Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nothing in it yet.
    Empty,
    /// Ours, at this version.
    Ours(u32),
    /// Another program's.
    Foreign(u32),
}

/// Looks without changing anything.
pub(crate) fn identify(connection: &Connection, application_id: u32) -> rusqlite::Result<Identity> {
    let pragma = |name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i32>(0))
            .map(i32::cast_unsigned)
    };
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (pragma("application_id")?, pragma("user_version")?) {
        (found, version) if found == application_id => Ok(Identity::Ours(version)),
        (0, 0) if tables == 0 => Ok(Identity::Empty),
        (other, _) => Ok(Identity::Foreign(other)),
    }
}

/// Applies the migrations from version `from` on.
pub(crate) fn migrate(
    connection: &mut Connection,
    application_id: u32,
    from: u32,
    migrations: &[&str],
) -> rusqlite::Result<()> {
    for (step, sql) in (0u32..).zip(migrations).skip(from as usize) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", application_id)?;
        transaction.pragma_update(None, "user_version", step + 1)?;
        transaction.commit()?;
        tracing::info!(version = step + 1, "migrated a database");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_file_gets_every_step_and_is_ours() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert_eq!(
            identify(&connection, APPLICATION_ID).unwrap(),
            Identity::Empty
        );
        migrate(&mut connection, APPLICATION_ID, 0, MIGRATIONS).unwrap();
        let known = u32::try_from(MIGRATIONS.len()).unwrap();
        assert_eq!(
            identify(&connection, APPLICATION_ID).unwrap(),
            Identity::Ours(known)
        );
    }

    #[test]
    fn a_later_step_keeps_data_and_a_failing_one_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, APPLICATION_ID, 0, &["CREATE TABLE a (x)"]).unwrap();
        connection.execute("INSERT INTO a VALUES (7)", []).unwrap();
        let steps = [
            "CREATE TABLE a (x)",
            "ALTER TABLE a ADD COLUMN y; UPDATE a SET y = x",
            "CREATE TABLE b (z); nonsense",
        ];
        assert!(migrate(&mut connection, APPLICATION_ID, 1, &steps).is_err());
        assert_eq!(
            identify(&connection, APPLICATION_ID).unwrap(),
            Identity::Ours(2)
        );
        let sum: i64 = connection
            .query_row("SELECT x + y FROM a", [], |row| row.get(0))
            .unwrap();
        assert_eq!(sum, 14);
        assert!(connection.prepare("SELECT * FROM b").is_err());
    }

    #[test]
    fn the_files_of_others_are_recognised() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert_eq!(
            identify(&connection, APPLICATION_ID).unwrap(),
            Identity::Foreign(0)
        );
        connection
            .pragma_update(None, "application_id", 99)
            .unwrap();
        assert_eq!(
            identify(&connection, APPLICATION_ID).unwrap(),
            Identity::Foreign(99)
        );
    }
}
