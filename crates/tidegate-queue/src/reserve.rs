//! Room that is kept free, so that a full disk does not keep what is done from being taken out.
//!
//! A file of a few MiB beside the database is given up when a write that makes room finds none. While it is missing nothing
//! new is accepted; when it can be made again, there is room again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rusqlite::Connection;
use tidegate_store::sqlite::Database;

use crate::queue::Shared;

/// What some thousand settled items need in the log until it is copied.
const RESERVE_BYTES: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    there: bool,
}

impl Reserve {
    pub(crate) fn new(path: PathBuf) -> Self {
        let there = fs::metadata(&path).is_ok_and(|found| found.len() == RESERVE_BYTES as u64);
        let mut reserve = Self { path, there };
        reserve.make();
        reserve
    }

    pub(crate) fn is_there(&self) -> bool {
        self.there
    }

    /// Frees the room; false if that was done before. What is in the log is copied at once, so that the log begins anew.
    pub(crate) fn give_up(&mut self, database: &Database, connection: &Connection) -> bool {
        if !std::mem::take(&mut self.there) {
            return false;
        }
        tracing::warn!(path = %self.path.display(), "the disk is full: nothing new is accepted until there is room");
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "could not free the queue's reserve");
        }
        if let Err(error) = database.empty_log(connection) {
            tracing::warn!(%error, "could not copy the queue's log into its file");
        }
        true
    }

    /// Makes the reserve again, if there is room, and says so.
    pub(crate) fn tend(&mut self, shared: &Shared) {
        if !self.there {
            self.make();
        }
        shared.full.store(!self.there, Ordering::Relaxed);
    }

    fn make(&mut self) {
        if self.there {
            return;
        }
        match write(&self.path) {
            Ok(()) => self.there = true,
            Err(error) => {
                tracing::debug!(%error, "no room for the queue's reserve");
                drop(fs::remove_file(&self.path));
            }
        }
    }
}

/// Zeros, since a file with a hole in it holds no room.
fn write(path: &Path) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    let zeros = vec![0; 1024 * 1024];
    for _ in 0..RESERVE_BYTES / zeros.len() {
        file.write_all(&zeros)?;
    }
    file.sync_all()
}
