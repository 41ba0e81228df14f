//! `cost`.
//!
//! The server tells what each function used and what that costs; what is added up here is added exactly, since amounts come
//! as decimal text.

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};
use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tidegate_core::Name;
use tidegate_document::{CostPage, CostRow};

use super::functions::get;
use crate::client::ANSWER;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::money::Money;
use crate::table::Table;
use crate::time::when;
use crate::units::{amount, bytes};

/// Where nobody says since when: what most bills speak of.
const SINCE: &str = "30d";

/// Rows of a chart at most: the hours for which a server keeps usage, unless told otherwise.
const MAX_ROWS: usize = 400 * 24;

/// Columns of a chart where output is no terminal.
const CHART: usize = 80;

/// Least and most columns of a bar.
const MIN_BAR: usize = 10;
const MAX_BAR: usize = 60;

const BAR: Style = AnsiColor::Cyan.on_default();

const EXAMPLES: &str = "\
Examples:
  tidegate cost                                    each function of the namespace, the last 30 days
  tidegate cost --by day --chart                   day by day, as bars
  tidegate cost --by namespace --since 24h         each namespace
  tidegate cost --function thumbnail --by hour --since 12h
  tidegate cost --by function -A -o csv > cost.csv

Prices are the server's, its settings 'prices.*'; without any, usage is told and costs nothing.
Without 'prices.currency', costs are plain numbers.";

/// Show what functions used, and what that costs
///
/// By the hour in which invocations ended, UTC. A restart of the server neither loses nor counts twice.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Cost {
    /// Only of this function
    #[arg(long, value_name = "NAME", conflicts_with = "all_namespaces")]
    function: Option<Name>,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// From the hour of then on: 24h, 7d, or a time such as 2026-05-01T00:00:00Z [default: 30d]
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<String>,
    /// Only hours that begin before then
    #[arg(long, value_name = "WHEN", value_parser = when)]
    until: Option<String>,
    /// What a row sums up; of namespaces, all are shown
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    by: By,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,
    /// Draw costs as bars, or GB-seconds where nothing has a price
    #[arg(long)]
    chart: bool,
}

/// What a row sums up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum By {
    Hour,
    Day,
    #[default]
    Function,
    Namespace,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Columns
    #[default]
    Table,
    /// Comma-separated values, with all that is known
    Csv,
    /// JSON, likewise
    Json,
}

/// What belongs to one row.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    invocations: u64,
    failed: u64,
    gb_seconds: f64,
    billed_seconds: f64,
    cpu_seconds: f64,
    bytes_in: u64,
    bytes_out: u64,
    cold_starts: u64,
    queued: u64,
    idle_gb_seconds: f64,
    cost: String,
    #[serde(skip)]
    money: Money,
}

/// All groups, and what they come to.
#[derive(Serialize)]
struct Told<'a> {
    currency: &'a str,
    items: &'a [Group],
    total: String,
}

impl Cost {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        let everywhere = self.all_namespaces || self.by == By::Namespace;
        let by = match self.by {
            By::Hour => "hour",
            By::Day => "day",
            By::Function | By::Namespace => "total",
        };
        let mut query = vec![("by", by)];
        if !everywhere {
            query.push(("namespace", &context.namespace));
        }
        query.extend(self.function.as_ref().map(|f| ("function", f.as_str())));
        query.push(("since", self.since.as_deref().unwrap_or(SINCE)));
        query.extend(self.until.as_deref().map(|t| ("until", t)));
        let page: CostPage = client.get("/cost", &query, ANSWER).await?;
        if let (Some(function), true) = (&self.function, page.items.is_empty()) {
            // Told as such if there is none of that name; one that is gone may have cost something all the same.
            get(&client, &context.namespace, function.as_str()).await?;
        }
        let groups = self.groups(&page.items, everywhere)?;
        let total: Money = groups.iter().map(|g| g.money).sum();
        match self.output {
            Output::Json => {
                return context.json(&Told {
                    currency: &page.currency,
                    items: &groups,
                    total: total.exact(),
                });
            }
            Output::Csv => return context.line(csv(&groups, &page.currency)),
            Output::Table => {}
        }
        if groups.is_empty() {
            context.note("nothing was used in that time");
            return Ok(());
        }
        // Prices may be of no currency that anybody named.
        let unit = match (page.currency.as_str(), total == Money::default()) {
            ("", true) => None,
            (currency, _) => Some(currency),
        };
        let text = if self.chart {
            chart(context, &self.without_gaps(groups), unit)
        } else {
            self.table(&groups, unit, total).render()
        };
        context.line(text)?;
        if unit.is_none() {
            context.note("nothing has a price; the server's settings 'prices.*' give them");
        }
        Ok(())
    }

    fn groups(&self, rows: &[CostRow], everywhere: bool) -> Result<Vec<Group>> {
        let mut groups: BTreeMap<[String; 2], Group> = BTreeMap::new();
        for row in rows {
            let usage = &row.usage;
            let key = match self.by {
                By::Hour | By::Day => [usage.start.clone(), String::new()],
                By::Function => [usage.namespace.clone(), usage.function.clone()],
                By::Namespace => [usage.namespace.clone(), String::new()],
            };
            let group = groups.entry(key).or_insert_with(|| {
                let function = self.by == By::Function;
                Group {
                    start: matches!(self.by, By::Hour | By::Day).then(|| usage.start.clone()),
                    namespace: (self.by == By::Namespace || function && everywhere)
                        .then(|| usage.namespace.clone()),
                    function: function.then(|| usage.function.clone()),
                    ..Group::default()
                }
            });
            let money = Money::parse(&row.cost.total).ok_or_else(|| {
                Error::unexpected(format!(
                    "the server sent {:?} where an amount of money is expected",
                    row.cost.total
                ))
            })?;
            group.add(row, money);
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        // Times stay in order; of the others the dearest come first, then the most used.
        if matches!(self.by, By::Function | By::Namespace) {
            groups.sort_by(|a, b| {
                let dearer = b.money.cmp(&a.money);
                dearer.then(b.gb_seconds.total_cmp(&a.gb_seconds))
            });
        }
        Ok(groups)
    }

    /// With a group of nothing for each hour or day between two in which something was used, so that a chart is to scale.
    fn without_gaps(&self, groups: Vec<Group>) -> Vec<Group> {
        let step = match self.by {
            By::Hour => SignedDuration::from_hours(1),
            By::Day => SignedDuration::from_hours(24),
            By::Function | By::Namespace => return groups,
        };
        let mut all: Vec<Group> = Vec::new();
        let time = |group: &Group| group.start.as_deref()?.parse::<Timestamp>().ok();
        for group in groups {
            let mut next = all
                .last()
                .and_then(time)
                .and_then(|t| t.checked_add(step).ok());
            while let (Some(gap), Some(here)) = (next, time(&group))
                && gap < here
                && all.len() < MAX_ROWS
            {
                all.push(Group {
                    start: Some(gap.to_string()),
                    ..Group::default()
                });
                next = gap.checked_add(step).ok();
            }
            all.push(group);
        }
        all
    }

    /// `unit`: the currency of the prices, perhaps without a name; nothing where nothing has a price.
    fn table(&self, groups: &[Group], unit: Option<&str>, total: Money) -> Table {
        let names = groups[0].names();
        let mut headings: Vec<String> = names.iter().map(|(n, _)| n.to_uppercase()).collect();
        headings.extend(
            [
                "INVOCATIONS",
                "FAILED",
                "GB-SECONDS",
                "CPU-SECONDS",
                "OUT",
                "COLD",
                "IDLE GB-S",
            ]
            .map(str::to_owned),
        );
        let priced = unit.is_some();
        headings.extend(unit.map(|unit| match unit {
            "" => "COST".to_owned(),
            currency => currency.to_owned(),
        }));
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        let mut table = Table::new(&headings);
        for group in groups {
            let mut cells: Vec<String> = group.names().into_iter().map(|(_, name)| name).collect();
            cells.extend(group.numbers());
            if priced {
                cells.push(group.money.to_string());
            }
            table.row(cells);
        }
        if groups.len() > 1 {
            let all = groups.iter().fold(Group::default(), Group::with);
            let mut cells = vec![String::new(); names.len()];
            "total".clone_into(&mut cells[0]);
            cells.extend(all.numbers());
            if priced {
                cells.push(total.to_string());
            }
            table.row(cells);
        }
        table
    }
}

impl Group {
    fn add(&mut self, row: &CostRow, money: Money) {
        let usage = &row.usage;
        let ok = usage.invocations.by_outcome.get("ok").copied();
        *self = self.clone().with(&Self {
            invocations: usage.invocations.total,
            failed: usage.invocations.total.saturating_sub(ok.unwrap_or(0)),
            gb_seconds: usage.gb_seconds,
            billed_seconds: usage.billed_seconds,
            cpu_seconds: usage.cpu_seconds,
            bytes_in: usage.bytes_in,
            bytes_out: usage.bytes_out,
            cold_starts: usage.cold_starts,
            queued: usage.queued,
            idle_gb_seconds: usage.idle_gb_seconds,
            money,
            ..Self::default()
        });
    }

    /// This one and another.
    fn with(mut self, other: &Self) -> Self {
        self.invocations += other.invocations;
        self.failed += other.failed;
        self.gb_seconds += other.gb_seconds;
        self.billed_seconds += other.billed_seconds;
        self.cpu_seconds += other.cpu_seconds;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.cold_starts += other.cold_starts;
        self.queued += other.queued;
        self.idle_gb_seconds += other.idle_gb_seconds;
        self.money = [self.money, other.money].into_iter().sum();
        self.cost = self.money.exact();
        self
    }

    /// What it is a group of: the columns' names and what stands there.
    fn names(&self) -> Vec<(&'static str, String)> {
        let start = self.start.as_deref().map(|s| ("start", short(s)));
        let namespace = self.namespace.clone().map(|n| ("namespace", n));
        let function = self.function.clone().map(|n| ("function", n));
        [start, namespace, function].into_iter().flatten().collect()
    }

    fn numbers(&self) -> Vec<String> {
        vec![
            self.invocations.to_string(),
            self.failed.to_string(),
            amount(self.gb_seconds),
            amount(self.cpu_seconds),
            bytes(self.bytes_out),
            self.cold_starts.to_string(),
            amount(self.idle_gb_seconds),
        ]
    }
}

/// An hour or a day without the zeros behind it: `2026-05-01T12:00Z`.
fn short(start: &str) -> String {
    let head = start.get(..16).unwrap_or(start);
    format!("{head}Z")
}

fn chart(context: &Context, groups: &[Group], unit: Option<&str>) -> String {
    let priced = unit.is_some();
    let value = |g: &Group| {
        if priced {
            g.money.as_f64()
        } else {
            g.gb_seconds
        }
    };
    let unit = unit.unwrap_or("GB-seconds");
    let most = groups.iter().map(value).fold(0.0, f64::max);
    let mut table = Table::new(&["", ""]);
    for group in groups {
        let names: Vec<String> = group.names().into_iter().map(|(_, name)| name).collect();
        let shown = match priced {
            true => group.money.to_string(),
            false => amount(group.gb_seconds),
        };
        let shown = format!("{shown} {unit}");
        table.row(vec![names.join("/"), shown.trim_end().to_owned()]);
    }
    let width = context.size().map_or(CHART, |(width, _)| width);
    let room = width.saturating_sub(table.width() + 2);
    let room = room.clamp(MIN_BAR, MAX_BAR);
    let lines = table.render_padded();
    let drawn = lines.iter().skip(1).zip(groups).map(|(line, group)| {
        let bar = bar(value(group), most, room);
        let bar = context.styled_out(BAR, &bar);
        format!("{line}  {bar}").trim_end().to_owned()
    });
    drawn.collect::<Vec<_>>().join("\n")
}

/// A bar of eighths of columns; the largest is as wide as there is room, and what is not nothing is seen.
fn bar(value: f64, most: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if value <= 0.0 || most <= 0.0 {
        return String::new();
    }
    let eighths = (value / most * (width * 8) as f64).round() as usize;
    let eighths = eighths.clamp(1, width * 8);
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

fn csv(groups: &[Group], currency: &str) -> String {
    let mut lines = vec![
        "start,namespace,function,invocations,failed,gb_seconds,billed_seconds,cpu_seconds,bytes_in,bytes_out,\
         cold_starts,queued,idle_gb_seconds,cost,currency"
            .to_owned(),
    ];
    for g in groups {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        lines.push(format!(
            "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
            text(&g.start),
            text(&g.namespace),
            text(&g.function),
            g.invocations,
            g.failed,
            g.gb_seconds,
            g.billed_seconds,
            g.cpu_seconds,
            g.bytes_in,
            g.bytes_out,
            g.cold_starts,
            g.queued,
            g.idle_gb_seconds,
            g.cost,
            quoted(currency),
        ));
    }
    lines.join("\n")
}

/// A field that may hold anything; names and numbers hold nothing that needs it.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_to_scale() {
        assert_eq!(bar(10.0, 10.0, 4), "████");
        assert_eq!(bar(5.5, 10.0, 4), "██▎");
        assert_eq!(bar(0.0001, 10.0, 4), "▏");
        assert_eq!(bar(0.0, 10.0, 4), "");
        assert_eq!(bar(0.0, 0.0, 4), "");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
