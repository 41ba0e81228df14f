//! The loop.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use tokio::sync::mpsc;
use tokio::task::{Id as TaskId, JoinError, JoinSet};
use tokio::time::Instant;

use crate::table::{Table, Work, Worked};
use crate::{Change, Clock, Cursors, Fire, Refused, Tick};

/// Triggers that are acted on at the same time: enough for a queue to commit many in one go, and no more than a moment in
/// which thousands tick may take of it.
pub const AT_ONCE: usize = 64;

/// Longest time between two looks at the clock: what a clock that was set costs in lateness.
pub const LOOK: Duration = Duration::from_secs(5);

/// How far the clock may go apart from the timer's between two looks without having been set.
const DRIFT: Duration = Duration::from_secs(1);

/// Changes that wait to be taken in; whoever tells them waits beyond it.
const CHANGES: usize = 256;

/// Longest pause that whoever refuses a tick can ask for.
const MAX_AFTER: Duration = Duration::from_secs(300);

/// Acts on triggers until it is dropped, or there is nobody any more who tells of them.
pub async fn run(
    fire: Arc<dyn Fire>,
    cursors: Arc<dyn Cursors>,
    clock: Arc<dyn Clock>,
    zones: TimeZoneDatabase,
) {
    let (changes, told) = mpsc::channel(CHANGES);
    let mut runner = Runner {
        table: Table::new(zones),
        last: (clock.now(), Instant::now()),
        fire,
        cursors: cursors.clone(),
        clock,
        working: JoinSet::new(),
        slots: HashMap::new(),
    };
    tokio::select! {
        () = cursors.follow(changes) => {}
        () = runner.run(told) => {}
    }
}

struct Runner {
    table: Table,
    fire: Arc<dyn Fire>,
    cursors: Arc<dyn Cursors>,
    clock: Arc<dyn Clock>,
    working: JoinSet<Worked>,
    /// What each task works for, and of which epoch.
    slots: HashMap<TaskId, Work>,
    /// The last look at both clocks.
    last: (Timestamp, Instant),
}

impl Runner {
    async fn run(&mut self, mut changes: mpsc::Receiver<Change>) {
        loop {
            let now = self.look();
            while self.working.len() < AT_ONCE
                && let Some(work) = self.table.due(now)
            {
                self.begin(work);
            }
            let has_room = self.working.len() < AT_ONCE;
            let next = self.table.first().filter(|_| has_room);
            let until = next.map(|next| now.duration_until(next));
            let until = until.map_or(LOOK, |until| {
                Duration::try_from(until).unwrap_or_default().min(LOOK)
            });
            tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => {
                        self.take_in(change);
                        // What has come meanwhile is taken in at one look at the timers.
                        while let Ok(change) = changes.try_recv() {
                            self.take_in(change);
                        }
                    }
                    None => return,
                },
                Some(done) = self.working.join_next_with_id() => self.ended(done),
                () = tokio::time::sleep(until) => {}
            }
        }
    }

    /// What time it is, and whether the clock was set since the last look.
    fn look(&mut self) -> Timestamp {
        let (now, steady) = (self.clock.now(), Instant::now());
        let (before, was) = std::mem::replace(&mut self.last, (now, steady));
        let passed = before.duration_until(now);
        let really = (steady - was).try_into().unwrap_or(passed);
        let apart = passed.checked_sub(really).unwrap_or(passed);
        if apart.unsigned_abs() > DRIFT {
            tracing::warn!(by = %apart, "the clock was set; schedules follow it");
            self.table.look_at_all(now);
        }
        now
    }

    fn take_in(&mut self, change: Change) {
        match change {
            Change::Listing => self.table.listing(),
            Change::Listed => self.table.listed(),
            Change::Put(known) => self.table.put(*known, self.clock.now()),
            Change::Gone(id) => self.table.gone(&id),
        }
    }

    fn begin(&mut self, work: Work) {
        let (fire, cursors, clock) = (self.fire.clone(), self.cursors.clone(), self.clock.clone());
        let kept = Work {
            id: work.id.clone(),
            state: work.state.clone(),
            written: work.written.clone(),
            decision: None,
            ..work
        };
        let task = async move { act(&*fire, &*cursors, &*clock, work).await };
        let handle = self.working.spawn(task);
        self.slots.insert(handle.id(), kept);
    }

    fn ended(&mut self, done: Result<(TaskId, Worked), JoinError>) {
        let now = self.clock.now();
        let (id, worked) = match done {
            Ok((id, worked)) => (id, Some(worked)),
            Err(error) => (error.id(), None),
        };
        let Some(work) = self.slots.remove(&id) else {
            return;
        };
        // A task that panicked has said so; the trigger is tried again, and the others go on.
        let worked = worked.unwrap_or(Worked {
            epoch: work.epoch,
            state: work.state,
            written: None,
            again: Some(Duration::ZERO),
        });
        self.table.done(work.slot, worked, now);
    }
}

/// Acts on the ticks that are due, and writes down how far it came.
async fn act(fire: &dyn Fire, cursors: &dyn Cursors, clock: &dyn Clock, work: Work) -> Worked {
    let (id, mut state) = (&work.id, work.state);
    let mut again = None;
    if let Some(decision) = work.decision {
        for at in decision.fire {
            let rewinds = decision.cursor.rewinds;
            match fire.fire(id, Tick { at, rewinds }).await {
                Ok(fired) => {
                    state.cursor = Some(at);
                    state.last_tick = Some(at);
                    state.last_fired = Some(clock.now());
                    state.last_invocation = fired.invocation;
                    state.fired += 1;
                    state.error = String::new();
                }
                Err(Refused::Never { message }) => {
                    tracing::warn!(trigger = %id.name, namespace = %id.namespace, error = message, "a tick was given up");
                    state.cursor = Some(at);
                    state.error = message;
                }
                Err(Refused::Later { message, after }) => {
                    tracing::warn!(trigger = %id.name, namespace = %id.namespace, error = message, "a tick has to wait");
                    state.error = message;
                    again = Some(after.unwrap_or_default().min(MAX_AFTER));
                    break;
                }
            }
        }
        if again.is_none() {
            state.cursor = Some(decision.cursor.at);
        }
    }
    let mut written = None;
    if state != work.written {
        match cursors.write(id, &state).await {
            Ok(()) => written = Some(state.clone()),
            Err(error) => {
                tracing::warn!(trigger = %id.name, namespace = %id.namespace, error = error.0, "a trigger's status could not be written");
                again = again.or(Some(Duration::ZERO));
            }
        }
    }
    Worked {
        epoch: work.epoch,
        state,
        written,
        again,
    }
}

#[cfg(test)]
mod tests;
