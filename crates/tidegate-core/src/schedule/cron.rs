//! Five fields of cron: a set of numbers each, and the times of day that fit all of them.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Timestamp, ToSpan as _};

use super::ScheduleError;

/// Years that are searched for a day that fits: the longest wait is for a 29 February across a year 2100.
const YEARS: i16 = 9;

/// Clock changes that are walked through at most: zones change twice a year, a few of them four times.
const CHANGES: usize = 64;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What a field may say.
struct Field {
    name: &'static str,
    min: u8,
    /// The largest number, and where `*` and `N/STEP` end.
    max: u8,
    /// The largest number that is read.
    top: u8,
    /// Names of the numbers from `min` on.
    names: &'static [&'static str],
    accepted: &'static str,
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        min: 0,
        max: 59,
        top: 59,
        names: &[],
        accepted: "0 to 59, '*', a range 0-30, a step */5, or several with commas",
    },
    Field {
        name: "hour",
        min: 0,
        max: 23,
        top: 23,
        names: &[],
        accepted: "0 to 23, '*', a range 8-17, a step */2, or several with commas",
    },
    Field {
        name: "day-of-month",
        min: 1,
        max: 31,
        top: 31,
        names: &[],
        accepted: "1 to 31, '*', a range 1-7, a step */2, or several with commas",
    },
    Field {
        name: "month",
        min: 1,
        max: 12,
        top: 12,
        names: &MONTHS,
        accepted: "1 to 12 or jan to dec, '*', a range 3-6, a step */3, or several with commas",
    },
    Field {
        name: "day-of-week",
        min: 0,
        max: 6,
        // Sunday at the other end, as many write it.
        top: 7,
        names: &DAYS,
        accepted: "0 to 7 or sun to sat, '*', a range mon-fri, or several with commas",
    },
];

/// A set of times of day on a set of days. A bit for each number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// One of the fields of days is a star, so that a day has to fit both.
    both: bool,
    /// Every hour, so that it is minutes of hours that pass and no times of day.
    hourly: bool,
}

/// The numbers of a field.
struct Set {
    bits: u64,
    /// Whether it is `*`, alone or in a list.
    star: bool,
}

impl Cron {
    pub(super) fn of_word(word: &str) -> Option<Self> {
        let fields = match word {
            "hourly" => "0 * * * *",
            "daily" | "midnight" => "0 0 * * *",
            "weekly" => "0 0 * * 0",
            "monthly" => "0 0 1 * *",
            "yearly" | "annually" => "0 0 1 1 *",
            _ => return None,
        };
        Self::parse(fields).ok()
    }

    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let Ok(words) = <[&str; 5]>::try_from(words) else {
            return Err(ScheduleError::Fields {
                value: text.to_owned(),
                found: text.split_whitespace().count(),
            });
        };
        let read = |at: usize| FIELDS[at].read(words[at]);
        let (minutes, hours, days, months, weekdays) =
            (read(0)?, read(1)?, read(2)?, read(3)?, read(4)?);
        let cron = Self {
            minutes: minutes.bits,
            hours: hours.bits,
            days: days.bits,
            months: months.bits,
            // Both ends of the week are Sunday.
            weekdays: (weekdays.bits | weekdays.bits >> 7) & 0x7f,
            both: days.star || weekdays.star,
            hourly: hours.bits == (1 << 24) - 1,
        };
        if weekdays.star && !cron.has_a_day() {
            return Err(ScheduleError::Never {
                days: words[2].to_owned(),
                months: words[3].to_owned(),
            });
        }
        Ok(cron)
    }

    /// Whether any month of a leap year has one of the days.
    fn has_a_day(&self) -> bool {
        let first = u64::from(self.days.trailing_zeros());
        (1..=12_i8)
            .filter(|month| has(self.months, *month))
            .any(|month| {
                let last = Date::constant(2000, month, 1).days_in_month();
                first <= u64::from(last.unsigned_abs())
            })
    }

    pub(super) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if self.hourly {
            self.next_by_passing(after, zone)
        } else {
            self.next_by_day(after, zone)
        }
    }

    /// The next instant at which clocks show a time that fits. Between two changes of the clocks they are a constant away
    /// from UTC, so each such stretch is searched by itself.
    fn next_by_passing(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut from = whole(after)?.checked_add(1.second()).ok()?;
        for _ in 0..CHANGES {
            let offset = zone.to_offset(from);
            let change = zone.following(from).next().map(|change| change.timestamp());
            let found = self.next_time(offset.to_datetime(from));
            let found = found.and_then(|time| offset.to_timestamp(time).ok());
            match (found, change) {
                (Some(found), Some(change)) if found >= change => from = change,
                (None, Some(change)) => from = change,
                (found, _) => return found,
            }
        }
        None
    }

    /// The next time of day that fits, as an instant. Later times of day are never earlier instants, since of a time that
    /// exists twice only the first counts.
    fn next_by_day(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut time = zone.to_datetime(after);
        loop {
            let found = self.next_time(time)?;
            let instant = instant(found, zone)?;
            if instant > after {
                return Some(instant);
            }
            time = found.checked_add(1.minute()).ok()?;
        }
    }

    /// The first time of day that fits, this one or a later.
    fn next_time(&self, from: DateTime) -> Option<DateTime> {
        // The first whole minute.
        let begun = from.second() > 0 || from.subsec_nanosecond() > 0;
        let minute = from.date().at(from.hour(), from.minute(), 0, 0);
        let from = if begun {
            minute.checked_add(1.minute()).ok()?
        } else {
            minute
        };
        let day = self.next_day(from.date())?;
        let time = if day == from.date() {
            self.next_of_day(from.hour(), from.minute())
        } else {
            self.next_of_day(0, 0)
        };
        match time {
            Some((hour, minute)) => Some(day.at(hour, minute, 0, 0)),
            None => {
                let day = self.next_day(day.tomorrow().ok()?)?;
                let (hour, minute) = self.next_of_day(0, 0)?;
                Some(day.at(hour, minute, 0, 0))
            }
        }
    }

    fn next_of_day(&self, hour: i8, minute: i8) -> Option<(i8, i8)> {
        if has(self.hours, hour)
            && let Some(minute) = from(self.minutes, minute)
        {
            return Some((hour, minute));
        }
        Some((from(self.hours, hour + 1)?, from(self.minutes, 0)?))
    }

    fn next_day(&self, from: Date) -> Option<Date> {
        let mut day = from;
        let last = from.year().saturating_add(YEARS);
        while day.year() <= last {
            if !has(self.months, day.month()) {
                day = day.last_of_month().tomorrow().ok()?;
                continue;
            }
            let of_month = has(self.days, day.day());
            let of_week = has(self.weekdays, day.weekday().to_sunday_zero_offset());
            if if self.both {
                of_month && of_week
            } else {
                of_month || of_week
            } {
                return Some(day);
            }
            day = day.tomorrow().ok()?;
        }
        None
    }
}

/// When clocks show a time for the first time; for one that they leave out, when they leave it out.
fn instant(time: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let at = |offset: Offset| offset.to_timestamp(time).ok();
    match zone.to_ambiguous_timestamp(time).offset() {
        AmbiguousOffset::Unambiguous { offset } => at(offset),
        AmbiguousOffset::Fold { before, .. } => at(before),
        // By the offset after the change, the time would have been before it.
        AmbiguousOffset::Gap { after, .. } => Some(zone.following(at(after)?).next()?.timestamp()),
    }
}

/// A moment cut to its second.
fn whole(moment: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(moment.as_nanosecond().div_euclid(1_000_000_000) as i64).ok()
}

const fn has(bits: u64, number: i8) -> bool {
    bits & (1 << number) != 0
}

/// The smallest number of a set that is not below another.
fn from(bits: u64, number: i8) -> Option<i8> {
    let rest = bits >> number;
    (rest != 0).then(|| number + rest.trailing_zeros() as i8)
}

// === impl Field ===

impl Field {
    fn read(&self, text: &str) -> Result<Set, ScheduleError> {
        let mut set = Set {
            bits: 0,
            star: false,
        };
        for part in text.split(',') {
            let (first, last, step) = self.part(part).map_err(|wrong| ScheduleError::Field {
                field: self.name,
                value: text.to_owned(),
                wrong,
                accepted: self.accepted,
            })?;
            let is_star = matches!(part.split('/').next(), Some("*" | "?"));
            set.star |= is_star && step == 1;
            for number in (first..=last).step_by(usize::from(step)) {
                set.bits |= 1 << number;
            }
        }
        Ok(set)
    }

    /// First, last and step of `*`, `N`, `N-M`, and each of them with `/STEP`.
    fn part(&self, part: &str) -> Result<(u8, u8, u8), String> {
        if part.is_empty() {
            return Err("an empty entry".to_owned());
        }
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => (range, Some(self.step(step)?)),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*" | "?", _) => (self.min, self.max),
            (_, Some((first, last))) => (self.number(first)?, self.number(last)?),
            // With a step it goes on to the end.
            (one, None) if step.is_some() => (self.number(one)?, self.max),
            (one, None) => (self.number(one)?, self.number(one)?),
        };
        if first > last {
            return Err(format!("{range:?} ends before it begins"));
        }
        Ok((first, last, step.unwrap_or(1)))
    }

    fn number(&self, text: &str) -> Result<u8, String> {
        let named = self
            .names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text));
        let number = match named {
            Some(at) => u8::try_from(at).ok().map(|at| at + self.min),
            None => digits(text),
        };
        match number {
            Some(number) if (self.min..=self.top).contains(&number) => Ok(number),
            Some(_) => Err(format!("{text} is out of range")),
            None => Err(format!("{text:?} is not understood")),
        }
    }

    fn step(&self, text: &str) -> Result<u8, String> {
        digits(text)
            .filter(|step| *step > 0)
            .ok_or_else(|| format!("step {text:?} is not a number above zero"))
    }
}

/// A number without a sign. One that is too large for any field is the largest there is.
fn digits(text: &str) -> Option<u8> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u8::MAX))
}
