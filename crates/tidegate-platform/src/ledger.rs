//! What is kept of invocations, and whether the next one may be.
//!
//! The engine asks and tells an account for each function. Behind it is the recorder's account of the function, which
//! writes and sums up, and the allowance of its namespace, which lets calls in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tidegate_core::FunctionKey;
use tidegate_core::record::{Level, Used};
use tidegate_engine::{Account, Ended, Failure, Ledger, LogLine, Spent};
use tidegate_instance::LogStream;
use tidegate_records::{Line, Recorder, Stream};

use crate::bill::Bills;
use crate::quotas::{Allowance, Allowances};
use crate::witness::Witness;

/// The one ledger of a platform.
pub(crate) struct PlatformLedger {
    pub(crate) recorder: Recorder,
    pub(crate) allowances: Allowances,
    /// What of a function's invocations is recorded where nobody says.
    usual: Level,
    /// What functions say of that themselves.
    levels: Mutex<HashMap<FunctionKey, Level>>,
    /// Who waits for what a call cost, where answers say so.
    pub(crate) bills: Option<Bills>,
    witness: Arc<dyn Witness>,
}

struct FunctionAccount {
    records: Arc<tidegate_records::Account>,
    allowance: Arc<Allowance>,
    bills: Option<Bills>,
    witness: Arc<dyn Witness>,
}

impl PlatformLedger {
    pub(crate) fn new(
        recorder: Recorder,
        usual: Level,
        bill: bool,
        witness: Arc<dyn Witness>,
    ) -> Self {
        Self {
            recorder,
            allowances: Allowances::default(),
            usual,
            levels: Mutex::default(),
            bills: bill.then(Bills::default),
            witness,
        }
    }

    /// Says which invocations of a function leave a record; `None` where the function does not say.
    pub(crate) fn set_level(&self, function: &FunctionKey, level: Option<Level>) {
        let mut levels = self.levels.lock();
        let before = match level {
            Some(level) => levels.insert(function.clone(), level),
            None => levels.remove(function),
        };
        // Most say nothing, and have no account before they are called.
        if before != level {
            let account = self.recorder.account(&Arc::new(function.clone()));
            account.set_level(level.unwrap_or(self.usual));
        }
    }
}

impl Ledger for PlatformLedger {
    fn account(&self, function: &Arc<FunctionKey>) -> Arc<dyn Account> {
        let records = self.recorder.account(function);
        // Held meanwhile, or a level that is said now would be overwritten by the one before it.
        let levels = self.levels.lock();
        records.set_level(levels.get(&**function).copied().unwrap_or(self.usual));
        drop(levels);
        Arc::new(FunctionAccount {
            records,
            allowance: self.allowances.of(&function.namespace),
            bills: self.bills.clone(),
            witness: self.witness.clone(),
        })
    }
}

impl Account for FunctionAccount {
    fn admit(&self) -> Result<(), Failure> {
        self.allowance
            .admit(|now_us| self.records.namespace_today(now_us))
    }

    fn ended(&self, ended: Ended) {
        if ended.admitted {
            self.allowance.ended();
        }
        // What a call is known to have used is in its record.
        if ended.cpu_us > 0 && !matches!(ended.record.used, Used::Alone { .. }) {
            self.records.cpu(now_us(), ended.cpu_us);
        }
        self.records.ended(&ended.record);
        if let Some(bills) = &self.bills {
            bills.ended(&ended.record);
        }
    }

    fn line(&self, line: &LogLine) {
        let since = line.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = Line {
            function: self.records.function().clone(),
            invocation: line.invocation,
            instance: line.instance,
            stream: match line.stream {
                LogStream::Stdout => Stream::Stdout,
                LogStream::Stderr => Stream::Stderr,
                LogStream::System => Stream::System,
            },
            time_us: since.as_micros() as u64,
            text: line.text.clone(),
        };
        self.records.line(&line);
        if self.records.level() != Level::None {
            self.witness.line(&line);
        }
    }

    fn spent(&self, spent: Spent) {
        let now_us = now_us();
        if !spent.idle.is_zero() {
            let idle_us = spent.idle.as_micros() as u64;
            self.records.idle(now_us, idle_us, spent.memory_limit);
        }
        if spent.cpu_us > 0 {
            self.records.cpu(now_us, spent.cpu_us);
        }
    }
}

/// Microseconds since the Unix epoch.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_micros() as u64
}
