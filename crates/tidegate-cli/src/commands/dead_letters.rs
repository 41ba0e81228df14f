//! `dead-letters`.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use tidegate_core::Name;
use tidegate_document::queue::{DeadCount, DeadLetter, DeadLetterList, Redrive};

use super::describe::Page;
use super::logs::request;
use super::pages::{cut, pages};
use super::queue::ago;
use crate::client::{self, ANSWER};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::progress::Spinner;
use crate::table::Table;
use crate::time::when;
use crate::units::{amount, bytes};

/// Entries shown where nobody says how many.
const USUAL: u32 = 50;

/// The reasons for which an invocation is given up.
const REASONS: [&str; 5] = ["failed", "not-retried", "too-old", "refused", "damaged"];

const EXAMPLES: &str = "\
Examples:
  tidegate dead-letters list
  tidegate dead-letters show ID                          what it asked, and what was answered last
  tidegate dead-letters redrive ID                       sends it again, as if it had just come
  tidegate dead-letters redrive --function mail --rate 5 those of a function, five a second
  tidegate dead-letters purge --function mail --until 7d those given up more than a week ago";

/// Queued invocations that were given up
///
/// They are kept until they are sent again or thrown away, or until the server's time for them is over.
#[derive(Args)]
#[command(after_help = EXAMPLES, visible_alias = "dlq")]
pub(crate) struct DeadLetters {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List them, the latest first
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  tidegate dead-letters list
  tidegate dead-letters list --function mail --reason failed --since 1d
  tidegate dead-letters list -A --json"
    )]
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = USUAL, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Print them as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one: what it asked, why it was given up, and what was answered last
    #[command(after_help = "\
Examples:
  tidegate dead-letters show 0192f0c1…
  tidegate dead-letters show 0192f0c1… --json")]
    Show {
        /// Its id
        #[arg(value_parser = request)]
        id: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Send some again, as if they had just been accepted
    #[command(after_help = "\
Examples:
  tidegate dead-letters redrive 0192f0c1…
  tidegate dead-letters redrive --function mail --rate 5
  tidegate dead-letters redrive --all --reason too-old")]
    Redrive {
        #[command(flatten)]
        chosen: Chosen,
        /// At most so many a second
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
    },
    /// Throw some away for good
    #[command(after_help = "\
Examples:
  tidegate dead-letters purge 0192f0c1…
  tidegate dead-letters purge --function mail --until 7d
  tidegate dead-letters purge --all -A")]
    Purge {
        #[command(flatten)]
        chosen: Chosen,
    },
}

/// Some of them; all conditions have to hold.
#[derive(Args)]
struct Which {
    /// Only those to this function
    #[arg(long, value_name = "NAME", conflicts_with = "all_namespaces")]
    function: Option<Name>,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only those given up for this reason
    #[arg(long, value_parser = REASONS)]
    reason: Option<String>,
    /// Only those given up from then on: 1h, or a time such as 2026-05-01T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<String>,
    /// Only those given up before then
    #[arg(long, value_name = "WHEN", value_parser = when)]
    until: Option<String>,
}

/// One of them, or some; not all by mistake.
#[derive(Args)]
struct Chosen {
    /// Only this one
    #[arg(value_parser = request, conflicts_with_all = ["all", "function", "all_namespaces", "reason", "since", "until"])]
    id: Option<String>,
    /// All of the namespace, or with -A of all namespaces
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    which: Which,
}

impl DeadLetters {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        match self.command {
            Command::List { which, limit, json } => which.list(context, limit, json).await,
            Command::Show { id, json } => {
                let client = context.client()?;
                let letter: DeadLetter = client
                    .get(&format!("/dead-letters/{id}"), &[], ANSWER)
                    .await
                    .map_err(|e| unknown(e, &id))?;
                if json {
                    return context.json(&letter);
                }
                let text = page(&letter, Timestamp::now());
                context.text(&text)
            }
            Command::Redrive { chosen, rate } => chosen.redrive(context, rate).await,
            Command::Purge { chosen } => chosen.purge(context).await,
        }
    }
}

impl Which {
    fn query<'a>(&'a self, namespace: &'a str) -> Vec<(&'static str, &'a str)> {
        let given = [
            ("namespace", (!self.all_namespaces).then_some(namespace)),
            ("function", self.function.as_ref().map(Name::as_str)),
            ("reason", self.reason.as_deref()),
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
        ];
        let given = given.into_iter().filter_map(|(k, v)| Some((k, v?)));
        given.collect()
    }

    async fn list(&self, context: &mut Context, wanted: u32, json: bool) -> Result {
        let client = context.client()?;
        let query = self.query(&context.namespace);
        let letters = pages::<DeadLetterList>(&client, "/dead-letters", &query, wanted).await?;
        let (all, is_more) = letters;
        if json {
            return context.json(&all);
        }
        if all.is_empty() {
            context.note("no such dead letters");
            return Ok(());
        }
        context.line(table(&all, self.all_namespaces, Timestamp::now()).render())?;
        if is_more {
            context.note(format!("only the latest {wanted}; --limit shows more"));
        }
        Ok(())
    }
}

impl Chosen {
    /// That some were chosen, and not all for want of a word.
    fn check(&self, command: &str) -> Result {
        let which = &self.which;
        let filter = [&which.reason, &which.since, &which.until];
        if self.id.is_some()
            || self.all
            || which.function.is_some()
            || filter.into_iter().any(Option::is_some)
        {
            return Ok(());
        }
        Err(Error::usage("no dead letters are chosen").hint(format!(
            "give an id, a filter such as --function or --reason, or --all: 'tidegate dead-letters {command} --all'"
        )))
    }

    async fn redrive(self, context: &mut Context, rate: Option<u32>) -> Result {
        self.check("redrive")?;
        let client = context.client()?;
        let which = self.which;
        let wanted = Redrive {
            namespace: (self.id.is_none() && !which.all_namespaces)
                .then(|| context.namespace.clone()),
            id: self.id.clone(),
            function: which.function.map(|f| f.to_string()),
            reason: which.reason,
            since: which.since,
            until: which.until,
            rate,
        };
        let spinner = Spinner::new(context.draws(), "sending them again".to_owned());
        // At a rate it takes as long as it takes, and the server tells meanwhile how far it is.
        let mut lines = match client.post_lines("/dead-letters/redrive", &wanted).await {
            Ok(lines) => lines,
            Err(error) => {
                return Err(match &self.id {
                    Some(id) => unknown(error, id),
                    None => error.into(),
                });
            }
        };
        let (mut done, began) = (DeadCount::default(), Instant::now());
        while let Some(count) = lines.next::<DeadCount>().await? {
            done = count;
            spinner.say(progress(done.count, began.elapsed()));
        }
        drop(spinner);
        self::done(context, "sent again", done);
        Ok(())
    }

    async fn purge(self, context: &mut Context) -> Result {
        self.check("purge")?;
        let client = context.client()?;
        let done = if let Some(id) = &self.id {
            let path = format!("/dead-letters/{id}");
            let gone = client.delete(&path, &[]).await;
            gone.map_err(|e| unknown(e, id))?;
            DeadCount { count: 1 }
        } else {
            let query = self.which.query(&context.namespace);
            let _spinner = Spinner::new(context.draws(), "throwing them away".to_owned());
            client.delete_told("/dead-letters", &query).await?
        };
        self::done(context, "thrown away", done);
        Ok(())
    }
}

/// How many were sent again so far, and how fast that goes.
fn progress(count: u64, took: Duration) -> String {
    let rate = count as f64 / took.as_secs_f64().max(1.0);
    format!("{count} sent again, {} a second", amount(rate))
}

fn done(context: &mut Context, what: &str, done: DeadCount) {
    context.note(match done.count {
        0 => "there were no such dead letters".to_owned(),
        1 => format!("1 dead letter {what}"),
        n => format!("{n} dead letters {what}"),
    });
}

fn table(letters: &[DeadLetter], namespaces: bool, now: Timestamp) -> Table {
    let mut headings = vec![
        "ID", "FUNCTION", "REASON", "OUTCOME", "STATUS", "TRIES", "GIVEN UP", "MESSAGE",
    ];
    if namespaces {
        headings.insert(1, "NAMESPACE");
    }
    let mut table = Table::new(&headings);
    let dash = || "-".to_owned();
    for letter in letters {
        let mut row = vec![
            letter.id.clone(),
            letter.function.clone(),
            letter.reason.clone(),
            letter.outcome.clone().unwrap_or_else(dash),
            letter.status.map_or_else(dash, |s| s.to_string()),
            letter.tries.to_string(),
            ago(Some(&letter.died), now),
            letter.message.as_deref().map_or_else(dash, cut),
        ];
        if namespaces {
            row.insert(1, letter.namespace.clone());
        }
        table.row(row);
    }
    table
}

fn page(letter: &DeadLetter, now: Timestamp) -> String {
    let mut page = Page::default();
    page.row("Invocation", &letter.id);
    page.row("Function", &letter.function);
    page.row("Namespace", &letter.namespace);
    page.row("Reason", reason(&letter.reason));
    let outcome = match (&letter.outcome, letter.status) {
        (Some(outcome), Some(status)) => format!("{outcome} ({status})"),
        (Some(outcome), None) => outcome.clone(),
        (None, _) => String::new(),
    };
    page.row("Outcome", &outcome);
    page.row("Message", letter.message.as_deref().unwrap_or_default());
    page.row("Tries", &letter.tries.to_string());
    page.row("Failures", &letter.failures.to_string());
    if let Some(accepted) = &letter.accepted {
        page.row(
            "Accepted",
            &format!("{accepted} ({})", ago(Some(accepted), now)),
        );
    }
    page.row(
        "Given up",
        &format!("{} ({})", letter.died, ago(Some(&letter.died), now)),
    );
    if let Some(request) = &letter.request {
        page.row("Request", &format!("{} {}", request.method, request.path));
        let mut name = "Headers";
        for (header, value) in &request.headers {
            page.row(name, &format!("{header}: {value}"));
            name = "";
        }
    }
    page.row("Body", &bytes(letter.body_bytes));
    let mut text = page.text();
    if let Some(body) = letter.request.as_ref().and_then(|r| r.body.as_deref()) {
        text.push_str(&format!("\n{}\n", body.trim_end()));
    }
    if let Some(answer) = &letter.answer {
        text.push_str(&format!("\nThe last answer was {}:\n", answer.status));
        text.push_str(answer.body.as_deref().unwrap_or("").trim_end());
        text.push('\n');
    }
    text
}

fn reason(word: &str) -> &str {
    match word {
        "failed" => "failed: it failed as often as it may",
        "not-retried" => "not-retried: it ended in a way that is not tried again",
        "too-old" => "too-old: its time was over before it succeeded",
        "refused" => "refused: it can never run",
        "damaged" => "damaged: what was stored of it is not what was written",
        other => other,
    }
}

fn unknown(error: client::Error, id: &str) -> Error {
    let status = error.status();
    let told = Error::from(error);
    match status {
        Some(404) => told
            .hint("'tidegate dead-letters list' shows those that are there")
            .hint(format!(
                "'tidegate queue show {id}' tells whether it is still to run"
            )),
        _ => told,
    }
}
