//! Who keeps account of calls: what the engine tells it, and what it asks.
//!
//! The engine knows what a call took and how it ended; what becomes of that, whether it is kept, billed or only counted,
//! is the [`Ledger`]'s. A function's [`Account`] is made when the function is first put to work, called or writes
//! something, so functions that do nothing cost nothing.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidegate_core::FunctionKey;
use tidegate_core::record::Record;

use crate::{Failure, LogLine};

/// Has an account for every function.
pub trait Ledger: Send + Sync {
    /// The account of this function: the same one for as long as anybody has it.
    fn account(&self, function: &Arc<FunctionKey>) -> Arc<dyn Account>;
}

/// What is known and kept of one function's invocations. Called on serving threads: nothing here may wait.
pub trait Account: Send + Sync {
    /// Whether a call may go on; asked before a slot is sought. Where it may, [`Account::ended`] follows exactly once.
    ///
    /// # Errors
    /// It may not, and when it might.
    fn admit(&self) -> Result<(), Failure>;

    /// A call ended, one that was not admitted included. Called before its caller can know that it did.
    fn ended(&self, ended: Ended);

    /// An instance wrote something, or something was written about one.
    fn line(&self, line: &LogLine);

    /// What instances took beside what is told with calls.
    fn spent(&self, spent: Spent);
}

/// A call that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What may be kept of it.
    pub record: Record,
    /// Whether it was admitted.
    pub admitted: bool,
    /// Processor time that was found used at its end, in microseconds, by whichever calls: every microsecond of an
    /// instance is told of once, here or in [`Spent`].
    pub cpu_us: u64,
}

/// What instances took that belongs to no call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Time that instances were there without a call.
    pub idle: Duration,
    /// Processor time in microseconds: of their starts, and of what came after the last call.
    pub cpu_us: u64,
    /// The memory that each of them may use, in bytes.
    pub memory_limit: u64,
}

/// A ledger of nothing: everything is admitted and nothing is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLedger;

/// The account of a function, made when it is first needed; shared by all that has to do with the function.
pub(crate) struct Books {
    key: Arc<FunctionKey>,
    ledger: Arc<dyn Ledger>,
    account: OnceLock<Arc<dyn Account>>,
}

// === impl NoLedger ===

impl Ledger for NoLedger {
    fn account(&self, _: &Arc<FunctionKey>) -> Arc<dyn Account> {
        Arc::new(Self)
    }
}

impl Account for NoLedger {
    fn admit(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn ended(&self, _: Ended) {}

    fn line(&self, _: &LogLine) {}

    fn spent(&self, _: Spent) {}
}

// === impl Books ===

impl Books {
    pub(crate) fn new(key: Arc<FunctionKey>, ledger: Arc<dyn Ledger>) -> Self {
        Self {
            key,
            ledger,
            account: OnceLock::new(),
        }
    }

    pub(crate) const fn key(&self) -> &Arc<FunctionKey> {
        &self.key
    }

    /// The revision of a call that had none.
    pub(crate) fn no_revision(&self) -> Arc<str> {
        Arc::default()
    }

    pub(crate) fn account(&self) -> &dyn Account {
        &**self.account.get_or_init(|| self.ledger.account(&self.key))
    }

    pub(crate) fn spent(&self, idle: Duration, cpu_us: u64, memory_limit: u64) {
        if !idle.is_zero() || cpu_us > 0 {
            self.account().spent(Spent {
                idle,
                cpu_us,
                memory_limit,
            });
        }
    }
}
