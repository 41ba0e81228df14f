//! `trigger`.

use std::fs::File;
use std::io::Read;

use clap::{Args, Subcommand};
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use tidegate_core::Name;
use tidegate_core::schedule::{Missed, Schedule, UTC};
use tidegate_document::{
    API_VERSION, Metadata, TRIGGER, Trigger as Document, TriggerFired, TriggerLater, TriggerList,
    TriggerRequest, TriggerSpec,
};

use super::describe::Page;
use crate::client::{self, ANSWER};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::table::Table;

/// Largest body that is read, in bytes. The server's own limit; more would not be sent.
const MAX_BODY: u64 = 128 * 1024;

/// The head of the options that say how often a call is made.
const RETRYING: &str = "Retrying";

/// Call functions by a schedule
///
/// Each tick becomes a queued call, which is made even if the server is killed meanwhile.
#[derive(Args)]
pub(crate) struct Trigger {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Have a function called by a schedule
    ///
    /// A time of day that clocks leave out runs at the first instant after the gap, and one that they show twice runs once,
    /// at the first. Minutes of every hour go on through both hours.
    Create(Box<Create>),
    /// List triggers
    #[command(visible_alias = "ls")]
    List {
        /// Those of all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        /// Print them as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show a trigger, with its next five times
    Show {
        /// Its name
        name: Name,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Let nothing happen until it is resumed; nothing is made up for then
    Pause {
        /// Its name
        name: Name,
    },
    /// Let a paused trigger go on
    Resume {
        /// Its name
        name: Name,
    },
    /// Have its function called now, whatever the schedule says
    Fire {
        /// Its name
        name: Name,
    },
    /// Delete a trigger; what it started goes on
    Delete {
        /// Its name
        name: Name,
        /// Do not fail if it is not there
        #[arg(long)]
        ignore_missing: bool,
    },
}

#[derive(Args)]
struct Create {
    /// Its name
    name: Name,
    /// When: '*/5 * * * *' (minute hour day-of-month month day-of-week), @hourly, @daily, @weekly, @monthly, @yearly,
    /// '@every 90s', or once: '@at 2026-11-23T18:00:00Z'
    #[arg(short, long)]
    schedule: String,
    /// The function to call
    #[arg(short, long)]
    function: Name,
    /// The time zone whose time of day the schedule speaks of, by its IANA name [default: UTC]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// What to do about ticks that were missed: skip them, make up for the last one, or for all (at most 100)
    #[arg(long, value_parser = ["skip", "once", "all"], default_value = Missed::Once.as_str())]
    missed: String,
    /// Make each tick late by up to this much, always by the same, so that not all come at once: 30s
    #[arg(long, value_name = "TIME")]
    jitter: Option<String>,
    /// Begin paused
    #[arg(long)]
    paused: bool,
    /// The body: a text, @FILE, or - for standard input
    #[arg(
        short,
        long,
        visible_alias = "payload",
        value_name = "DATA|@FILE|-",
        allow_hyphen_values = true
    )]
    data: Option<String>,
    /// What the body is [default: application/json if it is JSON, else text/plain]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// A header, 'Name: value'; can be given many times
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = super::invoke::header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The method [default: POST]
    #[arg(short = 'X', long)]
    method: Option<String>,
    /// What follows the function's own address: /rest?query
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// How often a call is made again after a failure, in place of what the function says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000), help_heading = RETRYING)]
    retries: Option<u32>,
    /// Which answers are failures: none, 429 and 502 to 504, 429 and all from 500, or all from 400
    #[arg(long, value_parser = ["never", "unavailable", "server", "all"], help_heading = RETRYING)]
    retry_on: Option<String>,
    /// The pause after the first failure, which doubles: 10s
    #[arg(long, value_name = "TIME", help_heading = RETRYING)]
    backoff: Option<String>,
    /// The longest pause: 5m
    #[arg(long, value_name = "TIME", help_heading = RETRYING)]
    max_backoff: Option<String>,
    /// How much chance is in pauses
    #[arg(long, value_parser = ["full", "equal", "none"], help_heading = RETRYING)]
    retry_jitter: Option<String>,
    /// When a call that has not succeeded is given up: 1h
    #[arg(long, value_name = "TIME", help_heading = RETRYING)]
    max_age: Option<String>,
    /// Take the place of a trigger of this name, if there is one
    #[arg(long)]
    replace: bool,
}

impl Trigger {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let base = format!("/namespaces/{}/triggers", context.namespace);
        match self.command {
            Command::Create(create) => create.run(context, &base).await,
            Command::List {
                all_namespaces,
                json,
            } => list(context, &base, all_namespaces, json).await,
            Command::Show { name, json } => {
                let client = context.client()?;
                let found = client.get(&format!("{base}/{name}"), &[], ANSWER).await;
                let trigger: Document = found.map_err(|e| told(e, context, &name))?;
                if json {
                    return context.json(&trigger);
                }
                context.line(show(&trigger).trim_end())
            }
            Command::Pause { name } => {
                ask(context, &base, &name, "pause").await?;
                context.note(format!("paused trigger {name}"));
                Ok(())
            }
            Command::Resume { name } => {
                let trigger = ask(context, &base, &name, "resume").await?;
                context.note(format!("trigger {name} goes on{}", next(&trigger)));
                Ok(())
            }
            Command::Fire { name } => {
                let client = context.client()?;
                let path = format!("{base}/{name}/fire");
                let fired = client.post(&path, &serde_json::json!({})).await;
                let fired: TriggerFired = fired.map_err(|e| told(e, context, &name))?;
                context.note("accepted; it will be called");
                context.line(fired.invocation)
            }
            Command::Delete {
                name,
                ignore_missing,
            } => {
                let client = context.client()?;
                match client.delete(&format!("{base}/{name}"), &[]).await {
                    Ok(()) => context.note(format!("deleted trigger {name}")),
                    Err(e) if e.status() == Some(404) && ignore_missing => {
                        context.note(format!("trigger {name} was not there"));
                    }
                    Err(e) => return Err(told(e, context, &name)),
                }
                Ok(())
            }
        }
    }
}

impl Create {
    async fn run(self, context: &mut Context, base: &str) -> Result {
        // Said before anything is read or sent: which field, what it says, and what would do.
        let zone = self.time_zone.as_deref().unwrap_or(UTC);
        Schedule::parse(&self.schedule, zone, jiff::tz::db()).map_err(Error::usage)?;
        let body = match &self.data {
            Some(data) => Some(body(context, data)?),
            None => None,
        };
        let mut headers = std::collections::BTreeMap::new();
        for (name, value) in &self.headers {
            let value = value.to_str().map_err(|_| {
                Error::usage(format!("header {name} has characters that cannot be kept"))
            })?;
            if headers.insert(name.to_string(), value.to_owned()).is_some() {
                return Err(Error::usage(format!("header {name} is given twice")));
            }
        }
        let wanted = Document {
            api_version: API_VERSION.to_owned(),
            kind: TRIGGER.to_owned(),
            metadata: Metadata {
                name: self.name.to_string(),
                namespace: context.namespace.clone(),
                ..Metadata::default()
            },
            spec: TriggerSpec {
                function: self.function.to_string(),
                schedule: self.schedule,
                time_zone: self.time_zone,
                missed: Some(self.missed),
                jitter: self.jitter,
                paused: self.paused,
                request: TriggerRequest {
                    method: self.method,
                    path: self.path,
                    headers,
                    content_type: self.content_type,
                    body,
                },
                later: TriggerLater {
                    retries: self.retries,
                    retry_on: self.retry_on,
                    backoff: self.backoff,
                    max_backoff: self.max_backoff,
                    jitter: self.retry_jitter,
                    max_age: self.max_age,
                },
            },
            status: None,
        };
        let client = context.client()?;
        let path = format!("{base}/{}", self.name);
        let made = if self.replace {
            client.put(&path, &wanted).await
        } else {
            client.put_new(&path, &wanted).await
        };
        let made: Document = match made {
            Err(e) if e.status() == Some(409) && !self.replace => {
                return Err(Error::failed(format!(
                    "trigger {} is there already in namespace {}",
                    self.name, context.namespace
                ))
                .hint("--replace takes its place"));
            }
            made => made?,
        };
        context.note(format!(
            "trigger {} calls {}; its next times:",
            self.name, self.function
        ));
        let upcoming = made.status.unwrap_or_default().upcoming;
        if upcoming.is_empty() {
            context.warn(if made.spec.paused {
                "it is paused, so it has none"
            } else {
                "it has none: that moment is past"
            });
        }
        for tick in upcoming {
            context.line(tick)?;
        }
        Ok(())
    }
}

async fn list(context: &mut Context, base: &str, all: bool, json: bool) -> Result {
    let client = context.client()?;
    let path = if all { "/triggers" } else { base };
    let list: TriggerList = client.get(path, &[], ANSWER).await?;
    if json {
        return context.json(&list.items);
    }
    if list.items.is_empty() {
        context.note(if all {
            "no triggers".to_owned()
        } else {
            format!("no triggers in namespace {}", context.namespace)
        });
        return Ok(());
    }
    let mut headings = vec![
        "NAME", "FUNCTION", "SCHEDULE", "NEXT", "LAST", "FIRED", "STATE",
    ];
    if all {
        headings.insert(0, "NAMESPACE");
    }
    let mut table = Table::new(&headings);
    for trigger in list.items {
        let (spec, status) = (trigger.spec, trigger.status.unwrap_or_default());
        let dash = || "-".to_owned();
        let state = match (spec.paused, status.error.as_str()) {
            (true, _) => "paused".to_owned(),
            (false, "") if status.next_tick.is_none() => "over".to_owned(),
            (false, "") => "ok".to_owned(),
            (false, error) => error.to_owned(),
        };
        let mut row = vec![
            trigger.metadata.name,
            spec.function,
            spec.schedule,
            status.next_tick.unwrap_or_else(dash),
            status.last_tick.unwrap_or_else(dash),
            status.fired.to_string(),
            state,
        ];
        if all {
            row.insert(0, trigger.metadata.namespace);
        }
        table.row(row);
    }
    context.line(table.render())
}

fn show(trigger: &Document) -> String {
    let (meta, spec) = (&trigger.metadata, &trigger.spec);
    let status = trigger.status.clone().unwrap_or_default();
    let mut page = Page::default();
    page.row("Name", &meta.name);
    page.row("Namespace", &meta.namespace);
    page.row("Function", &spec.function);
    page.row("Belongs to", status.owner.as_deref().unwrap_or_default());
    page.row("Schedule", &spec.schedule);
    page.row("Time zone", spec.time_zone.as_deref().unwrap_or(UTC));
    let missed = spec.missed.as_deref().unwrap_or(Missed::Once.as_str());
    page.row("Missed", missed);
    page.row("Jitter", spec.jitter.as_deref().unwrap_or_default());
    page.row("Paused", if spec.paused { "yes" } else { "" });
    let request = &spec.request;
    let method = request.method.as_deref().unwrap_or("POST");
    let path = request.path.as_deref().unwrap_or("/");
    page.row("Request", &format!("{method} {path}"));
    page.map("Headers", &request.headers);
    let kind = request.content_type.as_deref().unwrap_or_default();
    page.row("Content is", kind);
    if let Some(body) = &request.body {
        page.row("Body", &format!("{} bytes", body.len()));
    }
    page.row("Retrying", &retrying(&spec.later));
    page.row("Created", &meta.creation_timestamp);
    page.row("Fired", &status.fired.to_string());
    let known = |time: &Option<String>| time.clone().unwrap_or_default();
    page.row("Last tick", &known(&status.last_tick));
    page.row("Acted on", &known(&status.last_fired));
    page.row("Invocation", &known(&status.last_invocation));
    page.row("Missed some", &known(&status.last_missed));
    page.row("Error", &status.error);
    let mut name = "Next";
    for tick in &status.upcoming {
        page.row(name, tick);
        name = "";
    }
    page.text()
}

/// What is said of retrying, in the words of the flags; nothing where its function decides.
fn retrying(later: &TriggerLater) -> String {
    let said = [
        ("retries", later.retries.map(|n| n.to_string())),
        ("on", later.retry_on.clone()),
        ("backoff", later.backoff.clone()),
        ("max backoff", later.max_backoff.clone()),
        ("jitter", later.jitter.clone()),
        ("max age", later.max_age.clone()),
    ];
    let said = said
        .into_iter()
        .filter_map(|(word, value)| Some(format!("{word} {}", value?)));
    said.collect::<Vec<_>>().join(", ")
}

async fn ask(context: &mut Context, base: &str, name: &Name, what: &str) -> Result<Document> {
    let client = context.client()?;
    let path = format!("{base}/{name}/{what}");
    let answered = client.post(&path, &serde_json::json!({})).await;
    answered.map_err(|e| told(e, context, name))
}

fn next(trigger: &Document) -> String {
    let next = trigger.status.as_ref().and_then(|s| s.next_tick.as_ref());
    let next = next.and_then(|tick| tick.parse::<Timestamp>().ok());
    next.map_or_else(String::new, |tick| format!(", next at {tick}"))
}

fn told(error: client::Error, context: &Context, name: &Name) -> Error {
    if error.status() == Some(404) {
        return Error::failed(format!(
            "no trigger {name} in namespace {}",
            context.namespace
        ))
        .hint("'tidegate trigger list' shows those that are there");
    }
    error.into()
}

fn body(context: &mut Context, data: &str) -> Result<String> {
    let (reader, what): (Box<dyn Read + Send>, _) = match data.strip_prefix('@') {
        Some(file) => {
            let opened = File::open(file)
                .map_err(|e| Error::usage(format!("cannot read {file}")).because(&e))?;
            (Box::new(opened), file.to_owned())
        }
        None if data == "-" => (context.stdin(), "standard input".to_owned()),
        None => return Ok(data.to_owned()),
    };
    let mut text = String::new();
    reader
        .take(MAX_BODY + 1)
        .read_to_string(&mut text)
        .map_err(|e| Error::usage(format!("cannot read {what} as text")).because(&e))?;
    if text.len() as u64 > MAX_BODY {
        return Err(Error::usage(format!(
            "{what} is larger than {} KiB, too much for a trigger to keep",
            MAX_BODY >> 10
        )));
    }
    Ok(text)
}
