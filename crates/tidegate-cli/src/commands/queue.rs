//! `queue`.

use std::time::Duration;

use clap::{Args, Subcommand};
use http::StatusCode;
use jiff::Timestamp;
use reqwest::Response;
use tidegate_core::{Name, format_duration, parse_duration};
use tidegate_document::queue::{QueueList, QueueState, Queued, headers};

use super::describe::Page;
use super::logs::request;
use super::pages::pages;
use crate::client::{self, ANSWER, Client};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::exit;
use crate::table::Table;
use crate::time::{age, until};

/// Entries shown where nobody says how many.
const USUAL: u32 = 50;

/// The first and the longest wait between two questions for a result: an idle server has answered by the first, and by the
/// last nobody notices the difference.
const SOON: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  tidegate invoke thumbnail --async -d @photo.jpg      prints an id
  tidegate queue show ID                               where it stands
  tidegate queue result ID --wait > small.jpg          its answer, when there is one
  tidegate queue list thumbnail
  tidegate queue cancel ID";

/// Invocations that were accepted to run later
///
/// What was accepted runs, over restarts and crashes; what fails is tried again, and what cannot succeed is among the dead
/// letters ('tidegate dead-letters').
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Queue {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List those that are not done, in the order in which they were accepted
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  tidegate queue list
  tidegate queue list thumbnail --limit 1000 --json
  tidegate queue list -A"
    )]
    List {
        /// Only those to this function
        function: Option<Name>,
        /// Of all namespaces
        #[arg(short = 'A', long, conflicts_with = "function")]
        all_namespaces: bool,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = USUAL, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Print them as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show where one stands
    #[command(after_help = "\
Examples:
  tidegate queue show 0192f0c1…
  tidegate queue show 0192f0c1… --json")]
    Show {
        /// Its id
        #[arg(value_parser = request)]
        id: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Cancel some; what already runs is stopped as soon as that can be done
    #[command(after_help = "\
Examples:
  tidegate queue cancel 0192f0c1…
  tidegate queue list thumbnail --json | jq -r '.[].id' | xargs tidegate queue cancel")]
    Cancel {
        /// Their ids
        #[arg(required = true, value_parser = request)]
        ids: Vec<String>,
    },
    /// Print what the function answered
    ///
    /// Fails if it failed, or if there is no answer yet and --wait is not given.
    #[command(after_help = "\
Examples:
  tidegate queue result 0192f0c1… > small.jpg
  tidegate queue result 0192f0c1… --wait --timeout 5m")]
    Result {
        /// Its id
        #[arg(value_parser = request)]
        id: String,
        /// Wait until there is one
        #[arg(long)]
        wait: bool,
        /// Wait no longer than this: 5m
        #[arg(long, value_name = "TIME", value_parser = time, requires = "wait")]
        timeout: Option<Duration>,
    },
}

impl Queue {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        match self.command {
            Command::List {
                function,
                all_namespaces,
                limit,
                json,
            } => list(context, function.as_ref(), all_namespaces, limit, json).await,
            Command::Show { id, json } => {
                let client = context.client()?;
                let found: Queued = client
                    .get(&format!("/queue/{id}"), &[], ANSWER)
                    .await
                    .map_err(|e| unknown(e, &id))?;
                if json {
                    return context.json(&found);
                }
                let text = page(&found, Timestamp::now());
                context.text(&text)
            }
            Command::Cancel { ids } => cancel(context, &ids).await,
            Command::Result { id, wait, timeout } => {
                let client = context.client()?;
                let wait = wait.then_some(timeout);
                result(context, &client, &id, wait).await
            }
        }
    }
}

async fn list(
    context: &mut Context,
    function: Option<&Name>,
    everywhere: bool,
    wanted: u32,
    json: bool,
) -> Result {
    let client = context.client()?;
    let namespace = context.namespace.clone();
    let mut query = Vec::new();
    if !everywhere {
        query.push(("namespace", namespace.as_str()));
    }
    query.extend(function.map(|f| ("function", f.as_str())));
    let (all, is_more) = pages::<QueueList>(&client, "/queue", &query, wanted).await?;
    if json {
        return context.json(&all);
    }
    if all.is_empty() {
        context.note(match everywhere {
            true => "nothing is queued".to_owned(),
            false => format!("nothing is queued in namespace {namespace}"),
        });
        return Ok(());
    }
    context.line(table(&all, everywhere, Timestamp::now()).render())?;
    if is_more {
        context.note(format!("only the first {wanted}; --limit shows more"));
    }
    Ok(())
}

fn table(queued: &[Queued], namespaces: bool, now: Timestamp) -> Table {
    let mut headings = vec![
        "ID", "FUNCTION", "STATE", "DUE", "TRIES", "FAILED", "ACCEPTED", "DEADLINE",
    ];
    if namespaces {
        headings.insert(1, "NAMESPACE");
    }
    let mut table = Table::new(&headings);
    let dash = || "-".to_owned();
    let time = |at: &Option<String>| at.as_deref().map_or_else(dash, |at| until(at, now));
    for item in queued {
        let mut row = vec![
            item.id.clone(),
            item.function.clone(),
            state(item),
            match item.state {
                QueueState::Waiting => time(&item.due),
                _ => dash(),
            },
            item.tries.to_string(),
            item.failures.to_string(),
            ago(item.accepted.as_deref(), now),
            time(&item.deadline),
        ];
        if namespaces {
            row.insert(1, item.namespace.clone());
        }
        table.row(row);
    }
    table
}

/// How long ago, as one says it.
pub(super) fn ago(at: Option<&str>, now: Timestamp) -> String {
    at.map_or_else(|| "-".to_owned(), |at| format!("{} ago", age(at, now)))
}

fn state(item: &Queued) -> String {
    let word = match item.state {
        QueueState::Waiting if item.behind => "behind another of its key",
        QueueState::Waiting => "waiting",
        QueueState::Running => "running",
        QueueState::Done => "done",
        QueueState::Dead => "dead",
        QueueState::Cancelled => "cancelled",
    };
    word.to_owned()
}

fn page(item: &Queued, now: Timestamp) -> String {
    let mut page = Page::default();
    page.row("Invocation", &item.id);
    page.row("Function", &item.function);
    page.row("Namespace", &item.namespace);
    page.row("State", &state(item));
    page.row("Reason", item.reason.as_deref().unwrap_or_default());
    let outcome = match (&item.outcome, item.status) {
        (Some(outcome), Some(status)) => format!("{outcome} ({status})"),
        (Some(outcome), None) => outcome.clone(),
        (None, _) => String::new(),
    };
    page.row("Outcome", &outcome);
    page.row("Message", item.message.as_deref().unwrap_or_default());
    page.row("Tries", &item.tries.to_string());
    page.row("Failures", &item.failures.to_string());
    let when = |at: &Option<String>, from_now: fn(&str, Timestamp) -> String| {
        let at = at.as_deref();
        at.map_or_else(String::new, |at| format!("{at} ({})", from_now(at, now)))
    };
    page.row(
        "Accepted",
        &when(&item.accepted, |at, now| ago(Some(at), now)),
    );
    if item.state == QueueState::Waiting {
        page.row("Due", &when(&item.due, until));
    }
    if matches!(item.state, QueueState::Waiting | QueueState::Running) {
        page.row("Deadline", &when(&item.deadline, until));
    }
    page.row("Ended", &when(&item.ended, |at, now| ago(Some(at), now)));
    page.text()
}

async fn cancel(context: &mut Context, ids: &[String]) -> Result {
    let client = context.client()?;
    let mut failed: Option<Error> = None;
    for id in ids {
        match client.delete(&format!("/queue/{id}"), &[]).await {
            Ok(()) => context.note(format!("cancelled {id}")),
            // Told of each, so that one that has ended meanwhile keeps none of the others.
            Err(error) if error.status().is_some() && ids.len() > 1 => {
                context.warn(&error);
                failed = Some(Error::silent(exit::FAILED));
            }
            Err(error) => {
                let told = Error::from(error);
                return Err(match told.code {
                    exit::FAILED => {
                        told.hint(format!("'tidegate queue show {id}' tells where it stands"))
                    }
                    _ => told,
                });
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Prints what came of one. With `wait`, when that is known, for no longer than the time in it.
pub(super) async fn result(
    context: &mut Context,
    client: &Client,
    id: &str,
    wait: Option<Option<Duration>>,
) -> Result {
    let mut response = match wait {
        None => ask(client, id).await?,
        Some(None) => settled(client, id).await?,
        Some(Some(limit)) => match tokio::time::timeout(limit, settled(client, id)).await {
            Ok(response) => response?,
            Err(_) => {
                return Err(Error::failed(format!(
                    "{id} had not ended within {}",
                    format_duration(limit)
                ))
                .hint(format!(
                    "it goes on; 'tidegate queue result {id} --wait' waits again"
                )));
            }
        },
    };
    if response.status() == StatusCode::ACCEPTED {
        let queued: Queued = client.read(response).await?;
        let mut told = format!("{id} has no answer yet: it is {}", state(&queued));
        if let Some(message) = &queued.message {
            told.push_str(&format!("; try {} ended so: {message}", queued.tries));
        }
        return Err(Error::failed(told).hint("--wait waits until there is one"));
    }
    let header = response.headers().get(headers::STATUS);
    let status: u16 = header
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(200);
    let cut = response.headers().get(headers::CUT);
    if let Some(kept) = cut.and_then(|kept| kept.to_str().ok()) {
        context.warn(format!(
            "the answer was longer: only its first {kept} bytes were kept"
        ));
    }
    let broken = |e| Error::from(client::Error::transport(client.shown(), None, e));
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        context.bytes(&chunk)?;
    }
    if status >= 400 {
        if context.process.terminal.stdout {
            context.line("")?;
        }
        return Err(Error::failed(format!("{id} was answered with {status}"))
            .hint(format!("'tidegate records show {id}' shows what happened")));
    }
    Ok(())
}

/// The answer, or where it stands instead.
async fn ask(client: &Client, id: &str) -> Result<Response> {
    client
        .fetch(&format!("/queue/{id}/result"))
        .await
        .map_err(|e| gone(e, id))
}

/// The answer, when there is one.
async fn settled(client: &Client, id: &str) -> Result<Response> {
    let mut wait = SOON;
    loop {
        let response = ask(client, id).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Ok(response);
        }
        // Read to its end, so that the connection can be used again.
        client.read::<Queued>(response).await?;
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LATER);
    }
}

fn gone(error: client::Error, id: &str) -> Error {
    let status = error.status();
    let told = unknown(error, id);
    match status {
        Some(410) => told
            .hint(format!(
                "'tidegate dead-letters show {id}' shows it if it was given up"
            ))
            .hint(format!(
                "'tidegate records show {id}' shows what happened at each try"
            )),
        _ => told,
    }
}

fn unknown(error: client::Error, id: &str) -> Error {
    let status = error.status();
    let told = Error::from(error);
    match status {
        Some(404) => told.hint(format!(
            "results are kept for a while only; 'tidegate records show {id}' shows what is kept of it"
        )),
        _ => told,
    }
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|e| e.to_string())
}
