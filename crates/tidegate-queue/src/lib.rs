//! The durable queue: invocations that were accepted to run later.

#![forbid(unsafe_code)]

mod error;
mod submission;

pub use error::{AcceptError, Error, OpenError};
pub use submission::{
    Answer, Body, Callback, Destination, Ending, Finished, MAX_HEAD_BYTES, MAX_INLINE_BYTES,
    MAX_KEY_BYTES, Payload, Spooled, Submission, Target,
};
