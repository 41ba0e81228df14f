//! The triggers that there are, and when each is to be looked at.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use tidegate_core::Backoff;
use tidegate_core::schedule::{Decision, Plan, REWIND, decide};

use crate::{Id, Known, State, Wanted};

/// Between tries of what was not accepted or could not be written.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// All of it. Its size is that of the triggers: each has one entry, and at most one timer.
pub(crate) struct Table {
    entries: HashMap<u64, Entry>,
    names: HashMap<(Arc<str>, Arc<str>), u64>,
    /// When to look at which.
    timers: BTreeSet<(Timestamp, u64)>,
    next: u64,
    zones: TimeZoneDatabase,
}

struct Entry {
    id: Id,
    made: Timestamp,
    wanted: Wanted,
    /// None where the schedule is none; the state then says why.
    plan: Option<Plan>,
    state: State,
    /// The state as it was written.
    written: State,
    /// When it is looked at, where it has a timer.
    due: Option<Timestamp>,
    /// It is being worked on, and what comes of that decides when it is looked at.
    busy: bool,
    /// Counts the changes of what is wanted.
    epoch: u64,
    /// What went wrong, how often in a row, and when it is to be tried again.
    failures: u32,
    retry: Timestamp,
    /// It was told since the last list began.
    told: bool,
}

/// Something to do for a trigger.
pub(crate) struct Work {
    pub(crate) slot: u64,
    pub(crate) epoch: u64,
    pub(crate) id: Id,
    pub(crate) state: State,
    pub(crate) written: State,
    pub(crate) decision: Option<Decision>,
}

/// What came of it.
pub(crate) struct Worked {
    pub(crate) epoch: u64,
    pub(crate) state: State,
    /// The state, if it was written.
    pub(crate) written: Option<State>,
    /// Something has to be tried again, after this time at least.
    pub(crate) again: Option<Duration>,
}

impl Table {
    pub(crate) fn new(zones: TimeZoneDatabase) -> Self {
        Self {
            entries: HashMap::new(),
            names: HashMap::new(),
            timers: BTreeSet::new(),
            next: 0,
            zones,
        }
    }

    /// When the next trigger is to be looked at.
    pub(crate) fn first(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    #[cfg(test)]
    pub(crate) fn sizes(&self) -> [usize; 3] {
        [self.entries.len(), self.names.len(), self.timers.len()]
    }

    pub(crate) fn listing(&mut self) {
        for entry in self.entries.values_mut() {
            entry.told = false;
        }
    }

    pub(crate) fn listed(&mut self) {
        let gone: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.told)
            .map(|(slot, _)| *slot)
            .collect();
        for slot in gone {
            self.remove(slot);
        }
    }

    pub(crate) fn put(&mut self, known: Known, now: Timestamp) {
        let name = (known.id.namespace.clone(), known.id.name.clone());
        if let Some(slot) = self.names.get(&name).copied() {
            let zones = &self.zones;
            match self.entries.get_mut(&slot) {
                Some(entry) if entry.id.uid == known.id.uid => {
                    entry.told = true;
                    // Else it is news of our own writing: what is known here is newer.
                    if entry.wanted != known.wanted {
                        entry.change(known.wanted, now, zones);
                        self.set_timer(slot, now);
                    }
                    return;
                }
                _ => self.remove(slot),
            }
        }
        let slot = self.next;
        self.next += 1;
        self.names.insert(name, slot);
        self.entries
            .insert(slot, Entry::new(known, now, &self.zones));
        self.set_timer(slot, now);
    }

    pub(crate) fn gone(&mut self, id: &Id) {
        let slot = self.names.get(&(id.namespace.clone(), id.name.clone()));
        if let Some(slot) = slot.copied()
            && self.entries.get(&slot).is_some_and(|e| e.id.uid == id.uid)
        {
            self.remove(slot);
        }
    }

    /// Sets all timers anew: the clock is another.
    pub(crate) fn look_at_all(&mut self, now: Timestamp) {
        let all: Vec<u64> = self.entries.keys().copied().collect();
        for slot in all {
            self.set_timer(slot, now);
        }
    }

    /// The next thing to do that is due.
    pub(crate) fn due(&mut self, now: Timestamp) -> Option<Work> {
        loop {
            let (_, slot) = *self.timers.first().filter(|(at, _)| *at <= now)?;
            let work = self.entries.get_mut(&slot).and_then(|e| e.look(slot, now));
            self.set_timer(slot, now);
            if work.is_some() {
                return work;
            }
        }
    }

    /// Takes in what came of something.
    pub(crate) fn done(&mut self, slot: u64, worked: Worked, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&slot) {
            entry.done(worked, now);
            self.set_timer(slot, now);
        }
    }

    fn remove(&mut self, slot: u64) {
        if let Some(entry) = self.entries.remove(&slot) {
            self.names.remove(&(entry.id.namespace, entry.id.name));
            if let Some(due) = entry.due {
                self.timers.remove(&(due, slot));
            }
        }
    }

    fn set_timer(&mut self, slot: u64, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&slot) else {
            return;
        };
        if let Some(due) = entry.due.take() {
            self.timers.remove(&(due, slot));
        }
        entry.due = entry.wake(now);
        if let Some(due) = entry.due {
            self.timers.insert((due, slot));
        }
    }
}

impl Entry {
    fn new(known: Known, now: Timestamp, zones: &TimeZoneDatabase) -> Self {
        let mut entry = Self {
            plan: None,
            written: known.state.clone(),
            state: known.state,
            id: known.id,
            made: known.made,
            wanted: known.wanted.clone(),
            due: None,
            busy: false,
            epoch: 0,
            failures: 0,
            retry: Timestamp::MIN,
            told: true,
        };
        entry.change(known.wanted, now, zones);
        entry
    }

    fn change(&mut self, wanted: Wanted, now: Timestamp, zones: &TimeZoneDatabase) {
        self.epoch += 1;
        (self.failures, self.retry) = (0, Timestamp::MIN);
        let state = std::mem::take(&mut self.state);
        self.state = state.seen(&wanted, self.made, now);
        self.wanted = wanted;
        match self.wanted.plan(&self.id.uid, self.made, zones) {
            Ok(plan) => self.plan = Some(plan),
            // Doors refuse such; zones may go when the machine's change.
            Err(error) => {
                self.plan = None;
                self.state.error = error.to_string();
            }
        }
    }

    /// When to look at it.
    fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        if self.busy {
            return None;
        }
        let wanted = if self.state != self.written {
            now
        } else {
            let plan = self.plan.as_ref().filter(|_| !self.wanted.paused)?;
            let cursor = self.state.at(self.made);
            // The clock is behind what was dealt with.
            if now.checked_add(REWIND).unwrap_or(Timestamp::MAX) < cursor.at {
                now
            } else {
                plan.moment(plan.schedule.next(cursor.at)?)
            }
        };
        if self.failures == 0 {
            return Some(wanted);
        }
        // The clock may have gone back since.
        let limit = now.checked_add(RETRY.delay(u32::MAX)).unwrap_or(now);
        Some(wanted.max(self.retry.min(limit)))
    }

    fn look(&mut self, slot: u64, now: Timestamp) -> Option<Work> {
        let plan = self.plan.as_ref().filter(|_| !self.wanted.paused);
        let decision = plan.map(|plan| decide(plan, self.state.at(self.made), now));
        if let Some(decision) = &decision {
            self.state.rewinds = decision.cursor.rewinds;
            if decision.missed {
                self.state.last_missed = Some(now);
            }
            if decision.fire.is_empty() {
                self.state.cursor = Some(decision.cursor.at);
            }
        }
        let decision = decision.filter(|decision| !decision.fire.is_empty());
        if decision.is_none() && self.state == self.written {
            return None;
        }
        self.busy = true;
        Some(Work {
            slot,
            epoch: self.epoch,
            id: self.id.clone(),
            state: self.state.clone(),
            written: self.written.clone(),
            decision,
        })
    }

    fn done(&mut self, worked: Worked, now: Timestamp) {
        self.busy = false;
        if let Some(written) = worked.written {
            self.written = written;
        }
        if worked.epoch == self.epoch {
            self.state = worked.state;
        } else {
            // What was wanted changed meanwhile, and with it the cursor; what was done was done.
            let now = std::mem::take(&mut self.state);
            self.state = State {
                cursor: now.cursor,
                rewinds: now.rewinds,
                of: now.of,
                paused: now.paused,
                ..worked.state
            };
        }
        match worked.again {
            None => (self.failures, self.retry) = (0, Timestamp::MIN),
            Some(after) => {
                self.failures = self.failures.saturating_add(1);
                let after = after.max(RETRY.delay(self.failures));
                self.retry = now.checked_add(after).unwrap_or(now);
            }
        }
    }
}
