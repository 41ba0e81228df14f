//! What a call used, told from the counters of its instance.
//!
//! The kernel counts for an instance, not for a call, and a look at its counters costs system calls. So at most one look
//! a millisecond is made an instance, at the end of a call, and what is found goes to that call where it was the only one
//! since the look before; else it is known only together. Where the instance has rested for long, it is looked at when a
//! call begins as well, so that what it did meanwhile is not taken for the call's.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::record::Used;
use tidegate_instance::Instance;
use tokio::time::Instant;

/// Least time between two looks: a look costs about as much as everything else that is kept of a call, and a call that
/// is shorter has used too little for anyone to ask.
const LOOK: Duration = Duration::from_millis(1);

/// Least time between two looks at the highest memory: a call that is shorter cannot have taken much more than there was.
const PEAK: Duration = Duration::from_millis(10);

/// A rest after which an instance is looked at before its call. So long a pause is never that of a busy instance, whose
/// calls have to be cheap.
const REST: Duration = Duration::from_millis(100);

/// The counters of one instance as they were.
pub(crate) struct Meter {
    instance: Arc<dyn Instance>,
    last: Mutex<Last>,
}

struct Last {
    at: Instant,
    /// Processor time then, in microseconds; `None` where nothing counts.
    cpu_us: Option<u64>,
    /// Highest memory in bytes, and when that was looked at.
    peak: (u64, Instant),
    /// Calls under way.
    under_way: u32,
    /// Calls that were under way at some time since the look.
    touched: u32,
    /// Nothing has ended since the look: the first end is looked at however soon it comes, for the look was made for it.
    is_fresh: bool,
}

/// What a look at the end of a call told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// For the call's record.
    pub(crate) used: Used,
    /// Processor time since the last look, in microseconds.
    pub(crate) cpu_us: u64,
}

impl Meter {
    /// Looks for the first time: what was used until now is the start's.
    pub(crate) fn new(instance: Arc<dyn Instance>) -> Self {
        let now = Instant::now();
        let cpu_us = instance.cpu_us();
        let peak = cpu_us.and_then(|_| instance.memory_peak());
        Self {
            instance,
            last: Mutex::new(Last {
                at: now,
                cpu_us,
                peak: (peak.unwrap_or(0), now),
                under_way: 0,
                touched: 0,
                is_fresh: true,
            }),
        }
    }

    /// What had been used at the last look, since the instance began.
    pub(crate) fn so_far_us(&self) -> u64 {
        self.last.lock().cpu_us.unwrap_or(0)
    }

    /// A call begins. Gives what was used since the last look where it belongs to no call.
    pub(crate) fn begin(&self, now: Instant) -> u64 {
        let mut last = self.last.lock();
        let mut unowned = 0;
        let rested = last.under_way == 0 && now.saturating_duration_since(last.at) >= REST;
        if rested && let Some(cpu_us) = last.look(&*self.instance, now) {
            unowned = cpu_us;
            last.is_fresh = true;
        }
        last.under_way += 1;
        last.touched += 1;
        unowned
    }

    /// A call ends, or is given up.
    pub(crate) fn end(&self, now: Instant) -> Measured {
        let mut last = self.last.lock();
        last.under_way = last.under_way.saturating_sub(1);
        if last.cpu_us.is_none() {
            return Measured::default();
        }
        let is_fresh = std::mem::take(&mut last.is_fresh);
        if !is_fresh && now.saturating_duration_since(last.at) < LOOK {
            return Measured {
                used: Used::Shared,
                cpu_us: 0,
            };
        }
        let alone = last.touched == 1;
        let Some(cpu_us) = last.look(&*self.instance, now) else {
            return Measured::default();
        };
        if !alone {
            return Measured {
                used: Used::Shared,
                cpu_us,
            };
        }
        if (is_fresh || now.saturating_duration_since(last.peak.1) >= PEAK)
            && let Some(peak) = self.instance.memory_peak()
        {
            last.peak = (peak, now);
        }
        let used = Used::Alone {
            cpu_us,
            memory_peak: last.peak.0,
        };
        Measured { used, cpu_us }
    }

    /// What was used since the last look, before the instance is ended.
    pub(crate) fn rest(&self) -> u64 {
        let look = self.last.lock().look(&*self.instance, Instant::now());
        look.unwrap_or(0)
    }
}

impl Last {
    /// Looks, and gives the processor time since the last look; nothing where the instance is gone, or nothing counts.
    fn look(&mut self, instance: &dyn Instance, now: Instant) -> Option<u64> {
        let before = self.cpu_us?;
        let cpu_us = instance.cpu_us()?;
        (self.at, self.cpu_us, self.touched) = (now, Some(cpu_us), self.under_way);
        Some(cpu_us.saturating_sub(before))
    }
}
