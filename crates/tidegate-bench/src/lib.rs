//! What the benchmark programs share.
//!
//! A figure of requests per second says little on a machine that others share. So Tidegate is measured in the same minute
//! as what it is built from, reduced to the bone: `bench-hello` is a server that does nothing, `bench-proxy` a reverse
//! proxy that decides nothing. The ratio to the second is what Tidegate's routing, admission, accounting and logging cost;
//! nothing in these programs is tuned beyond what Tidegate itself may do.
//!
//! `bench-floor` is to the queue what those are to calls: a file that is appended to and synced, and nothing else.
//! `bench-client` registers functions and times first calls, for which a load generator that repeats one request is no use.

#![forbid(unsafe_code)]
// What these programs print is their result.
#![allow(clippy::print_stdout)]

mod append;
mod listen;
mod percentile;

pub use append::Appender;
pub use listen::serve;
pub use percentile::percentile;
