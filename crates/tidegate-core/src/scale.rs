//! How many instances, when: a pure function of what is observed.
//!
//! Up at once, down slowly. A call that finds no free slot asks for a decision on the spot, so growth never waits for a
//! tick; shrinking is decided by the tick and only ever takes instances that have had no call for the idle time. Because
//! the pool hands a call to the oldest instance that has room, surplus instances fall idle by themselves when load drops, and the idle time doubles as the window that keeps a lull from throwing warm instances away.

use std::time::Duration;

use crate::{InstanceId, Scale};

/// Instances of one pool that may be starting at the same moment. Starting costs processor time that the calls in flight
/// need; a burst of first calls shares these starts rather than paying for one each, and a long one doubles quickly.
pub const STARTS_AT_ONCE: u32 = 8;

/// What a pool looks like. Times are since some fixed moment of a monotonic clock.
#[derive(Clone, Debug)]
pub struct Observation<'a> {
    /// Now.
    pub now: Duration,
    /// Instances that can take calls.
    pub ready: &'a [Ready],
    /// Instances that are starting.
    pub starting: u32,
    /// Calls that wait for a slot.
    pub queued: u32,
}

/// An instance that can take calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Which.
    pub id: InstanceId,
    /// Calls it has.
    pub in_flight: u32,
    /// When its last call ended, or when it became ready; meaningless while it has calls.
    pub idle_since: Duration,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Instances to start, now.
    pub start: u32,
    /// Instances without a call to stop, longest idle first.
    pub stop: Vec<InstanceId>,
}

/// Instances that this many calls want, before the bounds are applied.
#[must_use]
pub fn wanted(scale: &Scale, calls: u32) -> u32 {
    // Concurrency × target, but never below one call: a target of 30 % of one call is still one call.
    let per_instance = (u64::from(scale.concurrency) * u64::from(scale.target_milli)).max(1000);
    u32::try_from((u64::from(calls) * 1000).div_ceil(per_instance)).unwrap_or(u32::MAX)
}

/// The bounds of a revision that gets a part of a function's calls: its part of them, rounded up. One with no part may have
/// one instance, for those who name it. Rounding up may bring the revisions of a function above its maximum by one each,
/// since every one that can be called must be able to start.
#[must_use]
pub fn part(scale: &Scale, percent: u8) -> Scale {
    let of = |n: u32| {
        let n = u64::from(n) * u64::from(percent.min(100));
        u32::try_from(n.div_ceil(100)).unwrap_or(u32::MAX)
    };
    let max = of(scale.max).max(1).min(scale.max);
    Scale {
        min: of(scale.min).min(max),
        max,
        initial: of(scale.initial).max(scale.initial.min(1)).min(max),
        ..*scale
    }
}

/// Decides.
///
/// Never lets starting and ready instances together exceed `max`, never stops below `min` or below what the calls at hand
/// want, and never stops an instance that has a call.
#[must_use]
pub fn decide(scale: &Scale, seen: &Observation<'_>) -> Decision {
    let ready = u32::try_from(seen.ready.len()).unwrap_or(u32::MAX);
    let in_flight = seen
        .ready
        .iter()
        .map(|r| r.in_flight)
        .fold(0, u32::saturating_add);
    let wanted = wanted(scale, in_flight.saturating_add(seen.queued))
        .clamp(scale.min.min(scale.max), scale.max);

    let live = ready.saturating_add(seen.starting);
    let start = wanted
        .saturating_sub(live)
        .min(STARTS_AT_ONCE.saturating_sub(seen.starting));

    let mut idle: Vec<&Ready> = seen.ready.iter().filter(|r| r.in_flight == 0).collect();
    idle.sort_by_key(|r| (r.idle_since, r.id));
    // Above `max` (it was lowered) the idle time does not count.
    let over = ready.saturating_sub(scale.max) as usize;
    let spare = ready.saturating_sub(wanted) as usize;
    let stop = idle
        .iter()
        .enumerate()
        .filter(|(at, r)| *at < over || seen.now.saturating_sub(r.idle_since) >= scale.idle)
        .take(spare)
        .map(|(_, r)| r.id)
        .collect();
    Decision { start, stop }
}

#[cfg(test)]
mod tests;
