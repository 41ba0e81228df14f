//! The durable queue: invocations that were accepted to run later.
//!
//! An `Ok` of [`Queue::accept`] means that the submission is on disk, in a SQLite file of the queue's own. One thread
//! writes, and what comes while a commit is being synced goes into the next one. Everything about an item's life is decided
//! by the rules in [`tidegate_core::queue`]; this crate is what they call a table, and the thread that owns the shard.
//!
//! Leases are in memory, so work begins without a write: an item costs one commit when it comes and one when it is
//! done. After a restart nothing is leased, a new epoch has begun, and what was being worked on is worked on again: at
//! least once, and more than once only after a crash.
//!
//! What is due is found by function ([`Queue::due`], [`Queue::take`]), so that whoever deals out work can be fair to all of
//! them; memory holds a few counts a function and nothing an item, whatever is queued.
//!
//! Each row carries sums of its content, the log is examined before SQLite sees it, and the last commit is noted in a file
//! of its own; what is damaged is taken out to the dead letters, or reported at opening, and the rest goes on.

#![forbid(unsafe_code)]

mod bytes;
mod care;
mod clock;
mod codec;
mod dead;
mod dispatch;
mod error;
mod examine;
mod hot;
mod lanes;
mod listing;
mod log;
mod open;
mod queue;
mod reserve;
mod salvage;
mod schema;
mod serving;
mod submission;
mod sums;
mod table;
mod tidy;
mod writer;

pub use clock::{SystemTimeSource, TimeSource};
pub use dead::{DeadFilter, DeadLetter};
pub use dispatch::{
    Allowance, Attempt, Courier, CourierOptions, DispatchOptions, DispatchStats, Dispatcher,
    Drained, Forbidden, Listener, Ran, Rate, Runner, Signing, SigningKey, Told, plain,
};
pub use error::{AcceptError, Error, OpenError};
pub use examine::Examined;
pub use lanes::Lane;
pub use listing::{Entry, Filter, MAX_PAGE, Page};
pub use open::OpenReport;
pub use queue::{Accepted, Cancelled, Options, Queue, Settlement, Shown, Stats, Work};
pub use submission::{
    Answer, Body, Callback, Destination, Ending, Finished, MAX_HEAD_BYTES, MAX_INLINE_BYTES,
    MAX_KEY_BYTES, Payload, Spooled, Submission, Target,
};
pub use writer::Taken;
