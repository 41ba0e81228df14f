//! What functions use, summed up by the hour.
//!
//! Each batch on disk carries what was used since the one before. A [`Store`] adds that up in memory for the hours that
//! are still being added to; an hour that is over goes to a file of its day. Every sum says up to which [`Place`] in the
//! segments it has counted, and passes over what lies before: so a start reads the sums, replays the batches behind
//! them, and counts nothing twice, whichever of the files it finds old or missing.

mod blocks;
mod checkpoint;
mod days;
mod store;
mod totals;

pub(crate) use store::{Store, answer};
pub(crate) use totals::{GB_SECOND, hour_of, made_us};
pub use totals::{Totals, billed_us};

use std::sync::Arc;

use tidegate_core::FunctionKey;

/// A place in the segments of records: everything before it has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Number of the segment.
    pub(crate) segment: u64,
    /// Bytes into it.
    pub(crate) offset: u64,
}

/// Which sums.
#[derive(Clone, Debug, Default)]
pub struct UsageQuery {
    /// Only of this namespace.
    pub namespace: Option<Arc<str>>,
    /// Only of this function.
    pub function: Option<FunctionKey>,
    /// Only hours that begin at this moment or later, in seconds since the Unix epoch.
    pub since: Option<u64>,
    /// Only hours that begin before this moment, in seconds since the Unix epoch.
    pub until: Option<u64>,
    /// What one row sums up.
    pub by: Period,
}

/// What one [`UsageRow`] sums up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Period {
    /// An hour.
    #[default]
    Hour,
    /// A day, in UTC.
    Day,
    /// The whole time asked for.
    All,
}

/// What one function used in some time.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageRow {
    /// Which.
    pub function: Arc<FunctionKey>,
    /// When the time begins, in seconds since the Unix epoch; for [`Period::All`] the first hour in which it used
    /// something.
    pub start: u64,
    /// How much.
    pub totals: Totals,
}

/// Most rows that a query answers with. More would be a report that nobody reads, in memory that calls need: ask by the
/// day, or for one namespace.
pub const MAX_USAGE_ROWS: usize = 200_000;
