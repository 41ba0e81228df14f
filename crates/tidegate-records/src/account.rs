//! What a function's calls are put down to.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_core::record::{Class, Level, Record};
use tidegate_core::{FunctionKey, Outcome};

use crate::encode::{put_line, put_record};
use crate::line::Line;
use crate::pending::{Push, Pushed};
use crate::share::Namespace;
use crate::shared::Shared;
use crate::usage::{Totals, billed_us, hour_of};

/// One function's account: its calls, what it prints and what it uses are added here, by any thread.
#[derive(Debug)]
pub struct Account {
    key: Arc<FunctionKey>,
    /// What its items call it by, in this process.
    number: u64,
    level: AtomicU64,
    shared: Arc<Shared>,
    namespace: Arc<Namespace>,
}

/// What [`Account::ended`] did with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It can be read from now on.
    Recorded,
    /// The function's level does not ask for it. It counts towards usage.
    NotWanted,
    /// There was no room, its namespace has left more than its share, or it was turned away as many before it. It counts
    /// towards usage.
    GivenUp,
}

/// Nobody encodes, nobody counts: the types that [`Push`] needs where a closure is absent.
type NoItem = fn(&mut Vec<u8>);
type NoCount = fn(&mut Totals, bool);

impl Account {
    pub(crate) fn new(
        key: Arc<FunctionKey>,
        number: u64,
        shared: Arc<Shared>,
        namespace: Arc<Namespace>,
    ) -> Self {
        let account = Self {
            key,
            number,
            level: AtomicU64::new(0),
            shared,
            namespace,
        };
        account.set_level(Level::All);
        account
    }

    /// Whose it is.
    #[must_use]
    pub fn function(&self) -> &Arc<FunctionKey> {
        &self.key
    }

    /// Says which calls leave a record, from now on.
    pub fn set_level(&self, level: Level) {
        let number = match level {
            Level::All => 0,
            Level::Errors => 1,
            Level::None => 2,
            Level::Sampled(n) => u64::from(n.get()) << 8 | 3,
        };
        self.level.store(number, Ordering::Relaxed);
    }

    /// Which calls leave a record.
    #[must_use]
    pub fn level(&self) -> Level {
        let number = self.level.load(Ordering::Relaxed);
        match number & 0xff {
            0 => Level::All,
            1 => Level::Errors,
            2 => Level::None,
            _ => NonZeroU32::new((number >> 8) as u32).map_or(Level::All, Level::Sampled),
        }
    }

    /// A call has ended: it is counted, and recorded if the level asks for it. Once this has returned, the record is found
    /// by whoever asks. The record's own function is not looked at: it is this account's.
    pub fn ended(&self, record: &Record) -> Fate {
        let ended_us = record.received_us.saturating_add(record.total_us());
        let granularity = self.shared.granularity_us;
        let wanted = self.level().keeps(record.outcome, record.id);
        self.namespace.today.add(
            ended_us,
            billed_us(record, granularity),
            record.memory_limit,
        );
        let encoded = wanted && self.may_leave(record, ended_us);
        let pushed = self.push(Push {
            number: self.number,
            key: &self.key,
            class: record.class(),
            encode: encoded.then_some(|out: &mut Vec<u8>| put_record(out, self.number, record)),
            count: Some((hour_of(ended_us), |totals: &mut Totals, recorded| {
                totals.add_record(record, granularity, recorded);
            })),
        });
        self.namespace.records.spend(pushed.bytes);
        match (wanted, pushed.taken) {
            (false, _) => Fate::NotWanted,
            (true, true) => Fate::Recorded,
            (true, false) => Fate::GivenUp,
        }
    }

    /// Whether the namespace may leave this record beside those that it left before.
    fn may_leave(&self, record: &Record, ended_us: u64) -> bool {
        let shared = &self.shared;
        if record.is_turned_away() && !self.namespace.refusals.take(ended_us) {
            shared.refusals.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let allowed = !shared.is_shared() || self.namespace.records.allows(ended_us);
        if !allowed {
            shared.over_share.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }

    /// The function has printed a line, which is kept unless the level speaks against it: [`Level::None`] keeps none;
    /// [`Level::Sampled`] keeps those of the invocations whose record is kept if all goes well, and those of no
    /// invocation. [`Level::Errors`] keeps all, since how the call will end is not known when it prints. The line's own
    /// function is not looked at: it is this account's.
    pub fn line(&self, line: &Line) {
        let level = self.level();
        let wanted = match (level, line.invocation) {
            (Level::None, _) => false,
            (Level::Sampled(_), Some(id)) => level.keeps(Outcome::Ok, id),
            _ => true,
        };
        if !wanted {
            return;
        }
        let share = &self.namespace.lines;
        if self.shared.is_shared() && !share.allows(line.time_us) {
            self.shared.lines.shed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let pushed = self.shared.lines.push(Push {
            number: self.number,
            key: &self.key,
            class: Class::Sampled,
            encode: Some(|out: &mut Vec<u8>| put_line(out, self.number, line)),
            count: None::<(u64, NoCount)>,
        });
        share.spend(pushed.bytes);
        self.shared.wake(pushed.hurry);
    }

    /// An instance was there without a call for so many microseconds, up to `now_us`, which are counted from the Unix
    /// epoch; `memory_limit` is what it may use, in bytes.
    pub fn idle(&self, now_us: u64, idle_us: u64, memory_limit: u64) {
        self.count(now_us, |totals| {
            totals.idle_us += u128::from(idle_us);
            totals.idle_byte_us += u128::from(idle_us) * u128::from(memory_limit);
        });
    }

    /// Instances used so many microseconds of processor time that no single invocation was told of, because several
    /// shared an instance.
    pub fn cpu(&self, now_us: u64, cpu_us: u64) {
        self.count(now_us, |totals| {
            totals.cpu_us = totals.cpu_us.saturating_add(cpu_us);
        });
    }

    /// An invocation was accepted to run later.
    pub fn queued(&self, now_us: u64) {
        self.count(now_us, |totals| totals.queued += 1);
    }

    /// What all functions of this one's namespace have been billed since midnight UTC, in millionths of a GB-second (2³⁰
    /// bytes). It takes two loads, so it can be asked for every call.
    #[must_use]
    pub fn namespace_today(&self, now_us: u64) -> u64 {
        self.namespace.today.gb_micro_seconds(now_us)
    }

    fn count(&self, now_us: u64, add: impl FnOnce(&mut Totals)) {
        self.push(Push {
            number: self.number,
            key: &self.key,
            class: Class::Kept,
            encode: None::<NoItem>,
            count: Some((hour_of(now_us), |totals: &mut Totals, _| add(totals))),
        });
    }

    fn push<E, T>(&self, push: Push<'_, E, T>) -> Pushed
    where
        E: FnOnce(&mut Vec<u8>),
        T: FnOnce(&mut Totals, bool),
    {
        let pushed = self.shared.records.push(push);
        self.shared.wake(pushed.hurry);
        pushed
    }
}
