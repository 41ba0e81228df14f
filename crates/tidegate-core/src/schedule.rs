//! Schedules: when something is to happen, and what to do about it at a given moment.
//!
//! A [`Schedule`] is what people write: five fields of cron, a word such as `@hourly`, `@every 90s`, or one moment,
//! `@at 2026-11-23T18:00:00Z`. From it follow *ticks*, whole seconds of Unix time. A tick has no other identity than its
//! trigger and its moment, so that whoever acts on it twice, after a crash, can be told from two ticks.
//!
//! The rules are ours and small, rather than a library's: the message to somebody who wrote a wrong field is half of the
//! work, OpenFaaS's users bring what robfig/cron understands, and the rule for clock changes has to be one that can be said
//! in a sentence. As in robfig/cron, a day has to fit both of day-of-month and day-of-week where one of them is `*`, and
//! either where none is; `*/2` is a list there, not a star; a time zone may stand in front, `CRON_TZ=Europe/Berlin 0 8 * * *`.
//!
//! **Clock changes.** A schedule that names hours names times of day: a time that does not exist runs at the first instant
//! after the gap, and one that exists twice runs once, at the first. One whose hour is `*` names minutes of every hour that
//! passes, so it goes on through both hours of the same name. `@every` and `@at` know no time of day, and are unaffected.
//!
//! [`decide`] says what to do with a trigger at a moment. It is told the time, never asks for it, and may be told any:
//! its [`Cursor`] is the only memory there is.

mod cron;
mod decide;
mod error;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::parse_duration;
use cron::Cron;

pub use decide::{Cursor, Decision, GRACE, MAX_JITTER, MAX_MISSED, Missed, Plan, REWIND, decide};
pub use error::ScheduleError;

/// The zone where none is named.
pub const UTC: &str = "UTC";

/// Longest schedule in bytes: sixty minutes, written out one by one, fit many times.
pub const MAX_SCHEDULE: usize = 1024;

/// Shortest time between two ticks of `@every`: ticks are whole seconds.
const MIN_EVERY: Duration = Duration::from_secs(1);

/// Longest time between two ticks of `@every`: a leap year.
const MAX_EVERY: Duration = Duration::from_secs(366 * 24 * 3600);

/// When something is to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    rule: Rule,
    zone: TimeZone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Cron(Box<Cron>),
    /// At whole multiples of `seconds` after `from`.
    Every {
        seconds: i64,
        from: i64,
    },
    At(Timestamp),
}

impl Schedule {
    /// Reads a schedule. `zone` is the IANA name of the zone whose time it speaks of, unless it begins with `CRON_TZ=` or
    /// `TZ=`; `zones` are those that there are.
    ///
    /// # Errors
    /// A field does not read as one, no such day exists, or there is no such zone; the error names the field, what it says
    /// and what would do.
    pub fn parse(text: &str, zone: &str, zones: &TimeZoneDatabase) -> Result<Self, ScheduleError> {
        if text.len() > MAX_SCHEDULE {
            return Err(ScheduleError::Long { length: text.len() });
        }
        let text = text.trim();
        let prefix = ["CRON_TZ=", "TZ="]
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix));
        let (zone, rest) = match prefix {
            None => (zone, text),
            Some(named) => named
                .split_once(char::is_whitespace)
                .map(|(zone, rest)| (zone, rest.trim_start()))
                .unwrap_or((named, "")),
        };
        let zone = zone_of(zone, zones)?;
        let rule = match rest.strip_prefix('@') {
            None => Rule::Cron(Box::new(Cron::parse(rest)?)),
            Some(word) => word_of(word)?,
        };
        Ok(Self { rule, zone })
    }

    /// The same, with `@every` counted from a moment: that at which its trigger was made. Without it, from the Unix epoch.
    #[must_use]
    pub fn counted_from(mut self, moment: Timestamp) -> Self {
        if let Rule::Every { from, .. } = &mut self.rule {
            *from = moment.as_second();
        }
        self
    }

    /// The first tick after a moment; none where there is no further one.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Cron(cron) => cron.next(after, &self.zone),
            Rule::Every { seconds, from } => {
                let after = after.as_second().checked_sub(*from)?;
                let ticks = after.max(0).div_euclid(*seconds).checked_add(1)?;
                Timestamp::from_second(ticks.checked_mul(*seconds)?.checked_add(*from)?).ok()
            }
            Rule::At(at) => Some(*at).filter(|at| *at > after),
        }
    }

    /// The next ticks after a moment, at most so many.
    #[must_use]
    pub fn upcoming(&self, after: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next(after), |tick| self.next(*tick))
            .take(count)
            .collect()
    }

    /// The last tick that is after `after` and not after `until`.
    #[must_use]
    pub fn latest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let is_within = |tick: &Timestamp| *tick <= until;
        let mut latest = self.next(after).filter(is_within)?;
        // Ticks are whole seconds, so a search among seconds for the last that is followed by a tick in time finds it,
        // however many there are in between.
        let (mut low, mut high) = (latest.as_second(), until.as_second());
        while low < high {
            let middle = low + (high - low) / 2;
            let from = Timestamp::from_second(middle).ok()?;
            match self.next(from).filter(is_within) {
                Some(tick) => (low, latest) = (tick.as_second(), tick),
                None => high = middle,
            }
        }
        Some(latest)
    }

    /// The zone whose time it speaks of, by its IANA name.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Whether it is for one moment only.
    #[must_use]
    pub fn is_once(&self) -> bool {
        matches!(self.rule, Rule::At(_))
    }
}

fn zone_of(name: &str, zones: &TimeZoneDatabase) -> Result<TimeZone, ScheduleError> {
    if name.is_empty() || name.eq_ignore_ascii_case(UTC) {
        return Ok(TimeZone::UTC);
    }
    zones.get(name).map_err(|_| ScheduleError::Zone {
        value: name.to_owned(),
    })
}

fn word_of(text: &str) -> Result<Rule, ScheduleError> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    match word {
        "every" => every(rest),
        "at" => rest
            .parse::<Timestamp>()
            .ok()
            .and_then(|at| Timestamp::from_second(at.as_second()).ok())
            .map(Rule::At)
            .ok_or_else(|| ScheduleError::At {
                value: rest.to_owned(),
            }),
        _ => match Cron::of_word(word).filter(|_| rest.is_empty()) {
            Some(cron) => Ok(Rule::Cron(Box::new(cron))),
            None => Err(ScheduleError::Word {
                value: format!("@{text}"),
            }),
        },
    }
}

fn every(text: &str) -> Result<Rule, ScheduleError> {
    parse_duration(text)
        .ok()
        .filter(|every| (MIN_EVERY..=MAX_EVERY).contains(every) && every.subsec_nanos() == 0)
        .and_then(|every| i64::try_from(every.as_secs()).ok())
        .map(|seconds| Rule::Every { seconds, from: 0 })
        .ok_or_else(|| ScheduleError::Every {
            value: text.to_owned(),
        })
}

/// A tick as it is written down: RFC 3339, in UTC, with seconds.
#[must_use]
pub fn format_tick(tick: Timestamp) -> impl fmt::Display {
    tick.strftime("%Y-%m-%dT%H:%M:%SZ")
}

#[cfg(test)]
mod tests;
