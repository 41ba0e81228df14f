//! What is kept of invocations: records, what functions print, usage by the hour, and what it costs.

#![forbid(unsafe_code)]

mod account;
mod encode;
mod error;
mod follow;
mod line;
mod options;
mod pending;
mod query;
mod recorder;
mod shared;
mod today;
mod usage;

pub use account::{Account, Fate};
pub use encode::OUTCOMES;
pub use error::Error;
pub use follow::{Follow, Followed};
pub use line::{Line, MAX_LINE, Stream};
pub use options::{Damage, MAX_REPORTED, MAX_SEGMENT_BYTES, OpenReport, Options, Retention, Stats};
pub use query::{LineQuery, MAX_PAGE, Page, Query, Token};
pub use recorder::Recorder;
pub use usage::{MAX_USAGE_ROWS, Period, Totals, UsageQuery, UsageRow, billed_us};
