//! What is wrong with a schedule: which part of it, what it says, and what would do.

use super::MAX_SCHEDULE;

/// A schedule that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// It is too long to be read.
    #[error("schedule has {length} bytes; at most {MAX_SCHEDULE} are read")]
    Long {
        /// How long it is.
        length: usize,
    },
    /// It has not five fields.
    #[error(
        "schedule {value:?} has {found} fields; write five (minute hour day-of-month month day-of-week), @hourly, @daily, @weekly, @monthly, @yearly, '@every 90s' or '@at 2026-11-23T18:00:00Z'{}",
        if *found == 6 || *found == 7 { "; there is none for seconds" } else { "" }
    )]
    Fields {
        /// The schedule.
        value: String,
        /// How many it has.
        found: usize,
    },
    /// A field does not read as one.
    #[error("{field} {value:?}: {wrong}; write {accepted}")]
    Field {
        /// `minute`, `hour`, `day-of-month`, `month` or `day-of-week`.
        field: &'static str,
        /// What the field says.
        value: String,
        /// What is wrong with it.
        wrong: String,
        /// What would do.
        accepted: &'static str,
    },
    /// There is no such day in any year.
    #[error(
        "day-of-month {days:?}: no such day is in month {months:?}; such a schedule never comes"
    )]
    Never {
        /// What the field of days says.
        days: String,
        /// What the field of months says.
        months: String,
    },
    /// A word that is none.
    #[error(
        "schedule {value:?} is unknown; write @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually, '@every 90s' or '@at 2026-11-23T18:00:00Z'"
    )]
    Word {
        /// The word.
        value: String,
    },
    /// `@every` with something that is no time between ticks.
    #[error(
        "@every {value:?} is no interval; write whole seconds from 1s to 366d, such as 90s or 1h30m"
    )]
    Every {
        /// What stands there.
        value: String,
    },
    /// `@at` with something that is no moment.
    #[error(
        "@at {value:?} is no moment; write RFC 3339 with an offset, such as 2026-11-23T18:00:00Z"
    )]
    At {
        /// What stands there.
        value: String,
    },
    /// There is no such time zone.
    #[error(
        "time zone {value:?} is unknown; write an IANA name such as UTC, Europe/Berlin or America/New_York"
    )]
    Zone {
        /// What stands there.
        value: String,
    },
    /// A word that says nothing of missed ticks.
    #[error("missed {value:?} is unknown; choose 'skip', 'once' or 'all'")]
    Missed {
        /// What stands there.
        value: String,
    },
    /// More jitter than there may be.
    #[error("jitter {value:?} is none; write a duration of up to 1h, such as 30s")]
    Jitter {
        /// What stands there.
        value: String,
    },
}
