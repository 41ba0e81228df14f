//! Connections for reading, lent to blocking threads.
//!
//! In WAL mode a reader sees the last commit before it began and neither waits for the writer nor holds it up.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::Error;
use crate::database::Database;

/// Reads at the same time. Reading is memory-bound and short; more connections would only hold more page caches.
const READERS: usize = 4;
/// How long a read waits for a connection before it is refused: longer than any page takes to read.
const READER_WAIT: Duration = Duration::from_secs(10);

/// Connections for reading. Few, and shared by all who read.
#[derive(Debug)]
pub struct Readers {
    database: Database,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// None is open yet.
    pub fn new(database: Database) -> Self {
        Self {
            database,
            idle: Mutex::new(Vec::with_capacity(READERS)),
            permits: Arc::new(Semaphore::new(READERS)),
        }
    }

    /// Runs `read` on a connection of its own.
    ///
    /// # Errors
    /// What `read` says; [`Error::Busy`] if no connection comes free, [`Error::Closed`] after [`close`](Self::close).
    pub async fn run<T, E>(
        self: &Arc<Self>,
        read: impl FnOnce(&Database, &Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let permits = Arc::clone(&self.permits);
        let permit = match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => tokio::time::timeout(READER_WAIT, permits.acquire_owned())
                .await
                .map_err(|_| Error::Busy {
                    what: "a connection for reading",
                })?
                .map_err(|_| Error::Closed)?,
        };
        let readers = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = readers.idle.lock().pop();
            let connection = match idle {
                Some(connection) => connection,
                None => readers
                    .database
                    .reader()
                    .map_err(|error| readers.database.error(&error))?,
            };
            let result = read(&readers.database, &connection);
            // A connection inside a transaction that failed is not lent again.
            if connection.is_autocommit() {
                readers.idle.lock().push(connection);
            }
            result
        });
        match task.await {
            Ok(result) => result,
            Err(error) => Err(E::from(Error::Internal {
                detail: format!("reading the database: {error}"),
            })),
        }
    }

    /// Closes the connections that nobody uses.
    pub fn close(&self) {
        self.permits.close();
        self.idle.lock().clear();
    }
}
