//! `logs`.

use anstyle::{AnsiColor, Style};
use clap::Args;
use tidegate_core::{InvocationId, Name};
use tidegate_document::{Function, LogLine};

use super::functions::{missing, path};
use super::records::stopped;
use crate::client::{ANSWER, Client, Lines};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::time::when;

/// What Tidegate itself says of an instance, apart from what the code wrote.
const SYSTEM: Style = AnsiColor::Yellow.on_default();
const DIM: Style = Style::new().dimmed();

/// The commands that one would try first.
const EXAMPLES: &str = "\
Examples:
  tidegate logs thumbnail --follow           its lines as they come
  tidegate logs thumbnail --since 10m        those of the last ten minutes
  tidegate logs --record 0192f0c1…           those of one invocation, from disk, however long ago";

/// Show what a function wrote
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Logs {
    /// The function
    #[arg(required_unless_present = "record")]
    name: Option<Name>,
    /// Go on with lines as they come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "N")]
    tail: Option<u32>,
    /// Only lines since then: 5m, 2h, or a time such as 2026-05-01T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<String>,
    /// Only lines of one request
    #[arg(long, value_name = "ID", value_parser = request)]
    request: Option<String>,
    /// What one invocation wrote, from disk: kept when the lines above are long gone
    #[arg(long, value_name = "ID", value_parser = request,
        conflicts_with_all = ["name", "follow", "tail", "since", "request"])]
    record: Option<String>,
    /// Begin every line with its time and instance
    #[arg(long)]
    timestamps: bool,
    /// Print every line as JSON, with all that is known of it
    #[arg(long)]
    json: bool,
}

impl Logs {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        let mut lines = match (&self.record, &self.name) {
            (Some(id), _) => of_record(&client, id).await?,
            (None, Some(name)) => self.of_function(context, &client, name.as_str()).await?,
            (None, None) => {
                return Err(Error::usage(
                    "name a function, or an invocation with --record",
                ));
            }
        };
        let mut none = true;
        while let Some(line) = lines.next::<LogLine>().await? {
            none = false;
            if self.json {
                context.json_line(&line)?;
            } else {
                let text = self.text(context, &line);
                context.text(&text)?;
            }
        }
        if none && self.record.is_some() {
            context.note("it wrote nothing");
        }
        match &self.name {
            Some(name) if self.follow => ended(context, &client, name, none).await,
            _ => Ok(()),
        }
    }

    async fn of_function(&self, context: &Context, client: &Client, name: &str) -> Result<Lines> {
        let tail = self.tail.map(|n| n.to_string());
        let mut query = Vec::new();
        query.extend(tail.as_deref().map(|n| ("tail", n)));
        query.extend(self.since.as_deref().map(|t| ("since", t)));
        query.extend(self.request.as_deref().map(|id| ("request", id)));
        if self.follow {
            query.push(("follow", "true"));
        }
        let target = format!("{}/logs", path(&context.namespace, name));
        match client.lines(&target, &query).await {
            Ok(lines) => Ok(lines),
            Err(error) => Err(missing(client, error, &context.namespace, name).await),
        }
    }

    fn text(&self, context: &Context, line: &LogLine) -> String {
        let text = if line.stream == "system" {
            context.styled_out(SYSTEM, &format!("[tidegate] {}", line.text))
        } else {
            line.text.clone()
        };
        if self.timestamps {
            let head = context.styled_out(DIM, &format!("{} {}", line.time, line.instance));
            format!("{head} {text}\n")
        } else {
            format!("{text}\n")
        }
    }
}

/// Why lines that were followed came to an end, `none` of them perhaps.
async fn ended(context: &mut Context, client: &Client, name: &Name, none: bool) -> Result {
    let function = path(&context.namespace, name.as_str());
    match client.get::<Function>(&function, &[], ANSWER).await {
        // They end with their function.
        Err(e) if e.status() == Some(404) => {
            context.note(format!("function {name} is no longer there"));
            Ok(())
        }
        Ok(Function { status, .. })
            if none && status.as_ref().is_none_or(|s| s.revision.is_empty()) =>
        {
            let describe = context.advice(format_args!("describe {name}"));
            Err(Error::failed(format!(
                "function {name} was not started yet, so there is nothing to follow"
            ))
            .hint(format!("{describe} tells how far it is")))
        }
        _ => Err(stopped(client).await),
    }
}

/// What an invocation wrote, as it is kept on disk.
pub(super) async fn of_record(client: &Client, id: &str) -> Result<Lines> {
    let lines = client.lines(&format!("/records/{id}/logs"), &[]).await;
    lines.map_err(|e| match e.status() {
        Some(404) => Error::from(e).hint(format!(
            "'tidegate records show {id}' shows its tries and what they wrote, if it was accepted to run later"
        )),
        _ => e.into(),
    })
}

/// Reads an invocation's id.
pub(super) fn request(text: &str) -> Result<String, String> {
    text.parse::<InvocationId>()
        .map(|id| id.to_string())
        .map_err(|e| e.to_string())
}
