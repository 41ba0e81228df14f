//! Keeps the write-ahead log short without making anybody wait for it.
//!
//! SQLite by itself copies the log into the database inside the commit that made it long, and that commit then takes as long
//! as the copying and two syncs. Here another thread copies while commits go on. What came meanwhile is little, and the
//! writer copies that between two commits, after which SQLite begins the log anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use rusqlite::Connection;
use tidegate_store::sqlite::Database;

/// Written bytes after which the log is copied.
const COPIED_BYTES: usize = 16 * 1024 * 1024;
/// What a commit writes beside its rows: inner pages and pages of indexes.
const COMMIT_BYTES: usize = 16 * 1024;
/// What is kept of the log's file when it begins anew: a file that need not grow is synced faster.
pub(crate) const KEPT_BYTES: usize = 64 * 1024 * 1024;
/// Written bytes after which the writer copies by itself, whatever it costs: the disk's copying is too slow for what comes.
const BEHIND_BYTES: usize = 128 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Log {
    written: usize,
    /// Whether the other thread is copying.
    copying: bool,
    copied: Arc<AtomicBool>,
    wake: SyncSender<()>,
}

impl Log {
    pub(crate) fn new(database: &Database) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel::<()>(1);
        let copied = Arc::new(AtomicBool::new(false));
        let (database, done) = (database.clone(), Arc::clone(&copied));
        std::thread::Builder::new()
            .name("queue-log".to_owned())
            .spawn(move || {
                let mut connection = None;
                while woken.recv().is_ok() {
                    let result = match &connection {
                        Some(connection) => copy(connection),
                        None => database.reader().and_then(|fresh| {
                            fresh.pragma_update(None, "query_only", false)?;
                            let result = copy(&fresh);
                            connection = Some(fresh);
                            result
                        }),
                    };
                    if let Err(error) = result {
                        tracing::warn!(%error, "could not copy the queue's log into its file");
                    }
                    done.store(true, Ordering::Release);
                }
            })?;
        Ok(Self {
            written: 0,
            copying: false,
            copied,
            wake,
        })
    }

    /// A commit of about so many bytes was made.
    pub(crate) fn committed(&mut self, connection: &Connection, bytes: usize) {
        self.written += bytes + COMMIT_BYTES;
        if self.copying && self.copied.swap(false, Ordering::Acquire) {
            self.copying = false;
            self.finish(connection);
        } else if self.written > BEHIND_BYTES {
            self.finish(connection);
        } else if !self.copying && self.written > COPIED_BYTES {
            self.copying = self.wake.try_send(()).is_ok();
        }
    }

    fn finish(&mut self, connection: &Connection) {
        match copy(connection) {
            Ok(true) => self.written = 0,
            // A reader still needs what is in the log; the next time.
            Ok(false) => self.written = COPIED_BYTES,
            Err(error) => {
                self.written = 0;
                tracing::warn!(%error, "could not copy the queue's log into its file");
            }
        }
    }
}

/// Copies what no reader keeps from being copied; whether that was all.
fn copy(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let (busy, log, copied) = (
            row.get::<_, i64>(0)?,
            row.get::<_, i64>(1)?,
            row.get::<_, i64>(2)?,
        );
        Ok(busy == 0 && log == copied)
    })
}
