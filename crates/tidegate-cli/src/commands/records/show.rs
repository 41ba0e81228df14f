//! `records show`.

use std::collections::HashSet;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::json;
use tidegate_core::InvocationId;
use tidegate_document::{LogLine, Record, RecordList};

use super::super::describe::Page;
use super::row::{cause, cpu, memory, start_us};
use super::tree::{Node, Tree, received_us};
use super::unkept;
use crate::client::{self, ANSWER, Client};
use crate::commands::logs::{of_record, request};
use crate::context::Context;
use crate::error::Result;
use crate::time::moment;
use crate::units::{bytes, span};

/// Invocations shown at most: more are a list, not a picture.
const MAX_NODES: usize = 200;

/// How far up the causes are followed. Calls between functions end at 32 by themselves.
const MAX_UP: usize = 64;

/// Pages read of what each asked for; they may be empty while the server looks.
const MAX_PAGES: usize = 100;

/// Invocations asked for of each, a page.
const CHILDREN: &str = "200";

/// Lines of the log that are held; `logs --record` has no limit.
const MAX_LINES: usize = 10_000;

#[derive(Args)]
pub(super) struct Show {
    /// The invocation: what 'records' shows under ID, and answers carry as X-Request-Id
    #[arg(value_parser = request)]
    id: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,
}

/// How one is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    #[default]
    Text,
    /// As JSON: the record, all that it hangs together with, and what it printed
    Json,
}

impl Show {
    pub(super) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        let found = record(&client, &self.id).await;
        let asked = match found {
            Ok(asked) => Some(asked),
            // One that was accepted to run later has a record for each try, and none of its own.
            Err(error) if error.status() == Some(404) => {
                if children(&client, &self.id).await?.0.is_empty() {
                    return Err(unkept(error, &self.id));
                }
                None
            }
            Err(error) => return Err(error.into()),
        };
        let (tree, cut) = gather(&client, &self.id, asked.clone()).await?;
        let lines = match &asked {
            Some(_) => {
                let mut all = Vec::new();
                lines(&client, &self.id, &mut all).await?;
                all
            }
            // What its tries wrote.
            None => {
                let mut all = Vec::new();
                for child in &tree.nodes[tree.asked].children {
                    lines(&client, &tree.nodes[*child].id, &mut all).await?;
                    if all.len() == MAX_LINES {
                        break;
                    }
                }
                all
            }
        };
        if self.output == Output::Json {
            let related: Vec<&Record> = tree
                .nodes
                .iter()
                .filter_map(|n| n.record.as_ref())
                .collect();
            return context.json(&json!({ "record": asked, "related": related, "logs": lines }));
        }
        let mut text = match &asked {
            Some(record) => format!("{}\n", page(record)),
            None => String::new(),
        };
        let drawn = context.size().and_then(|(width, _)| {
            tree.bars(width, context.colored_stdout())
                .map(|lines| lines.join("\n"))
        });
        text.push_str(&drawn.unwrap_or_else(|| tree.table()));
        text.push('\n');
        context.text(&text)?;
        if cut {
            context.note(format!(
                "more hangs together with it than the {MAX_NODES} shown; 'tidegate records --parent ID' lists what one asked for"
            ));
        }
        if !lines.is_empty() {
            let mut text = "\n".to_owned();
            for line in &lines {
                let stream = match line.stream.as_str() {
                    "stdout" => "",
                    other => other,
                };
                text.push_str(&format!(
                    "{} {stream:<6} {}\n",
                    moment(&line.time),
                    line.text
                ));
            }
            context.text(&text)?;
        }
        Ok(())
    }
}

async fn record(client: &Client, id: &str) -> Result<Record, client::Error> {
    client.get(&format!("/records/{id}"), &[], ANSWER).await
}

/// What an invocation asked for, by when it arrived, and whether there is more.
async fn children(client: &Client, id: &str) -> Result<(Vec<Record>, bool), client::Error> {
    // Nothing that it led to arrived before it, so that nothing older need be looked at.
    let since = arrived(id).map(|at| at.to_string());
    let mut all: Vec<Record> = Vec::new();
    let mut next: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let mut query = vec![("parent", id), ("limit", CHILDREN)];
        query.extend(since.as_deref().map(|at| ("since", at)));
        query.extend(next.as_deref().map(|next| ("continue", next)));
        let page: RecordList = client.get("/records", &query, ANSWER).await?;
        all.extend(page.items);
        next = page.next.filter(|next| !next.is_empty());
        if next.is_none() || all.len() >= MAX_NODES {
            break;
        }
    }
    all.sort_by_key(received_us);
    Ok((all, next.is_some()))
}

/// When an invocation was named, a little earlier so that clocks may differ: its id begins with the milliseconds.
fn arrived(id: &str) -> Option<Timestamp> {
    const CLOCKS: i64 = 1_000;
    let id: InvocationId = id.parse().ok()?;
    let ms = i64::try_from(id.as_u128() >> 80).ok()?;
    Timestamp::from_millisecond(ms - CLOCKS).ok()
}

/// Adds what an invocation wrote, until there are [`MAX_LINES`].
async fn lines(client: &Client, id: &str, all: &mut Vec<LogLine>) -> Result {
    let mut came = of_record(client, id).await?;
    while all.len() < MAX_LINES {
        match came.next().await? {
            Some(line) => all.push(line),
            None => break,
        }
    }
    Ok(())
}

/// What led to it, and all that came of that; and whether there is more.
async fn gather(client: &Client, id: &str, asked: Option<Record>) -> Result<(Tree, bool)> {
    let mut root = (id.to_owned(), asked);
    let mut seen: HashSet<String> = HashSet::from([id.to_owned()]);
    let mut cut = false;
    for up in 0.. {
        let parent = root.1.as_ref().and_then(|r| r.cause.parent.clone());
        let Some(parent) = parent.filter(|p| !seen.contains(p)) else {
            break;
        };
        if up == MAX_UP {
            cut = true;
            break;
        }
        seen.insert(parent.clone());
        let record = match record(client, &parent).await {
            Ok(record) => Some(record),
            Err(error) if error.status() == Some(404) => None,
            Err(error) => return Err(error.into()),
        };
        root = (parent, record);
    }
    let mut nodes = vec![Node {
        id: root.0,
        record: root.1,
        children: Vec::new(),
    }];
    let mut known: HashSet<String> = HashSet::from([nodes[0].id.clone()]);
    let mut at = 0;
    while at < nodes.len() {
        let (items, more) = children(client, &nodes[at].id).await?;
        cut |= more;
        for record in items {
            if !known.insert(record.id.clone()) {
                continue;
            }
            if nodes.len() == MAX_NODES {
                cut = true;
                break;
            }
            let child = nodes.len();
            nodes[at].children.push(child);
            nodes.push(Node {
                id: record.id.clone(),
                record: Some(record),
                children: Vec::new(),
            });
        }
        at += 1;
    }
    let asked = nodes.iter().position(|n| n.id == id).unwrap_or(0);
    Ok((Tree { nodes, asked }, cut))
}

fn page(record: &Record) -> String {
    let mut page = Page::default();
    page.row("Invocation", &record.id);
    page.row("Function", &record.function);
    page.row("Namespace", &record.namespace);
    page.row("Revision", record.revision.as_deref().unwrap_or_default());
    let mut why = cause(&record.cause);
    if let Some(parent) = &record.cause.parent {
        why.push_str(&format!(", of {parent}"));
    }
    page.row("Cause", &why);
    page.row("Received", &record.received);
    let mut outcome = record.outcome.clone();
    if let Some(status) = record.status {
        outcome.push_str(&format!(" ({status})"));
    }
    page.row("Outcome", &outcome);
    page.row("Message", record.message.as_deref().unwrap_or_default());
    let times = &record.times;
    page.row(
        "Time",
        &format!(
            "{}: {} waiting, {} running",
            span(times.total_us),
            span(times.queue_us),
            span(times.run_us)
        ),
    );
    if let (Some(cold), Some(start)) = (&times.cold, start_us(record)) {
        page.row(
            "Start",
            &format!(
                "{}: {} sandbox, {} runtime, {} code",
                span(start),
                span(cold.sandbox_us),
                span(cold.runtime_us),
                span(cold.load_us)
            ),
        );
    }
    page.row(
        "Used",
        &match record.used.how.as_str() {
            "alone" => format!(
                "{} processor, {} memory",
                cpu(&record.used),
                memory(&record.used)
            ),
            "shared" => "shared with other calls on the instance".to_owned(),
            _ => "not measured".to_owned(),
        },
    );
    page.row(
        "Billed",
        &format!(
            "{} at {}",
            span(record.billed_us),
            bytes(record.memory_limit)
        ),
    );
    page.row("Cost", record.cost.as_deref().unwrap_or_default());
    page.row(
        "Bytes",
        &format!(
            "{} in, {} out",
            bytes(record.bytes_in),
            bytes(record.bytes_out)
        ),
    );
    page.row("Instance", record.instance.as_deref().unwrap_or_default());
    if let Some(trace) = &record.trace {
        page.row("Trace", &format!("{}, span {}", trace.id, trace.span));
    }
    page.text()
}
