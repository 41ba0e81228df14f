//! `logs`.

use anstyle::{AnsiColor, Style};
use clap::Args;
use jiff::Timestamp;
use tidegate_core::{InvocationId, Name, format_duration, parse_duration};
use tidegate_document::LogLine;

use super::functions::{missing, path};
use crate::context::Context;
use crate::error::Result;

/// What Tidegate itself says of an instance, apart from what the code wrote.
const SYSTEM: Style = AnsiColor::Yellow.on_default();
const DIM: Style = Style::new().dimmed();

/// Show what a function wrote
#[derive(Args)]
pub(crate) struct Logs {
    /// The function
    name: Name,
    /// Go on with lines as they come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "N")]
    tail: Option<u32>,
    /// Only lines since then: 5m, 2h, or a time such as 2026-05-01T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<String>,
    /// Only lines of one request
    #[arg(long, value_name = "ID", value_parser = request)]
    request: Option<String>,
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
        let tail = self.tail.map(|n| n.to_string());
        let mut query = Vec::new();
        query.extend(tail.as_deref().map(|n| ("tail", n)));
        query.extend(self.since.as_deref().map(|t| ("since", t)));
        query.extend(self.request.as_deref().map(|id| ("request", id)));
        if self.follow {
            query.push(("follow", "true"));
        }
        let name = self.name.as_str();
        let target = format!("{}/logs", path(&context.namespace, name));
        let mut lines = match client.lines(&target, &query).await {
            Ok(lines) => lines,
            Err(error) => return Err(missing(&client, error, &context.namespace, name).await),
        };
        while let Some(line) = lines.next::<LogLine>().await? {
            if self.json {
                context.json_line(&line)?;
            } else {
                let text = self.text(context, &line);
                context.bytes(text.as_bytes())?;
            }
        }
        Ok(())
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

fn since(text: &str) -> Result<String, String> {
    if let Ok(duration) = parse_duration(text) {
        return Ok(format_duration(duration));
    }
    match text.parse::<Timestamp>() {
        Ok(at) => Ok(at.to_string()),
        Err(_) => {
            Err("write how long ago, such as 5m, or a time such as 2026-05-01T12:00:00Z".to_owned())
        }
    }
}

fn request(text: &str) -> Result<String, String> {
    text.parse::<InvocationId>()
        .map(|id| id.to_string())
        .map_err(|e| e.to_string())
}
