//! The sums, in memory for the hours that are still added to.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_core::FunctionKey;

use super::blocks::Hour;
use super::{MAX_USAGE_ROWS, Period, Place, Totals, UsageQuery, UsageRow, checkpoint, days};
use crate::Error;
use crate::encode::Entry;
use crate::options::Damage;

/// Hours before the present one that stay in memory: calls that ended just before the hour did come a little later.
const KEEP_HOURS: u64 = 1;
/// Most hours in memory: more only come together when the clock leaps about.
const MAX_HOURS: usize = 16;

/// Usage of all functions.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    hours: BTreeMap<u64, Hour>,
    /// Number of the last checkpoint.
    number: u64,
    /// Whether there is something that the last checkpoint does not have.
    changed: bool,
    /// Where the last checkpoint stands.
    checkpoint: Place,
    /// Where the one before it stands.
    before: Place,
}

/// What was found at start.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) store: Store,
    /// Batches from here on are to be counted.
    pub(crate) place: Place,
    /// Whether there was a checkpoint. There is one from the first start on.
    pub(crate) sound: bool,
}

impl Store {
    pub(crate) fn open(folder: PathBuf) -> Result<Loaded, Error> {
        fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        let read = checkpoint::read(&folder);
        let found = read.map_err(Error::io("read", &folder))?;
        let sound = found.is_some();
        let found = found.unwrap_or_default();
        Ok(Loaded {
            place: found.place,
            sound,
            store: Self {
                folder,
                hours: found.hours,
                number: found.number,
                changed: false,
                checkpoint: found.place,
                before: found.place,
            },
        })
    }

    /// Adds what a batch says, which ends at `end`, where it is not counted already.
    pub(crate) fn add(&mut self, end: Place, entries: &[Entry], damage: &mut dyn FnMut(Damage)) {
        for entry in entries {
            for (number, totals) in &entry.hours {
                let folder = &self.folder;
                let hour = self.hours.entry(*number);
                // It may be over, and in the file of its day.
                let hour = hour.or_insert_with(|| from_day(folder, *number, damage));
                if end > hour.covered {
                    let row = hour.rows.entry(entry.key.clone());
                    row.or_default().add(totals);
                    self.changed = true;
                }
            }
        }
    }

    /// Whether there is something that the last checkpoint does not have.
    pub(crate) const fn changed(&self) -> bool {
        self.changed
    }

    /// Segments from this number on are needed to count anew what the checkpoints do not have.
    pub(crate) const fn needed(&self) -> u64 {
        self.before.segment
    }

    /// Writes a checkpoint: all batches before `place` have been added and are safely on disk. `hour` is the present one;
    /// those that are over go to their days.
    pub(crate) fn checkpoint(&mut self, place: Place, hour: u64) -> Result<(), Error> {
        let folder = &self.folder;
        let over = |hours: &BTreeMap<u64, Hour>| {
            let (first, _) = hours.first_key_value()?;
            let over = first + KEEP_HOURS < hour || hours.len() > MAX_HOURS;
            over.then_some(*first)
        };
        let mut gone = Vec::new();
        let mut left = std::mem::take(&mut self.hours);
        let mut result = Ok(());
        while let Some(first) = over(&left) {
            let Some(sums) = left.remove(&first) else {
                break;
            };
            result = days::append(folder, first, place, &sums);
            gone.push((first, sums));
            if result.is_err() {
                break;
            }
        }
        let number = self.number + 1;
        let result = result.and_then(|()| checkpoint::write(folder, number, place, &left));
        self.hours = left;
        if let Err(source) = result {
            // An hour that is in its day already is found there to have been counted up to `place`; in memory it goes on.
            self.hours.extend(gone);
            return Err(Error::io("write to", folder)(source));
        }
        self.number = number;
        self.before = self.checkpoint;
        self.checkpoint = place;
        self.changed = false;
        Ok(())
    }

    /// Removes days that ended before this one.
    pub(crate) fn retire(&self, day: u64) -> Result<(), Error> {
        let remove = || {
            for old in days::list(&self.folder)?.into_iter().filter(|d| *d < day) {
                days::remove(&self.folder, old)?;
            }
            Ok(())
        };
        remove().map_err(Error::io("clear", &self.folder))
    }

    /// What each namespace was billed on a day, in bytes times microseconds.
    pub(crate) fn billed_on(
        &self,
        day: u64,
        damage: &mut dyn FnMut(Damage),
    ) -> Result<HashMap<Arc<str>, u128>, Error> {
        let read = days::read(&self.folder, day, damage);
        let mut hours = read.map_err(Error::io("read", &self.folder))?;
        for (hour, sums) in self.hours.range(day * 24..(day + 1) * 24) {
            hours.insert(*hour, sums.clone());
        }
        let mut billed = HashMap::new();
        for (key, totals) in hours.values().flat_map(|hour| &hour.rows) {
            *billed.entry(key.namespace.clone()).or_default() += totals.billed_byte_us;
        }
        Ok(billed)
    }

    /// What of the hours in memory a query may be about; the rest of the answer is in [`answer`].
    pub(crate) fn snapshot(&self, query: &UsageQuery) -> Snapshot {
        let (from, to) = hours_of(query);
        let hours = self.hours.range(from..to.max(from));
        let matching = hours.map(|(hour, sums)| {
            let rows = sums.rows.iter().filter(|(key, _)| query.matches(key));
            let rows = rows.map(|(key, totals)| (key.clone(), totals.clone()));
            let covered = sums.covered;
            (
                *hour,
                Hour {
                    covered,
                    rows: rows.collect(),
                },
            )
        });
        Snapshot {
            folder: self.folder.clone(),
            hours: matching.collect(),
        }
    }
}

fn from_day(folder: &Path, hour: u64, damage: &mut dyn FnMut(Damage)) -> Hour {
    let day = days::read(folder, hour / 24, damage);
    let hours = day.map(|mut hours| hours.remove(&hour));
    hours
        .unwrap_or_else(|error| {
            tracing::error!(%error, "an earlier hour's usage cannot be read; it begins anew");
            None
        })
        .unwrap_or_default()
}

/// What was in memory when a query came.
#[derive(Debug)]
pub(crate) struct Snapshot {
    folder: PathBuf,
    hours: BTreeMap<u64, Hour>,
}

fn hours_of(query: &UsageQuery) -> (u64, u64) {
    let from = query.since.map_or(0, |since| since.div_ceil(3600));
    let to = query.until.map_or(u64::MAX, |until| until.div_ceil(3600));
    (from, to)
}

/// Answers a query from the files of the days, and from what was in memory. Blocks.
pub(crate) fn answer(
    query: &UsageQuery,
    mut snapshot: Snapshot,
    damage: &mut dyn FnMut(Damage),
) -> Result<Vec<UsageRow>, Error> {
    let folder: &Path = &snapshot.folder;
    let (from, to) = hours_of(query);
    let mut rows = Rows {
        by: query.by,
        rows: BTreeMap::new(),
    };
    let listed = days::list(folder).map_err(Error::io("read", folder))?;
    for day in listed {
        if (day + 1) * 24 <= from || day * 24 >= to {
            continue;
        }
        let hours = days::read(folder, day, damage).map_err(Error::io("read", folder))?;
        for (hour, sums) in hours {
            // What is in memory holds what is in the file, and more.
            if hour >= from && hour < to && !snapshot.hours.contains_key(&hour) {
                rows.add(hour, sums, |key| query.matches(key))?;
            }
        }
    }
    for (hour, sums) in std::mem::take(&mut snapshot.hours) {
        rows.add(hour, sums, |_| true)?;
    }
    let rows = rows.rows.into_iter();
    let mut rows: Vec<_> = rows
        .map(|((_, function), (hour, totals))| UsageRow {
            function,
            start: hour * 3600,
            totals,
        })
        .collect();
    rows.sort_by(|a, b| (a.start, &a.function).cmp(&(b.start, &b.function)));
    Ok(rows)
}

/// Rows that are summed up.
struct Rows {
    by: Period,
    rows: BTreeMap<(u64, Arc<FunctionKey>), (u64, Totals)>,
}

impl Rows {
    fn add(
        &mut self,
        hour: u64,
        sums: Hour,
        matches: impl Fn(&FunctionKey) -> bool,
    ) -> Result<(), Error> {
        let (period, start) = match self.by {
            Period::Hour => (hour, hour),
            Period::Day => (hour / 24, hour / 24 * 24),
            Period::All => (0, hour),
        };
        for (key, totals) in sums.rows.into_iter().filter(|(key, _)| matches(key)) {
            let row = self.rows.entry((period, key));
            let row = row.or_insert_with(|| (start, Totals::default()));
            row.0 = row.0.min(start);
            row.1.add(&totals);
            if self.rows.len() > MAX_USAGE_ROWS {
                return Err(Error::TooManyRows {
                    max: MAX_USAGE_ROWS,
                });
            }
        }
        Ok(())
    }
}

impl UsageQuery {
    fn matches(&self, key: &FunctionKey) -> bool {
        self.namespace.as_ref().is_none_or(|n| *n == key.namespace)
            && self.function.as_ref().is_none_or(|f| f == key)
    }
}
