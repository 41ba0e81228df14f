//! `list`.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use tidegate_document::{Function, FunctionStatus, Phase, WatchEvent};

use super::functions::{collection, list, short};
use crate::client::Client;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::table::Table;
use crate::time::age;

/// Wait before a broken watch is begun anew, so that a server that is going away is not pressed.
const AGAIN: Duration = Duration::from_secs(1);

/// Least widths of columns while watching, since what will come is not known: a namespace, a name, and so on.
const WATCHED: [usize; 7] = [12, 24, 10, 12, 9, 11, 5];

/// Longest message in a row, in characters; `describe` has all of it.
const MESSAGE: usize = 60;

/// List functions
#[derive(Args)]
#[command(visible_alias = "ls")]
pub(crate) struct List {
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only with these labels: app=web, tier!=test
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Print them as a JSON array, or with --watch a line for each change
    #[arg(long)]
    json: bool,
    /// Go on with changes as they come, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

impl List {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        let namespace = (!self.all_namespaces).then(|| context.namespace.clone());
        let (all, version) = list(&client, namespace.as_deref(), self.selector.as_deref()).await?;
        if self.json && !self.watch {
            return context.json(&all);
        }
        let table = self.table(&all);
        if self.json {
            for function in &all {
                context.json_line(function)?;
            }
        } else if all.is_empty() && !self.watch {
            context.note(match &namespace {
                Some(ns) => {
                    format!("no functions in namespace {ns}; 'tidegate deploy PATH' makes one")
                }
                None => "no functions; 'tidegate deploy PATH' makes one".to_owned(),
            });
        } else {
            context.line(table.render())?;
        }
        if self.watch {
            self.follow(context, &client, namespace.as_deref(), &table, version)
                .await?;
        }
        Ok(())
    }

    /// Prints changes until the reader or the server is gone.
    async fn follow(
        &self,
        context: &mut Context,
        client: &Client,
        namespace: Option<&str>,
        table: &Table,
        mut version: String,
    ) -> Result {
        loop {
            match self
                .stream(context, client, namespace, table, &mut version)
                .await
            {
                // The server ends a watch now and then; it goes on from where it was.
                Ok(()) => {}
                // What was seen last is no longer remembered there: begin with what is now.
                Err(Watch::Old) => {
                    let (all, now) = list(client, namespace, self.selector.as_deref()).await?;
                    for function in &all {
                        self.change(context, table, function, "MODIFIED")?;
                    }
                    version = now;
                }
                Err(Watch::Ended(error)) => return Err(error),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn stream(
        &self,
        context: &mut Context,
        client: &Client,
        namespace: Option<&str>,
        table: &Table,
        version: &mut String,
    ) -> Result<(), Watch> {
        let since = version.clone();
        let mut query = vec![("watch", "true"), ("resourceVersion", since.as_str())];
        query.extend(self.selector.as_deref().map(|s| ("labelSelector", s)));
        let mut lines = client.lines(&collection(namespace), &query).await?;
        while let Some(event) = lines.next::<WatchEvent>().await? {
            if event.kind == "ERROR" {
                return Err(Watch::Old);
            }
            let seen = event.object["metadata"]["resourceVersion"].as_str();
            if let Some(seen) = seen {
                seen.clone_into(version);
            }
            if event.kind == "BOOKMARK" {
                continue;
            }
            let function: Function = serde_json::from_value(event.object).map_err(|e| {
                Watch::Ended(
                    Error::unexpected("the server sent a change that is no function").because(&e),
                )
            })?;
            self.change(context, table, &function, &event.kind)?;
        }
        Ok(())
    }

    fn change(
        &self,
        context: &mut Context,
        table: &Table,
        function: &Function,
        kind: &str,
    ) -> Result {
        if self.json {
            context.json_line(&serde_json::json!({ "type": kind, "object": function }))
        } else {
            let mut cells = self.cells(function, Timestamp::now());
            if kind == "DELETED"
                && let Some(status) = cells.last_mut()
            {
                "Deleted".clone_into(status);
            }
            context.line(table.later(cells))
        }
    }

    fn table(&self, functions: &[Function]) -> Table {
        let mut headings = vec![
            "NAME",
            "RUNTIME",
            "REVISION",
            "INSTANCES",
            "INVOCATIONS",
            "AGE",
            "STATUS",
        ];
        if self.all_namespaces {
            headings.insert(0, "NAMESPACE");
        }
        let mut table = Table::new(&headings);
        if self.watch {
            table.widen(if self.all_namespaces {
                &WATCHED
            } else {
                &WATCHED[1..]
            });
        }
        let now = Timestamp::now();
        for function in functions {
            table.row(self.cells(function, now));
        }
        table
    }

    fn cells(&self, function: &Function, now: Timestamp) -> Vec<String> {
        let status = function.status.clone().unwrap_or_default();
        let ready = status.instances.idle + status.instances.busy;
        let instances = match function.spec.scale.max {
            Some(max) => format!("{ready}/{max}"),
            None => ready.to_string(),
        };
        let mut cells = vec![
            function.metadata.name.clone(),
            function.spec.runtime.clone(),
            serving(&status),
            instances,
            status.invocations.to_string(),
            age(&function.metadata.creation_timestamp, now),
            match status.phase {
                Phase::Failed => format!("Failed: {}", cut(&status.message)),
                phase => format!("{phase:?}"),
            },
        ];
        if self.all_namespaces {
            cells.insert(0, function.metadata.namespace.clone());
        }
        cells
    }
}

/// Why a watch ended.
enum Watch {
    Old,
    Ended(Error),
}

impl From<crate::client::Error> for Watch {
    fn from(error: crate::client::Error) -> Self {
        if error.status() == Some(410) {
            Self::Old
        } else {
            Self::Ended(error.into())
        }
    }
}

impl From<Error> for Watch {
    fn from(error: Error) -> Self {
        Self::Ended(error)
    }
}

/// The revision that takes the calls, or how many share them.
fn serving(status: &FunctionStatus) -> String {
    let mut parts = status.traffic.iter().filter(|part| part.percent > 0);
    match (parts.next(), parts.count()) {
        (Some(part), 0) => short(&part.revision).to_owned(),
        (Some(_), more) => format!("{} share", more + 1),
        (None, _) => short(&status.revision).to_owned(),
    }
}

fn cut(message: &str) -> String {
    if message.chars().count() <= MESSAGE {
        return message.to_owned();
    }
    let head: String = message.chars().take(MESSAGE - 1).collect();
    format!("{head}…")
}
