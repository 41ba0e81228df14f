//! Traces, metrics and logs to a collector, by OTLP over HTTP.
//!
//! Nearly all that there is to tell is told already: records hold every invocation's place in its trace and where its
//! time went, and the page of metrics has the counters. So nothing is measured here. An [`Exporter`] reads records as
//! they come, like anybody who follows them, which costs calls nothing, needs no buffer (while a collector is away, its
//! spans wait on disk) and obeys what functions say of their records. It reads the page of metrics as a scraper would.
//! Only what leaves no record, lines among it, comes by an [`Outlet`], a bounded queue that never holds anybody up.
//!
//! A batch is sent until it is taken, with growing pauses; what is refused or too old is counted and said. Encoding and
//! sending are ours: the messages are few and do not change, and an SDK would bring a second pipeline with its own
//! buffers, threads and HTTP client, to be fed with spans that are all over by then. OTLP over gRPC is left out: every
//! collector takes both.
//!
//! Nothing here knows the engine, the store or dialects.

#![forbid(unsafe_code)]

mod client;
mod delivery;
mod exporter;
mod lines;
mod options;
mod outlet;
mod page;
mod proto;
mod queue;
mod spans;
mod stats;

pub use exporter::{Exporter, MetricsPage};
pub use lines::ServerLog;
pub use options::{Attributes, Bounds, Endpoint, Headers, Options, ParseError};
pub use outlet::Outlet;
pub use stats::{Signal, Stats};
