//! `records`.

mod row;
mod show;
mod tree;

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use tidegate_core::Name;
use tidegate_document::{Missed, Record, RecordList};

use super::functions::get;
use super::logs::request;
use super::pages::{PAGE, pages};
use crate::client::{self, ANSWER, Client};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::time::when;
use row::Columns;

/// Records shown where nobody says how many: a screen or two.
const USUAL: u32 = 50;

const EXAMPLES: &str = "\
Examples:
  tidegate records                                 the last fifty of the namespace
  tidegate records thumbnail --outcome failed      those of one function that did not end well
  tidegate records --since 1h --outcome limit -A   what ran into any limit, in all namespaces
  tidegate records --trigger nightly -o wide       what a schedule started, with all that is known
  tidegate records --follow -o json                a line of JSON an invocation, as they end
  tidegate records show 0192f0c1…                  one of them, what led to it, and what it printed";

const SHOW_EXAMPLES: &str = "\
Examples:
  tidegate records show 0192f0c1…
  tidegate records show 0192f0c1… -o json";

/// Show what is kept of invocations, or of one
///
/// Those that ended last come first. An invocation's record is there the moment it is answered.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct Records {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Subcommand)]
enum Command {
    /// Show one invocation: what led to it, what it led to, where the time went, what it printed
    ///
    /// On a terminal the parts of each are drawn to scale; elsewhere they are numbers.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(show::Show),
}

#[derive(Args)]
struct List {
    /// Only of this function
    function: Option<Name>,
    /// Of all namespaces
    #[arg(short = 'A', long, conflicts_with = "function")]
    all_namespaces: bool,
    /// Only from then on: 5m, 2h, or a time such as 2026-05-01T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<String>,
    /// Only before then
    #[arg(long, value_name = "WHEN", value_parser = when)]
    until: Option<String>,
    /// Only those that ended so: ok, application, function, platform, cancelled, limit-timeout, …; 'limit' for any limit,
    /// 'failed' for all but ok. Several with commas
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// Only those that this invocation asked for, in whatever namespace
    #[arg(long, value_name = "ID", value_parser = request)]
    parent: Option<String>,
    /// Only those of this trigger
    #[arg(long, value_name = "NAME")]
    trigger: Option<String>,
    /// At most so many [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Go on with invocations as they end, until Ctrl-C; with --since or --limit, after those that ended before
    #[arg(short, long)]
    follow: bool,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns
    #[default]
    Table,
    /// More columns
    Wide,
    /// A JSON array; with --follow, a line each
    Json,
}

/// A line of a stream of records.
#[derive(Deserialize)]
#[serde(untagged)]
enum Came {
    Missed(Missed),
    Record(Box<Record>),
}

impl Records {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        match self.command {
            Some(Command::Show(show)) => show.run(context).await,
            None => self.list.run(context).await,
        }
    }
}

impl List {
    async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        if self.follow {
            return self.follow(context, &client).await;
        }
        let records = self.all(context, &client).await?;
        if self.output == Output::Json {
            return context.json(&records);
        }
        if records.is_empty() {
            return self.none(context, &client).await;
        }
        context.line(self.columns().table(&records).render())
    }

    /// What is asked of the server, without limit and place.
    fn query<'a>(&'a self, context: &'a Context) -> Vec<(&'static str, &'a str)> {
        let mut query = Vec::new();
        // What an invocation asked for may be anywhere.
        if !self.all_namespaces && self.parent.is_none() {
            query.push(("namespace", context.namespace.as_str()));
        }
        let given = [
            ("function", self.function.as_ref().map(Name::as_str)),
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
            ("outcome", self.outcome.as_deref()),
            ("parent", self.parent.as_deref()),
            ("trigger", self.trigger.as_deref()),
        ];
        query.extend(given.into_iter().filter_map(|(k, v)| Some((k, v?))));
        query
    }

    async fn all(&self, context: &Context, client: &Client) -> Result<Vec<Record>> {
        let wanted = self.limit.unwrap_or(USUAL);
        let query = self.query(context);
        let (records, _) = pages::<RecordList>(client, "/records", &query, wanted).await?;
        Ok(records)
    }

    async fn follow(&self, context: &mut Context, client: &Client) -> Result {
        let limit = self.limit.map(|n| n.min(PAGE).to_string());
        let mut query = self.query(context);
        query.extend(limit.as_deref().map(|n| ("limit", n)));
        query.push(("follow", "true"));
        let mut lines = client.lines("/records", &query).await?;
        let table = self.columns().table(&[]);
        if self.output != Output::Json {
            context.text(&format!("{}\n", table.render()))?;
        }
        while let Some(came) = lines.next::<Came>().await? {
            match came {
                Came::Missed(Missed { missed }) => context.warn(format!(
                    "{missed} records came faster than they were read, and are left out here"
                )),
                Came::Record(record) if self.output == Output::Json => {
                    context.json_line(&record)?;
                }
                Came::Record(record) => {
                    let row = table.later(self.columns().cells(&record));
                    context.text(&format!("{row}\n"))?;
                }
            }
        }
        // It has no end of its own.
        Err(stopped(client).await)
    }

    fn columns(&self) -> Columns {
        Columns {
            namespaces: self.all_namespaces || self.parent.is_some(),
            wide: self.output == Output::Wide,
            coming: self.follow,
        }
    }

    /// Nothing found: perhaps because there is no such function.
    async fn none(&self, context: &mut Context, client: &Client) -> Result {
        if let Some(parent) = &self.parent {
            context.note(format!("no records of what invocation {parent} asked for"));
            context.note(format!(
                "'tidegate records show {parent}' shows what is kept of it; what it asked for may still run, or be kept no longer"
            ));
            return Ok(());
        }
        if let Some(function) = &self.function {
            get(client, &context.namespace, function.as_str()).await?;
        }
        let filtered = self.query(context).len() > usize::from(!self.all_namespaces);
        context.note(match (filtered, self.all_namespaces) {
            (true, _) => "no such records".to_owned(),
            (false, true) => "no records".to_owned(),
            (false, false) => format!("no records in namespace {}", context.namespace),
        });
        Ok(())
    }
}

/// What to say where the server ended what has no end.
pub(super) async fn stopped(client: &Client) -> Error {
    let url = client.shown();
    match client.get::<serde_json::Value>("/", &[], ANSWER).await {
        Ok(_) => Error::failed(format!("the server at {url} ended the stream"))
            .hint("it is perhaps about to end; the same command with --since goes on from there"),
        Err(client::Error::Refused { .. }) => Error::failed(format!("the server at {url} ended"))
            .hint("once it is back, the same command with --since goes on from there"),
        Err(error) => {
            Error::failed(format!("the server at {url} ended the stream")).because(&error)
        }
    }
}

/// What to say of an invocation of which the server keeps nothing.
pub(super) fn unkept(error: client::Error, id: &str) -> Error {
    let status = error.status();
    let told = Error::from(error);
    match status {
        Some(404) => told.hint(format!(
            "'tidegate queue show {id}' tells whether it is still to run; 'tidegate records' lists what is kept"
        )),
        _ => told,
    }
}
