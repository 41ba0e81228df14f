//! `top`.
//!
//! Everything that is shown of calls comes from the page of metrics, whose size is bounded by the functions and not by their
//! calls, so that looking costs a busy server nothing. Processor time is that of usage, and memory that of the newest
//! records; where a server or a key gives no access to those, their columns are empty.

mod metrics;
mod rows;
mod screen;

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use tidegate_core::parse_duration;
use tidegate_document::{RecordList, UsageList};
use tokio::time::Instant;

use self::metrics::Metrics;
use self::rows::{History, Row, Sample};
use self::screen::Screen;
use super::stop::Stop;
use crate::client::{ANSWER, Client};
use crate::context::Context;
use crate::error::Result;
use crate::table::Table;
use crate::units::{amount, bytes, span};

/// Between two looks unless told otherwise: as fast as one reads.
const USUAL: &str = "2s";

/// The shortest time between two looks.
const LEAST: Duration = Duration::from_millis(100);

/// Records that are looked at for memory: the newest, which is what "of late" means there.
const RECORDS: &str = "1000";

/// How far back records are looked at.
const LATELY: &str = "1m";

const BAD: Style = AnsiColor::Red.on_default();
const DIM: Style = Style::new().dimmed();

const EXAMPLES: &str = "\
Examples:
  tidegate top                         the namespace's functions, until q or Ctrl-C
  tidegate top -A --sort p99           all functions, the slowest first
  tidegate top --once -o json          one look for a script

Times are estimated from the buckets of /metrics, over the last minute at most. Memory is the highest of the last
thousand invocations that had an instance for themselves.";

/// Watch what functions do
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Top {
    /// Functions of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Between two looks
    #[arg(short, long, value_name = "TIME", value_parser = interval, default_value = USUAL)]
    interval: Duration,
    /// What comes first
    #[arg(long, value_enum, default_value_t, value_name = "COLUMN")]
    sort: Sort,
    /// One look, over one interval
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// End after so many looks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,
}

/// What rows are ordered by, the largest first but for names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    #[default]
    Calls,
    Errors,
    P99,
    Memory,
    Cpu,
    Name,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Columns
    #[default]
    Table,
    /// A JSON array a look, a line each
    Json,
}

impl Top {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        // Usage is asked for from here on, so that an hour that ends takes nothing away.
        let since = Timestamp::now().to_string();
        let mut history = History::new(self.look(context, &client, &since).await?);
        let looks = match (self.once, self.count) {
            (true, _) => Some(1),
            (false, count) => count,
        };
        let drawn = context.size().is_some() && !self.once && self.output == Output::Table;
        if drawn {
            self.draw(context, &client, &since, history, looks).await
        } else {
            let mut done = 0;
            while looks.is_none_or(|looks| done < looks) {
                tokio::time::sleep(self.interval).await;
                history.push(self.look(context, &client, &since).await?);
                let rows = history.rows(self.sort);
                if self.output == Output::Json {
                    context.json_line(&rows)?;
                } else {
                    if done > 0 {
                        context.line("")?;
                    }
                    let text = self.table(context, &rows).render();
                    context.text(&format!("{text}\n"))?;
                }
                done += 1;
            }
            Ok(())
        }
    }

    /// On a terminal, again and again in its place.
    async fn draw(
        &self,
        context: &mut Context,
        client: &Client,
        since: &str,
        mut history: History,
        looks: Option<u32>,
    ) -> Result {
        let mut stop = Stop::new()?;
        let mut screen = Screen::new(context)?;
        let mut done = 0;
        // What is known at once is shown at once; rates follow.
        let mut trouble = None;
        loop {
            let rows = history.rows(self.sort);
            let page = self.page(screen.context(), &history, &rows, trouble.as_deref());
            screen.show(&page)?;
            if looks == Some(done) {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                () = screen.told_to_end() => return Ok(()),
                () = stop.told() => return Ok(()),
            }
            // A server that restarts is waited for, rather than ended with.
            let look = tokio::select! {
                look = self.look(screen.context(), client, since) => look,
                () = screen.told_to_end() => return Ok(()),
                () = stop.told() => return Ok(()),
            };
            match look {
                Ok(sample) => {
                    history.push(sample);
                    trouble = None;
                }
                Err(error) => trouble = Some(error.message),
            }
            done += 1;
        }
    }

    async fn look(&self, context: &Context, client: &Client, since: &str) -> Result<Sample> {
        let only = (!self.all_namespaces).then(|| context.namespace.clone());
        let mut query = Vec::new();
        query.extend(only.as_deref().map(|n| ("namespace", n)));
        let page = client.metrics().await?;
        let at = Instant::now();
        let metrics = Metrics::parse(&page, only.as_deref());
        let mut usage = query.clone();
        usage.push(("since", since));
        let usage = client.get::<UsageList>("/usage", &usage, ANSWER).await;
        query.extend([("since", LATELY), ("limit", RECORDS)]);
        let records = client.get::<RecordList>("/records", &query, ANSWER).await;
        Ok(Sample {
            at,
            metrics,
            usage: usage.ok().map(|list| list.items),
            records: records.ok().map(|list| list.items),
        })
    }

    /// The lines of a whole screen.
    fn page(
        &self,
        context: &Context,
        history: &History,
        rows: &[Row],
        trouble: Option<&str>,
    ) -> Vec<String> {
        let sum = |of: fn(&Row) -> f64| amount(rows.iter().map(of).sum());
        let place = match self.all_namespaces {
            true => "all namespaces".to_owned(),
            false => format!("namespace {}", context.namespace),
        };
        let mut lines = vec![
            format!(
                "{} · {place} · {} calls/s, {} in flight, {} instances",
                context.url,
                sum(|r| r.calls_per_second),
                sum(|r| r.in_flight as f64),
                sum(|r| r.instances as f64),
            ),
            match trouble {
                Some(trouble) => context.styled_out(BAD, trouble),
                None => context.styled_out(DIM, "q ends"),
            },
        ];
        lines.extend(
            self.table(context, rows)
                .render()
                .lines()
                .map(str::to_owned),
        );
        let idle = history.functions().saturating_sub(rows.len() as u64);
        if rows.is_empty() {
            lines.push(context.styled_out(DIM, "nothing was called since the server started"));
        } else if idle > 0 && self.all_namespaces {
            lines.push(context.styled_out(DIM, &format!("and {idle} that nobody has called")));
        }
        lines
    }

    fn table(&self, _: &Context, rows: &[Row]) -> Table {
        let mut headings = vec![
            "FUNCTION",
            "CALLS/S",
            "ERRORS",
            "P50",
            "P99",
            "IN FLIGHT",
            "WAITING",
            "INSTANCES",
            "MEMORY",
            "CPU",
        ];
        if self.all_namespaces {
            headings.insert(0, "NAMESPACE");
        }
        let mut table = Table::new(&headings);
        let dash = || "-".to_owned();
        for row in rows {
            let mut cells = vec![
                row.function.clone(),
                amount(row.calls_per_second),
                row.error_percent
                    .map_or_else(dash, |p| format!("{}%", amount(p))),
                row.p50_us.map_or_else(dash, span),
                row.p99_us.map_or_else(dash, span),
                row.in_flight.to_string(),
                row.waiting.to_string(),
                row.instances.to_string(),
                row.memory_peak.map_or_else(dash, bytes),
                row.cpu_cores
                    .map_or_else(dash, |c| format!("{}%", amount(c * 100.0))),
            ];
            if self.all_namespaces {
                cells.insert(0, row.namespace.clone());
            }
            table.row(cells);
        }
        table
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|e| e.to_string())?;
    if interval < LEAST {
        return Err("choose at least 100ms, so that looking costs the server nothing".to_owned());
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_keep_their_distance() {
        assert_eq!(interval(USUAL), Ok(Duration::from_secs(2)));
        assert!(interval("1ms").is_err());
    }
}
