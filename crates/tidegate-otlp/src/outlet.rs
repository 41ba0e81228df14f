//! Where what is to be exported goes in. Nothing here waits or fails: what has no room is counted.

use std::fmt;
use std::sync::Arc;

use prost::Message as _;
use tidegate_core::trace::Step;
use tidegate_records::Line;

use crate::lines::Entry;
use crate::proto::LogRecord;
use crate::queue::Bounded;
use crate::stats::{Counters, Signal, Stats};

/// Takes what leaves no record, and lines. Cheap to clone; made before the exporter, so that nothing of a start is missed.
#[derive(Clone)]
pub struct Outlet {
    pub(crate) lines: Arc<Bounded<Entry>>,
    pub(crate) steps: Arc<Bounded<Step>>,
    pub(crate) metrics: Arc<Counters>,
    takes_steps: bool,
    takes_lines: bool,
}

impl Outlet {
    /// With room for so many bytes of each kind; whatever of the two is not exported is not taken.
    #[must_use]
    pub fn new(queue_bytes: usize, traces: bool, logs: bool) -> Self {
        Self {
            takes_steps: traces,
            takes_lines: logs,
            lines: Arc::new(Bounded::new(queue_bytes, Arc::default())),
            steps: Arc::new(Bounded::new(queue_bytes, Arc::default())),
            metrics: Arc::default(),
        }
    }

    /// A function printed a line.
    pub fn line(&self, line: &Line) {
        if self.takes_lines {
            let bytes = line.text.len();
            self.lines.push(Entry::Function(line.clone()), bytes);
        }
    }

    pub(crate) fn server_line(&self, record: LogRecord) {
        if self.takes_lines {
            let bytes = record.encoded_len();
            self.lines.push(Entry::Server(record), bytes);
        }
    }

    /// Something was done that leaves no record.
    pub fn step(&self, step: Step) {
        if self.takes_steps && step.trace.sampled {
            let bytes = step.failure.as_ref().map_or(0, String::len);
            self.steps.push(step, bytes);
        }
    }

    /// How it goes.
    #[must_use]
    pub fn stats(&self, signal: Signal) -> Stats {
        match signal {
            Signal::Traces => self.steps.counters().read(),
            Signal::Metrics => self.metrics.read(),
            Signal::Logs => self.lines.counters().read(),
        }
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outlet")
    }
}
