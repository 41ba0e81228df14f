//! What a pool's lock holds, and who of its instances a call goes to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidegate_contract::Target;
use tidegate_core::scale::{self, Decision, Load, Observation, Ready};
use tidegate_core::{InstanceId, Metric, Scale};
use tidegate_instance::StartError;

use super::{Lineage, Pool, Waiter};
use crate::meter::Meter;
use crate::slot::Slot;

/// How often the time of instances without a call is added up: what a killed server forgets of it at most.
const COUNT_IDLE: Duration = Duration::from_secs(1);

pub(super) struct State {
    pub(super) scale: Scale,
    /// In the order they became ready; where the calls at hand decide how many there are, calls go to the first that has
    /// room, so that the last fall idle. Those that are leaving stay here until their last call is over.
    pub(super) ready: Vec<Entry>,
    pub(super) starting: u32,
    pub(super) stopping: u32,
    pub(super) waiting: VecDeque<Waiter>,
    /// Calls that are over for their callers and hold a slot until the code is done with them.
    pub(super) cut_off: u32,
    pub(super) failures: u32,
    pub(super) last_failure: Option<Arc<StartError>>,
    pub(super) not_before: Duration,
    /// Takes no more calls.
    pub(super) retired: bool,
    pub(super) active: bool,
    /// Somebody asked for no instance, and no call has come since.
    asleep: bool,
    /// When the last call ended, or the pool was told how many to have.
    quiet_since: Duration,
    /// Calls that came since the load was looked at.
    pub(super) arrived: u64,
    /// What the metric says, where it is not the calls at hand.
    load: Option<Box<Load>>,
    /// When the instances' use of the processor was read last.
    pub(super) sampled: Duration,
    /// When the time of instances without a call was added up last.
    idle_counted: Duration,
    /// Where the dice are.
    dice: u64,
}

pub(super) struct Entry {
    pub(super) id: InstanceId,
    pub(super) target: Arc<Target>,
    pub(super) meter: Arc<Meter>,
    pub(super) in_flight: u32,
    pub(super) idle_since: Duration,
    /// Until when its time without a call has been added up.
    pub(super) counted_until: Duration,
    /// Such time, between calls, that has not been told of yet.
    pub(super) idle: Duration,
    /// Takes no new call, for it cannot be connected to or is not wanted; it still has calls.
    pub(super) leaving: bool,
    /// Processor time when it was read last, in microseconds.
    pub(super) cpu_us: Option<u64>,
    pub(super) lineage: Lineage,
}

impl State {
    pub(super) fn new(scale: Scale, now: Duration) -> Self {
        Self {
            scale,
            ready: Vec::new(),
            starting: 0,
            stopping: 0,
            waiting: VecDeque::new(),
            cut_off: 0,
            failures: 0,
            last_failure: None,
            not_before: Duration::ZERO,
            retired: false,
            active: false,
            asleep: asks_for_none(&scale),
            quiet_since: now,
            arrived: 0,
            load: Load::of(&scale).map(Box::new),
            sampled: now,
            idle_counted: now,
            // Any number but zero will do: pools are to differ from one another, not to surprise anybody.
            dice: (u64::from(now.subsec_nanos()) | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Changes the scale, and says whether somebody asks for another number of instances than before.
    pub(super) fn rescale(&mut self, scale: Scale, now: Duration) -> bool {
        let before = std::mem::replace(&mut self.scale, scale);
        if before.metric != scale.metric {
            self.load = Load::of(&scale).map(Box::new);
        } else if before.idle != scale.idle
            && let Some(load) = &mut self.load
        {
            load.forget_wanted(scale.idle);
        }
        let told = before.by_hand != scale.by_hand;
        if told {
            self.asleep = asks_for_none(&scale);
            self.quiet_since = now;
            if let Some(load) = &mut self.load {
                load.forget_wanted(scale.idle);
            }
        }
        told
    }

    /// The load, for a pool of this scale that takes over.
    pub(super) fn load_for(&self, scale: &Scale) -> Option<Box<Load>> {
        let is_same = self.scale.metric == scale.metric && self.scale.idle == scale.idle;
        self.load.clone().filter(|_| is_same)
    }

    pub(super) fn set_load(&mut self, load: Option<Box<Load>>) {
        self.load = load;
    }

    /// The instance that the next call goes to.
    pub(super) fn find_room(&mut self) -> Option<&mut Entry> {
        let at = match self.scale.metric {
            Metric::Concurrency => self.pack(),
            Metric::Rate { .. } | Metric::Cpu { .. } => self.spread(),
        }?;
        Some(&mut self.ready[at])
    }

    /// The first instance below its target, else the least loaded that has room.
    fn pack(&self) -> Option<usize> {
        let concurrency = self.scale.concurrency;
        let target = (u64::from(concurrency) * u64::from(self.scale.target_milli) / 1000).max(1);
        self.ready
            .iter()
            .position(|e| u64::from(e.in_flight) < target && !e.leaving)
            .or_else(|| self.least())
    }

    /// The less loaded of two that the dice name, else the least loaded that has room: nobody is left out, and nobody has
    /// to be asked but two.
    fn spread(&mut self) -> Option<usize> {
        match self.ready.len() {
            0 => return None,
            1 => {}
            len => {
                let (one, other) = (self.die(len), self.die(len));
                let has_room = |at: &usize| self.ready[*at].has_room(self.scale.concurrency);
                let found = [one, other]
                    .into_iter()
                    .filter(has_room)
                    .min_by_key(|at| self.ready[*at].in_flight);
                if found.is_some() {
                    return found;
                }
            }
        }
        self.least()
    }

    fn least(&self) -> Option<usize> {
        self.ready
            .iter()
            .enumerate()
            .filter(|(_, e)| e.has_room(self.scale.concurrency))
            .min_by_key(|(_, e)| e.in_flight)
            .map(|(at, _)| at)
    }

    /// A number below `sides`, by xorshift.
    fn die(&mut self, sides: usize) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        // The upper half is the better one, and below `sides` after the shift.
        (((self.dice >> 32) * sides as u64) >> 32) as usize
    }

    /// Whether a granted call leaves the pool above its target, so that another instance should start beside it. With a
    /// target of all of the concurrency that is only so when a call has to wait.
    pub(super) fn wants_more(&self) -> bool {
        self.scale.target_milli < 1000 && self.live() < self.scale.max && {
            let usable = self.ready.iter().filter(|e| !e.leaving);
            let in_flight = usable.map(|e| e.in_flight).sum();
            scale::wanted(&self.scale, in_flight) > self.live()
        }
    }

    /// Calls that may wait. Where the scale bounds them, those that an instance which starts or may be started will take
    /// do not count, nor do those for which the place of a call that was cut off is about to come free: they wait for it,
    /// not for one another.
    pub(super) fn may_wait(&self, most: usize) -> usize {
        let Some(waiting) = self.scale.waiting else {
            return most;
        };
        let to_come = self.scale.max.saturating_sub(self.usable());
        let places = u64::from(to_come) * u64::from(self.scale.concurrency);
        let places = places.saturating_add(u64::from(self.cut_off));
        let may_wait = u64::from(waiting).saturating_add(places);
        usize::try_from(may_wait).map_or(most, |n| n.min(most))
    }

    /// A call is there: who slept does so no more. Says whether it did.
    pub(super) fn wake(&mut self) -> bool {
        std::mem::take(&mut self.asleep)
    }

    /// Accounts for a call that ended.
    pub(super) fn call_ended(&mut self, now: Duration) {
        self.quiet_since = now;
    }

    /// Adds the calls that came since the last time to the load.
    pub(super) fn count_arrivals(&mut self, now: Duration) {
        let arrived = std::mem::take(&mut self.arrived);
        if let Some(load) = &mut self.load
            && matches!(self.scale.metric, Metric::Rate { .. })
        {
            load.measured(now, arrived);
        }
    }

    /// Adds what the instances used of the processor since the last time to the load.
    pub(super) fn count_cpu(&mut self, now: Duration, used: &[(InstanceId, u64)]) {
        let mut sum = 0_u64;
        for (id, cpu_us) in used {
            if let Some(entry) = self.ready.iter_mut().find(|e| e.id == *id) {
                // What it took to start is no load.
                let before = entry.cpu_us.replace(*cpu_us).unwrap_or(*cpu_us);
                sum = sum.saturating_add(cpu_us.saturating_sub(before));
            }
        }
        if let Some(load) = &mut self.load
            && matches!(self.scale.metric, Metric::Cpu { .. })
        {
            load.measured(now, sum);
        }
    }

    /// The time that instances were there without a call since this was asked last; nothing where that was a moment ago.
    pub(super) fn count_idle(&mut self, now: Duration) -> Duration {
        if now.saturating_sub(self.idle_counted) < COUNT_IDLE {
            return Duration::ZERO;
        }
        self.idle_counted = now;
        let mut idle = Duration::ZERO;
        for entry in &mut self.ready {
            idle += entry.idle_until(now);
            entry.idle = Duration::ZERO;
            entry.counted_until = now;
        }
        idle
    }

    /// Remembers that so many were wanted, so that they are kept for the idle time.
    pub(super) fn wanted(&mut self, now: Duration, instances: u32) {
        if let Some(load) = &mut self.load {
            load.wanted(now, instances);
        }
    }

    pub(super) fn decide(&mut self, now: Duration, told: bool) -> Decision {
        let ready: Vec<Ready> = self
            .ready
            .iter()
            .filter(|e| !e.leaving)
            .map(|e| Ready {
                id: e.id,
                in_flight: e.in_flight,
                idle_since: e.idle_since,
            })
            .collect();
        let load = self.load.as_deref();
        let decision = scale::decide(
            &self.scale,
            &Observation {
                now,
                ready: &ready,
                starting: self.starting,
                queued: self.waiting.len() as u32,
                quiet_since: self.quiet_since,
                load_milli: load.map_or(0, |load| load.milli(self.scale.metric, now)),
                held: load.map_or(0, |load| load.held(now)),
                asleep: self.asleep,
                told,
            },
        );
        self.wanted(now, decision.wanted);
        decision
    }

    pub(super) fn live(&self) -> u32 {
        self.usable() + self.starting
    }

    /// Instances that take new calls.
    pub(super) fn usable(&self) -> u32 {
        self.ready.iter().filter(|e| !e.leaving).count() as u32
    }

    /// Instances that there are to be.
    pub(super) fn desired(&self, now: Duration) -> u32 {
        if self.asleep {
            0
        } else {
            self.live().max(self.floor(now))
        }
    }

    /// Instances that are kept without a load.
    fn floor(&self, now: Duration) -> u32 {
        let has_calls = !self.waiting.is_empty() || self.ready.iter().any(|e| e.in_flight > 0);
        let at_rest = !has_calls && scale::is_at_rest(&self.scale, now, self.quiet_since);
        if self.asleep || at_rest {
            0
        } else {
            scale::floor(&self.scale)
        }
    }

    /// Where the longest idle instance is, if one may be stopped to make room.
    pub(super) fn longest_idle(&self, now: Duration) -> Option<usize> {
        if self.usable() <= self.floor(now) {
            return None;
        }
        let idle = self.ready.iter().enumerate();
        idle.filter(|(_, e)| e.in_flight == 0)
            .min_by_key(|(_, e)| e.idle_since)
            .map(|(at, _)| at)
    }

    /// The failure that calls are refused with while nothing can take them.
    pub(super) fn failing(&self, now: Duration) -> Option<Arc<StartError>> {
        (self.live() == 0 && now < self.not_before)
            .then(|| self.last_failure.clone())
            .flatten()
    }

    pub(super) fn has_work(&self, now: Duration) -> bool {
        !self.ready.is_empty()
            || self.starting > 0
            || !self.waiting.is_empty()
            || (self.floor(now) > 0 && !self.retired)
    }
}

impl Entry {
    /// Takes a call. What an instance did last counts until it does something else, since code may go on after its answer.
    pub(super) fn take(&mut self, pool: &Arc<Pool>, call: Lineage, started: bool) -> Slot {
        if self.in_flight == 0 {
            self.idle = self.idle_until(pool.host().now());
        }
        self.lineage = match self.in_flight {
            0 => call,
            _ => Lineage {
                call: None,
                depth: self.lineage.depth.max(call.depth),
                trace: None,
            },
        };
        self.in_flight += 1;
        let meter = self.meter.clone();
        Slot::new(pool.clone(), self.target.clone(), meter, started)
    }

    /// How long it has been without a call, as far as that has not been added up.
    pub(super) fn idle_until(&self, now: Duration) -> Duration {
        match self.in_flight {
            0 => self.idle + now.saturating_sub(self.counted_until),
            _ => self.idle,
        }
    }

    fn has_room(&self, concurrency: u32) -> bool {
        self.in_flight < concurrency && !self.leaving
    }
}

fn asks_for_none(scale: &Scale) -> bool {
    scale.by_hand.is_some_and(|by_hand| by_hand.instances == 0)
}
