//! A trigger, as far as its schedule goes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use serde::{Deserialize, Serialize};
use tidegate_core::schedule::{Cursor, Missed, Plan, Schedule, ScheduleError, format_tick};

/// Which trigger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name there.
    pub name: Arc<str>,
    /// Unique for ever: a trigger that is made again under the same name is another.
    pub uid: Arc<str>,
}

/// A moment at which a trigger is to be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tick {
    /// The moment, by its schedule.
    pub at: Timestamp,
    /// How often the clock had gone back far by then.
    pub rewinds: u32,
}

/// What is wanted of a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its schedule, as it is written.
    pub schedule: String,
    /// The zone that it speaks of, unless it names its own.
    pub zone: String,
    /// What is done about missed ticks.
    pub missed: Missed,
    /// Each tick is late by up to so much.
    pub jitter: Duration,
    /// Nothing is done while it is.
    pub paused: bool,
}

/// A trigger that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which.
    pub id: Id,
    /// When it was made.
    pub made: Timestamp,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// How far it has come.
    pub state: State,
}

/// How far a trigger has come: what is written in its status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// Every tick up to this moment is dealt with; absent before it was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Timestamp>,
    /// How often the clock had gone back behind that.
    #[serde(skip_serializing_if = "is_zero")]
    pub rewinds: u32,
    /// The schedule and zone that the cursor speaks of.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub of: String,
    /// Whether it was paused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The last tick that was acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_tick: Option<Timestamp>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_fired: Option<Timestamp>,
    /// The invocation that came of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_invocation: String,
    /// How many ticks were acted on.
    pub fired: u64,
    /// When ticks were last found to have been missed, and not made up for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_missed: Option<Timestamp>,
    /// Why the last tick was not accepted, where it was not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

// === impl Tick ===

impl Tick {
    /// What tells this tick of this trigger from every other, however often it is acted on: `UID@2026-11-23T18:00:00Z`.
    #[must_use]
    pub fn key(&self, id: &Id) -> String {
        let tick = format_tick(self.at);
        match self.rewinds {
            0 => format!("{}@{tick}", id.uid),
            n => format!("{}@{tick}#{n}", id.uid),
        }
    }
}

// === impl Wanted ===

impl Wanted {
    /// The plan that the rules work with.
    ///
    /// # Errors
    /// The schedule does not read as one, or there is no such zone.
    pub fn plan(
        &self,
        uid: &Arc<str>,
        made: Timestamp,
        zones: &TimeZoneDatabase,
    ) -> Result<Plan, ScheduleError> {
        let schedule = Schedule::parse(&self.schedule, &self.zone, zones)?;
        Ok(Plan {
            schedule: schedule.counted_from(made),
            missed: self.missed,
            jitter: self.jitter,
            uid: uid.clone(),
        })
    }

    /// The schedule and zone in a word, to tell that they changed.
    #[must_use]
    pub fn of(&self) -> String {
        format!("{} {}", self.zone, self.schedule)
    }
}

// === impl State ===

impl State {
    /// The state once it is known at this moment what is wanted. A schedule that is new to a trigger begins with it, and so
    /// does what comes after a pause.
    #[must_use]
    pub(crate) fn seen(mut self, wanted: &Wanted, made: Timestamp, now: Timestamp) -> Self {
        let of = wanted.of();
        let from = match self.cursor {
            None => made,
            Some(_) if self.of != of || self.paused && !wanted.paused => now,
            Some(cursor) => cursor,
        };
        self.cursor = Some(from);
        self.of = of;
        self.paused = wanted.paused;
        self
    }

    pub(crate) fn at(&self, otherwise: Timestamp) -> Cursor {
        Cursor {
            at: self.cursor.unwrap_or(otherwise),
            rewinds: self.rewinds,
        }
    }
}
