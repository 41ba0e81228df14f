//! What is kept of invocations: records, what functions print, usage by the hour, and what it costs.
//!
//! Every call is recorded, so what a record costs is paid by every call. The thread that served it encodes some sixty
//! bytes into a buffer of its own, under a lock that nobody else wants; one thread writes what has come together, twenty
//! times a second. There is no database below: secondary indexes would cost several times what the call itself does, and
//! what is kept is never changed and is removed by age. So records are appended to *segments*, files by time; a full one
//! gets an index, made once, off the path; and removing what is old is unlinking a file.
//!
//! A *batch* is what is written at once: records, the names they refer to, and what functions used since the batch
//! before. It has checksums, and counts wholly or not at all. Damage costs a batch and is reported; a crash costs what
//! had not been written; neither loses or doubles the usage of what was.
//!
//! A record can be read the moment [`Account::ended`] has returned: whoever asks has the writer publish what is pending
//! first, and a batch that is published and not yet written is read from memory. A full disk therefore changes nothing
//! for readers or for calls, until the buffers are full: then records of successful calls are given up and counted, then
//! the others, which is said just as loudly. Sums of usage are never given up. What one namespace may fill of what is kept
//! is bounded as well (`share.rs`), so that none pushes out what the others left.
//!
//! Nothing here knows HTTP, the engine or the store: records come in as values of the core.

#![forbid(unsafe_code)]

mod account;
mod cost;
mod encode;
mod error;
mod follow;
mod line;
mod open;
mod options;
mod pending;
mod query;
mod recorder;
mod room;
mod search;
mod segment;
mod share;
mod shared;
mod today;
mod usage;
mod writer;

pub use account::{Account, Fate};
pub use cost::{Amount, Cost, Price, PriceError, Prices};
pub use encode::OUTCOMES;
pub use error::Error;
pub use follow::{Follow, Followed};
pub use line::{Line, MAX_LINE, Stream};
pub use options::{Damage, MAX_REPORTED, MAX_SEGMENT_BYTES, OpenReport, Options, Retention, Stats};
pub use query::{LineQuery, MAX_PAGE, Page, Query, Token};
pub use recorder::{MAX_LINES, Recorder};
pub use usage::{MAX_USAGE_ROWS, Period, Totals, UsageQuery, UsageRow, billed_us};

#[cfg(test)]
mod tests;
