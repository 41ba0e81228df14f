//! Sums of what was used.

use tidegate_core::record::{Record, Used};
use tidegate_core::{InvocationId, Outcome};

use crate::encode::{Input, Malformed, OUTCOMES, outcome_number, put_number, put_wide};

/// What was used by some invocations, and by the instances between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    by_outcome: [u64; OUTCOMES.len()],
    /// Time that is billed, in microseconds.
    pub billed_us: u128,
    /// Memory limit times billed time, in bytes times microseconds.
    pub billed_byte_us: u128,
    /// Processor time in microseconds, as far as it was measured.
    pub cpu_us: u64,
    /// Bytes of requests' bodies.
    pub bytes_in: u64,
    /// Bytes of answers' bodies.
    pub bytes_out: u64,
    /// Invocations that waited for a start.
    pub cold_starts: u64,
    /// Invocations that were accepted to run later.
    pub queued: u64,
    /// Time that instances were there without a call, in microseconds.
    pub idle_us: u128,
    /// The same times the instance's memory limit, in bytes times microseconds.
    pub idle_byte_us: u128,
    /// Invocations that left no record, by the function's level or because they were given up under load.
    pub unrecorded: u64,
}

/// Bytes times microseconds in a gigabyte-second: a gigabyte is 2³⁰ bytes here, as on the bills of clouds.
pub(crate) const GB_SECOND: u128 = (1 << 30) * 1_000_000;

/// The time that is billed for an invocation, in microseconds: from its slot to its end, rounded up to `granularity_us`.
/// One that never reached an instance is not billed.
#[must_use]
pub fn billed_us(record: &Record, granularity_us: u64) -> u64 {
    if record.instance.is_none() {
        return 0;
    }
    let granularity = granularity_us.max(1);
    record
        .times
        .run_us
        .div_ceil(granularity)
        .saturating_mul(granularity)
}

// === impl Totals ===

impl Totals {
    /// All invocations, however they ended.
    #[must_use]
    pub fn invocations(&self) -> u64 {
        self.by_outcome.iter().sum()
    }

    /// The invocations that ended so.
    #[must_use]
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.by_outcome[usize::from(outcome_number(outcome))]
    }

    /// The outcomes that occurred, with how often.
    pub fn outcomes(&self) -> impl Iterator<Item = (Outcome, u64)> + '_ {
        let all = OUTCOMES.into_iter().zip(self.by_outcome);
        all.filter(|(_, count)| *count > 0)
    }

    /// Memory limit times billed time, in millionths of a GB-second (2³⁰ bytes), rounded down.
    #[must_use]
    pub const fn gb_micro_seconds(&self) -> u128 {
        self.billed_byte_us / (1 << 30)
    }

    /// Adds an invocation.
    pub fn add_record(&mut self, record: &Record, granularity_us: u64, recorded: bool) {
        let billed = u128::from(billed_us(record, granularity_us));
        self.by_outcome[usize::from(outcome_number(record.outcome))] += 1;
        self.billed_us += billed;
        self.billed_byte_us += billed * u128::from(record.memory_limit);
        if let Used::Alone { cpu_us, .. } = record.used {
            self.cpu_us += cpu_us;
        }
        self.bytes_in += record.bytes_in;
        self.bytes_out += record.bytes_out;
        self.cold_starts += u64::from(record.times.cold.is_some());
        self.unrecorded += u64::from(!recorded);
    }

    /// Adds other sums. What does not fit any more stays at the most there is.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.by_outcome.iter_mut().zip(other.by_outcome) {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in [
            (&mut self.cpu_us, other.cpu_us),
            (&mut self.bytes_in, other.bytes_in),
            (&mut self.bytes_out, other.bytes_out),
            (&mut self.cold_starts, other.cold_starts),
            (&mut self.queued, other.queued),
            (&mut self.unrecorded, other.unrecorded),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in [
            (&mut self.billed_us, other.billed_us),
            (&mut self.billed_byte_us, other.billed_byte_us),
            (&mut self.idle_us, other.idle_us),
            (&mut self.idle_byte_us, other.idle_byte_us),
        ] {
            *mine = mine.saturating_add(theirs);
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let occurred = self.by_outcome.iter().filter(|count| **count > 0).count();
        put_number(out, occurred as u64);
        for (number, count) in self.by_outcome.iter().enumerate() {
            if *count > 0 {
                put_number(out, number as u64);
                put_number(out, *count);
            }
        }
        put_wide(out, self.billed_us);
        put_wide(out, self.billed_byte_us);
        put_number(out, self.cpu_us);
        put_number(out, self.bytes_in);
        put_number(out, self.bytes_out);
        put_number(out, self.cold_starts);
        put_number(out, self.queued);
        put_wide(out, self.idle_us);
        put_wide(out, self.idle_byte_us);
        put_number(out, self.unrecorded);
    }

    pub(crate) fn take(input: &mut Input<'_>) -> Result<Self, Malformed> {
        let mut by_outcome = [0; OUTCOMES.len()];
        for _ in 0..input.count()? {
            let (number, count) = (input.number()?, input.number()?);
            let known = usize::try_from(number)
                .ok()
                .and_then(|number| by_outcome.get_mut(number));
            *known.ok_or(Malformed("outcome"))? = count;
        }
        Ok(Self {
            by_outcome,
            billed_us: input.wide()?,
            billed_byte_us: input.wide()?,
            cpu_us: input.number()?,
            bytes_in: input.number()?,
            bytes_out: input.number()?,
            cold_starts: input.number()?,
            queued: input.number()?,
            idle_us: input.wide()?,
            idle_byte_us: input.wide()?,
            unrecorded: input.number()?,
        })
    }
}

/// The hour since the epoch in which an invocation ended: the one it is counted in.
pub(crate) const fn hour_of(time_us: u64) -> u64 {
    time_us / 3_600_000_000
}

/// The moment an id was made, in microseconds.
pub(crate) const fn made_us(id: InvocationId) -> u64 {
    id.unix_ms().saturating_mul(1000)
}
