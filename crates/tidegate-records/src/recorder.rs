//! The handle.

use std::path::Path;
use std::sync::Arc;

use tidegate_core::record::Record;
use tidegate_core::{FunctionKey, InvocationId};

use crate::follow::Follow;
use crate::shared::Shared;
use crate::today::Today;
use crate::{
    Account, Error, Line, LineQuery, OpenReport, Options, Page, Query, Stats, UsageQuery, UsageRow,
};

/// Keeps records, lines and usage in one folder. Cheap to clone; closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
}

impl Recorder {
    /// Opens the folder, makes it if needed, and starts the thread that writes. Blocks; how long does not depend on how
    /// much is kept.
    ///
    /// # Errors
    /// Another server has the folder, or the machine refuses. Damage is no error: it is reported.
    pub fn open(_folder: &Path, _options: Options) -> Result<(Self, OpenReport), Error> {
        Err(Error::Closed)
    }

    /// The account of a function, the same one for as long as anybody holds it.
    #[must_use]
    pub fn account(&self, function: &Arc<FunctionKey>) -> Arc<Account> {
        let account = Account::new(
            function.clone(),
            0,
            self.shared.clone(),
            Arc::<Today>::default(),
        );
        Arc::new(account)
    }

    /// Records that match, those that ended last first.
    ///
    /// # Errors
    /// The machine refuses to read.
    pub async fn query(&self, _query: Query) -> Result<Page<Record>, Error> {
        std::future::ready(Err(Error::Closed)).await
    }

    /// The record of an invocation, if there is one.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn get(&self, _id: InvocationId) -> Result<Option<Record>, Error> {
        std::future::ready(Err(Error::Closed)).await
    }

    /// The records of the invocations that this one asked for, at most `limit`, in the order in which they ended.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn children(&self, _id: InvocationId, _limit: usize) -> Result<Vec<Record>, Error> {
        std::future::ready(Err(Error::Closed)).await
    }

    /// Reads the records that match from now on, as they come.
    #[must_use]
    pub fn follow(&self, query: Query) -> Follow {
        Follow { _query: query }
    }

    /// What an invocation printed, oldest first, as far as it is kept.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn lines(&self, _id: InvocationId) -> Result<Vec<Line>, Error> {
        std::future::ready(Err(Error::Closed)).await
    }

    /// What functions printed, newest first.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn lines_of(&self, _query: LineQuery) -> Result<Page<Line>, Error> {
        std::future::ready(Err(Error::Closed)).await
    }

    /// What functions used, by function and time.
    ///
    /// # Errors
    /// As [`query`](Self::query); or more rows match than one answer holds.
    pub async fn usage(&self, _query: UsageQuery) -> Result<Vec<UsageRow>, Error> {
        std::future::ready(Err(Error::Closed)).await
    }

    /// What a namespace has been billed since midnight UTC, in millionths of a GB-second (2³⁰ bytes).
    #[must_use]
    pub fn namespace_today(&self, _namespace: &str, _now_us: u64) -> u64 {
        0
    }

    /// How many records of successful calls were given up since it was opened.
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.shared
            .records
            .shed
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    /// How it goes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Everything that ended before this is on disk when it returns, and outlives the machine's crash.
    ///
    /// # Errors
    /// The disk does not take it.
    pub async fn flush(&self) -> Result<(), Error> {
        std::future::ready(Err(Error::Closed)).await
    }

    /// Writes what is pending, and ends. Other clones answer [`Error::Closed`] from now on.
    ///
    /// # Errors
    /// The disk does not take what is pending; it is lost.
    pub async fn close(&self) -> Result<(), Error> {
        std::future::ready(Err(Error::Closed)).await
    }
}
