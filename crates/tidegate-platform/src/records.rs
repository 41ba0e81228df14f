//! What is kept of invocations, for dialects to tell of.

use std::path::PathBuf;
use std::sync::Arc;

use tidegate_core::record::{Level, Record};
use tidegate_core::{FunctionKey, InvocationId};
use tidegate_records::{
    Cost, Follow, Line, OpenReport, Options, Page, Prices, Query, Recorder, Stats, Totals,
    UsageQuery, UsageRow, billed_us,
};

use crate::{Error, Platform};

/// How invocations are recorded and billed.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// Where.
    pub folder: PathBuf,
    /// For how long, how much, and what is billed.
    pub keep: Options,
    /// Which invocations leave a record where their function does not say.
    pub level: Level,
    /// What usage costs.
    pub prices: Prices,
    /// Whether answers say what they cost.
    pub bill: bool,
}

impl Platform {
    /// Records that match, those that ended last first.
    ///
    /// # Errors
    /// What keeps them from being read.
    pub async fn records(&self, query: Query) -> Result<Page<Record>, Error> {
        Ok(self.ledger().recorder.query(query).await?)
    }

    /// The record of an invocation, if there is one.
    ///
    /// # Errors
    /// As [`Platform::records`].
    pub async fn record(&self, id: InvocationId) -> Result<Option<Record>, Error> {
        Ok(self.ledger().recorder.get(id).await?)
    }

    /// The records of the invocations that this one asked for, at most so many, in the order in which they ended.
    ///
    /// # Errors
    /// As [`Platform::records`].
    pub async fn children(&self, id: InvocationId, limit: usize) -> Result<Vec<Record>, Error> {
        Ok(self.ledger().recorder.children(id, limit).await?)
    }

    /// What an invocation of this function printed, oldest first, as far as it is kept. Where nobody knows whose it was, what
    /// any function printed under its id.
    ///
    /// # Errors
    /// As [`Platform::records`].
    pub async fn record_lines(
        &self,
        id: InvocationId,
        function: Option<FunctionKey>,
    ) -> Result<Vec<Line>, Error> {
        Ok(self.ledger().recorder.lines(id, function).await?)
    }

    /// Counts a call that was accepted to be made later.
    pub(crate) fn count_queued(&self, function: &FunctionKey) {
        let account = self.ledger().recorder.account(&Arc::new(function.clone()));
        account.queued(crate::ledger::now_us());
    }

    /// Records that match from now on, as they come.
    #[must_use]
    pub fn follow_records(&self, query: &Query) -> Follow {
        self.ledger().recorder.follow(query)
    }

    /// What functions used, by function and time.
    ///
    /// # Errors
    /// As [`Platform::records`]; or more match than one answer holds.
    pub async fn used(&self, query: UsageQuery) -> Result<Vec<UsageRow>, Error> {
        Ok(self.ledger().recorder.usage(query).await?)
    }

    /// What usage costs.
    #[must_use]
    pub fn prices(&self) -> &Prices {
        &self.record_options().prices
    }

    /// What such usage costs.
    #[must_use]
    pub fn cost_of(&self, totals: &Totals) -> Cost {
        self.prices().of(totals)
    }

    /// What one invocation costs; nothing where nothing has a price. Processor time counts where it is known to be this
    /// one's.
    #[must_use]
    pub fn cost_of_record(&self, record: &Record) -> Option<Cost> {
        let prices = self.prices();
        let free = Prices {
            currency: prices.currency.clone(),
            ..Prices::default()
        };
        let mut totals = Totals::default();
        totals.add_record(record, self.granularity_us(), true);
        (*prices != free).then(|| prices.of(&totals))
    }

    /// The time that one invocation is billed for, in microseconds.
    #[must_use]
    pub fn billed_us(&self, record: &Record) -> u64 {
        billed_us(record, self.granularity_us())
    }

    fn granularity_us(&self) -> u64 {
        self.record_options().keep.granularity.as_micros() as u64
    }

    /// How recording goes.
    #[must_use]
    pub fn recording(&self) -> Stats {
        self.ledger().recorder.stats()
    }

    /// Everything that ended before this outlives the machine's crash when it returns.
    ///
    /// # Errors
    /// The disk does not take it.
    pub async fn flush_records(&self) -> Result<(), Error> {
        Ok(self.ledger().recorder.flush().await?)
    }
}

/// Opens the folder; says what was found in it.
pub(crate) async fn open(options: &RecordOptions) -> Result<Recorder, Error> {
    let (folder, keep) = (options.folder.clone(), options.keep.clone());
    let opened = tokio::task::spawn_blocking(move || Recorder::open(&folder, keep)).await;
    let (recorder, report) =
        opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    tell(&report);
    Ok(recorder)
}

fn tell(report: &OpenReport) {
    for damage in &report.damage {
        tracing::error!(file = %damage.path.display(), offset = damage.offset, bytes = damage.bytes, "records are damaged: those there are lost, the others are kept");
    }
    if report.unfinished_bytes > 0 {
        tracing::info!(
            bytes = report.unfinished_bytes,
            "the end of the records was not whole, as a crash leaves it; it was cut off"
        );
    }
    if report.usage_rebuilt {
        tracing::error!(
            "the sums of usage could not be read: they were counted anew from the records that are kept"
        );
    }
}
