//! How many instances, when: a pure function of what is observed.
//!
//! Up at once, down slowly. A call that finds no free slot asks for a decision on the spot, so growth never waits for a
//! tick; shrinking is decided by the tick.
//!
//! Where the calls at hand decide, the pool hands a call to the oldest instance that has room, so surplus instances fall
//! idle by themselves when load drops, and only those stop that had no call for the idle time: the window that keeps a lull
//! from throwing warm instances away. Where a rate or the processor decides, calls are spread over all instances and none
//! need ever be idle. There the idle time is how long fewer must have been enough: the most that was wanted within it is
//! what is kept, and who has the fewest calls goes first, after its last one. A metric only ever adds: whatever it says, a
//! call that finds every place taken starts an instance, up to the maximum.

use std::time::Duration;

use crate::{ByHand, InstanceId, Metric, Scale};

mod load;

pub use load::Load;

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
    /// When the pool last had a call, or began; meaningless while it has one.
    pub quiet_since: Duration,
    /// What the metric says of late, in its own thousandths; see [`Load::milli`]. Nothing where the calls at hand decide.
    pub load_milli: u64,
    /// The most that was wanted within the idle time; see [`Load::held`].
    pub held: u32,
    /// None is wanted before the next call: somebody said so.
    pub asleep: bool,
    /// Somebody said how many there are to be, just now: what is above goes without waiting for the idle time.
    pub told: bool,
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
    /// Instances that get no more calls, and stop after those that they have.
    pub leave: Vec<InstanceId>,
    /// Instances that are wanted at this moment.
    pub wanted: u32,
}

/// Instances that are kept without a load: what was asked for by hand, else the minimum. Who asked for none wanted none
/// until the next call; from then on it is the minimum, and at least one.
#[must_use]
pub fn floor(scale: &Scale) -> u32 {
    let floor = match scale.by_hand {
        Some(by_hand) if by_hand.instances > 0 => by_hand.instances,
        Some(_) => scale.min.max(1),
        None => scale.min,
    };
    floor.min(scale.max)
}

/// Whether a function that is without a call since then is kept at no instance at all.
#[must_use]
pub fn is_at_rest(scale: &Scale, now: Duration, quiet_since: Duration) -> bool {
    scale
        .zero
        .is_some_and(|zero| now.saturating_sub(quiet_since) >= zero)
}

/// Instances that a load wants, before the bounds are applied.
#[must_use]
pub fn wanted_by_load(metric: Metric, load_milli: u64) -> u32 {
    match metric {
        Metric::Concurrency => 0,
        Metric::Rate { target_milli } | Metric::Cpu { target_milli } => {
            u32::try_from(load_milli.div_ceil(target_milli.max(1))).unwrap_or(u32::MAX)
        }
    }
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
        // Who has no part is there for those who name it, and for nobody else.
        by_hand: scale.by_hand.filter(|_| percent > 0).map(|by_hand| ByHand {
            instances: of(by_hand.instances).min(max),
            ..by_hand
        }),
        ..*scale
    }
}

/// Decides.
///
/// Never lets starting and ready instances together exceed `max`, never goes below what is kept without a load (see
/// [`floor`]) or below what the calls at hand want, and never stops an instance that has a call.
#[must_use]
pub fn decide(scale: &Scale, seen: &Observation<'_>) -> Decision {
    let ready = u32::try_from(seen.ready.len()).unwrap_or(u32::MAX);
    let in_flight = seen
        .ready
        .iter()
        .map(|r| r.in_flight)
        .fold(0, u32::saturating_add);
    let calls = in_flight.saturating_add(seen.queued);
    let none = seen.asleep || calls == 0 && is_at_rest(scale, seen.now, seen.quiet_since);
    let wanted = if none {
        0
    } else {
        wanted(scale, calls)
            .max(wanted_by_load(scale.metric, seen.load_milli))
            .clamp(floor(scale), scale.max)
    };
    let kept = if none || seen.told {
        wanted
    } else {
        wanted.max(seen.held).min(scale.max)
    };

    let live = ready.saturating_add(seen.starting);
    let start = wanted
        .saturating_sub(live)
        .min(STARTS_AT_ONCE.saturating_sub(seen.starting));

    let spare = ready.saturating_sub(kept) as usize;
    let packed = scale.metric == Metric::Concurrency;
    // Where calls are packed, all but these have to have been idle for their time.
    let over = if none || seen.told || !packed {
        spare
    } else {
        // Above `max` (it was lowered) the idle time does not count.
        ready.saturating_sub(scale.max) as usize
    };
    let mut idle: Vec<&Ready> = seen.ready.iter().filter(|r| r.in_flight == 0).collect();
    idle.sort_by_key(|r| (r.idle_since, r.id));
    let stop: Vec<InstanceId> = idle
        .iter()
        .enumerate()
        .filter(|(at, r)| *at < over || seen.now.saturating_sub(r.idle_since) >= scale.idle)
        .take(spare)
        .map(|(_, r)| r.id)
        .collect();

    // A surplus that has calls falls idle by itself where they are packed, and would never do so where they are spread.
    let leave = if packed && !none {
        Vec::new()
    } else {
        let mut busy: Vec<&Ready> = seen.ready.iter().filter(|r| r.in_flight > 0).collect();
        busy.sort_by_key(|r| (r.in_flight, std::cmp::Reverse(r.id)));
        let surplus = spare.saturating_sub(stop.len());
        busy.iter().take(surplus).map(|r| r.id).collect()
    };
    Decision {
        start,
        stop,
        leave,
        wanted,
    }
}

#[cfg(test)]
mod tests;
