//! A database file: its connections and what each of them is set to.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::schema::{self, Identity};
use crate::{Error, OpenError};

/// How long a connection waits for a lock of SQLite's. Only an operator's shell or a backup can hold one for long,
/// since the folder has one server and the server one writer.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// The log is cut back to this size in bytes when it is restarted: several times what a checkpoint leaves behind.
const LOG_KEPT_BYTES: i64 = 16 * 1024 * 1024;

/// Pages that a reading connection keeps, in KiB: the inner pages of the tables. The rest is in the kernel's cache as well,
/// and SQLite's own default would hold two MiB a connection for good.
const READER_CACHE_KIB: i32 = 256;
/// Prepared statements kept a connection: more than there are.
const STATEMENTS: usize = 32;

/// What a database file is meant to be.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Marks the file as ours.
    pub application_id: u32,
    /// Step `n` turns version `n` into version `n + 1`. A released step is never edited.
    pub migrations: &'static [&'static str],
    /// The size of a page in a new file, in bytes; SQLite's own choice if absent.
    pub page_bytes: Option<u32>,
    /// The size that the file may reach, in bytes.
    pub max_bytes: u64,
}

/// A name of the database file from which connections are made.
#[derive(Clone, Debug)]
pub struct Database {
    pub(crate) path: PathBuf,
}

impl Database {
    /// The file of this name, which need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Opens the file for writing, makes or migrates the tables. Gives the version it had if it was migrated.
    ///
    /// Data that is not ours or of a newer release is left as it is, its log included. Call [`examine`](crate::sqlite::examine) first.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn prepare(&self, layout: &Layout) -> Result<(Connection, Identity), OpenError> {
        // The file is made here, for SQLite would make it readable to all; its log gets the same mode.
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(|source| OpenError::NotWritable {
                path: self.path.clone(),
                source,
            })?;
        let sql = |error: rusqlite::Error| Error::sqlite(&self.path, &error);
        let mut connection = self.connect().map_err(sql)?;
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .map_err(sql)?;
        let identity = schema::identify(&connection, layout.application_id).map_err(sql)?;
        let known = u32::try_from(layout.migrations.len()).unwrap_or(u32::MAX);
        let from = match identity {
            Identity::Empty => 0,
            Identity::Ours(version) if version <= known => version,
            Identity::Ours(found) => {
                return Err(OpenError::NewerData {
                    path: self.path.clone(),
                    found,
                    known,
                });
            }
            Identity::Foreign(found) => {
                return Err(OpenError::NotOurs {
                    path: self.path.clone(),
                    found,
                });
            }
        };
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
            .map_err(sql)?;
        if let (Identity::Empty, Some(bytes)) = (&identity, layout.page_bytes) {
            connection
                .pragma_update(None, "page_size", bytes)
                .map_err(sql)?;
        }
        // FULL: a commit is synced before it is answered. NORMAL would lose acknowledged commits in a power cut.
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = {LOG_KEPT_BYTES};"
            ))
            .map_err(sql)?;
        schema::migrate(
            &mut connection,
            layout.application_id,
            from,
            layout.migrations,
        )
        .map_err(sql)?;
        // Each start begins with an empty log: see `wal` for what that makes distinguishable.
        self.empty_log(&connection)?;
        let page: i64 = connection
            .pragma_query_value(None, "page_size", |row| row.get(0))
            .map_err(sql)?;
        connection
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .and_then(|used: i64| {
                let pages =
                    (i64::try_from(layout.max_bytes).unwrap_or(i64::MAX) / page.max(1)).max(used);
                connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            })
            .map_err(sql)?;
        Ok((connection, identity))
    }

    /// A connection that only reads.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn reader(&self) -> rusqlite::Result<Connection> {
        let connection = self.connect()?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    /// Copies the log into the database and truncates it.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn empty_log(&self, connection: &Connection) -> Result<(), Error> {
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|error| Error::sqlite(&self.path, &error))
    }

    /// An error of SQLite's about this file, in the words of this crate.
    pub fn error(&self, error: &rusqlite::Error) -> Error {
        Error::sqlite(&self.path, error)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        // No URI names (a path may hold any character), no mutex (each connection has one owner at a time).
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(LOCK_WAIT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    }
}
