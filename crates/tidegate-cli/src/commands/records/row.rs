//! A record as cells of a table.

use tidegate_document::{Cause, Record, Used};

use crate::commands::pages::cut;
use crate::table::Table;
use crate::time::moment;
use crate::units::{bytes, span};

/// Least widths of columns while following, since what will come is not known.
const COMING: [(&str, usize); 13] = [
    ("TIME", 24),
    ("NAMESPACE", 12),
    ("FUNCTION", 20),
    ("OUTCOME", 13),
    ("TOTAL", 7),
    ("QUEUE", 7),
    ("START", 7),
    ("RUN", 7),
    ("CAUSE", 18),
    ("ID", 32),
    ("REVISION", 12),
    ("CPU", 7),
    ("MEMORY", 7),
];

/// Which columns there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub(super) namespaces: bool,
    pub(super) wide: bool,
    /// Whether rows are still to come.
    pub(super) coming: bool,
}

impl Columns {
    pub(super) fn table(self, records: &[Record]) -> Table {
        let mut headings = vec!["TIME"];
        if self.namespaces {
            headings.push("NAMESPACE");
        }
        headings.extend([
            "FUNCTION", "OUTCOME", "STATUS", "TOTAL", "QUEUE", "START", "RUN", "CAUSE", "ID",
        ]);
        if self.wide {
            headings.extend([
                "REVISION", "CPU", "MEMORY", "IN", "OUT", "COST", "INSTANCE", "MESSAGE",
            ]);
        }
        let mut table = Table::new(&headings);
        if self.coming {
            let least = |heading: &&str| {
                let found = COMING.iter().find(|(name, _)| name == heading);
                found.map_or(0, |(_, width)| *width)
            };
            table.widen(&headings.iter().map(least).collect::<Vec<_>>());
        }
        for record in records {
            table.row(self.cells(record));
        }
        table
    }

    pub(super) fn cells(self, record: &Record) -> Vec<String> {
        let dash = || "-".to_owned();
        let times = &record.times;
        let mut cells = vec![moment(&record.received)];
        if self.namespaces {
            cells.push(record.namespace.clone());
        }
        cells.extend([
            record.function.clone(),
            record.outcome.clone(),
            record.status.map_or_else(dash, |s| s.to_string()),
            span(times.total_us),
            span(times.queue_us),
            start_us(record).map_or_else(dash, span),
            span(times.run_us),
            cause(&record.cause),
            record.id.clone(),
        ]);
        if self.wide {
            cells.extend([
                record.revision.clone().unwrap_or_else(dash),
                cpu(&record.used),
                memory(&record.used),
                bytes(record.bytes_in),
                bytes(record.bytes_out),
                record.cost.clone().unwrap_or_else(dash),
                record.instance.clone().unwrap_or_else(dash),
                record.message.as_deref().map_or_else(dash, cut),
            ]);
        }
        cells
    }
}

/// The start that it waited for, in microseconds.
pub(super) fn start_us(record: &Record) -> Option<u64> {
    let cold = record.times.cold.as_ref()?;
    Some(cold.sandbox_us + cold.runtime_us + cold.load_us)
}

/// What led to an invocation, in a few words: `call`, `schedule nightly`, `queue try 2`.
pub(super) fn cause(cause: &Cause) -> String {
    let mut text = cause.kind.clone();
    if let Some(name) = &cause.name {
        text.push_str(&format!(" {name}"));
    }
    if cause.attempt > 0 {
        text.push_str(&format!(" try {}", cause.attempt));
    }
    text
}

/// Processor time, where it can be told from that of neighbours.
pub(super) fn cpu(used: &Used) -> String {
    used.cpu_us.map_or_else(|| unknown(used), span)
}

/// The instance's highest memory, likewise.
pub(super) fn memory(used: &Used) -> String {
    used.memory_peak.map_or_else(|| unknown(used), bytes)
}

fn unknown(used: &Used) -> String {
    match used.how.as_str() {
        "shared" => "shared".to_owned(),
        _ => "-".to_owned(),
    }
}
