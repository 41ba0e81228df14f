//! `revisions`.

use clap::Args;
use jiff::Timestamp;
use tidegate_core::Name;
use tidegate_document::{FunctionSpec, Revision, RevisionList, RevisionPhase};

use super::functions::{missing, path, short};
use crate::client::ANSWER;
use crate::context::Context;
use crate::error::Result;
use crate::table::Table;
use crate::time::age;

/// List the versions of a function that are kept, newest first
#[derive(Args)]
pub(crate) struct Revisions {
    /// The function
    name: Name,
    /// Print them as a JSON array
    #[arg(long)]
    json: bool,
}

impl Revisions {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        let name = self.name.as_str();
        let target = format!("{}/revisions", path(&context.namespace, name));
        let list: RevisionList = match client.get(&target, &[], ANSWER).await {
            Ok(list) => list,
            Err(error) => return Err(missing(&client, error, &context.namespace, name).await),
        };
        if self.json {
            return context.json(&list.items);
        }
        if list.items.is_empty() {
            context.note(format!("{name} has no revision yet"));
            return Ok(());
        }
        context.line(table(&list.items, Timestamp::now()).render())
    }
}

/// The digest of what runs: of the code, or of the image.
fn code(function: &FunctionSpec) -> &str {
    short(function.image.as_ref().unwrap_or(&function.code.digest))
}

fn table(revisions: &[Revision], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "REVISION",
        "NUMBER",
        "AGE",
        "STATUS",
        "TRAFFIC",
        "TAGS",
        "INSTANCES",
        "CALLS",
        "ERRORS",
        "CODE",
    ]);
    for revision in revisions {
        let status = &revision.status;
        let mut tags = status.tags.clone();
        if status.latest {
            tags.insert(0, "latest".to_owned());
        }
        let or_dash = |text: String| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text
            }
        };
        table.row(vec![
            revision.metadata.name.clone(),
            revision.spec.number.to_string(),
            age(&revision.metadata.creation_timestamp, now),
            match status.phase {
                RevisionPhase::RolledBack => "Rolled back".to_owned(),
                phase => format!("{phase:?}"),
            },
            match status.percent {
                0 => "-".to_owned(),
                percent => format!("{percent}%"),
            },
            or_dash(tags.join(",")),
            (status.instances.idle + status.instances.busy).to_string(),
            status.invocations.to_string(),
            status.errors.to_string(),
            or_dash(code(&revision.spec.function).to_owned()),
        ]);
    }
    table
}
