//! `namespace`.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use tidegate_core::Name;
use tidegate_document::{self, Metadata, NamespaceList};

use crate::client::{ANSWER, Client};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::table::Table;
use crate::time::age;

/// Create, list and delete namespaces
#[derive(Args)]
pub(crate) struct Namespace {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create a namespace
    Create {
        /// Its name
        name: Name,
    },
    /// Show or set all that functions of a namespace reach, whatever their own lists are
    ///
    /// It counts for instances that start from then on. Without a list, the functions' own lists count alone.
    Egress {
        /// Its name
        name: Name,
        /// A host, *.host or network, with :port where only one is meant
        #[arg(value_name = "HOST")]
        hosts: Vec<String>,
        /// Take the list away
        #[arg(long, conflicts_with = "hosts")]
        any: bool,
    },
    /// List namespaces
    #[command(visible_alias = "ls")]
    List {
        /// Print them as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Delete a namespace that holds no functions
    Delete {
        /// Its name
        name: Name,
        /// Do not fail if it is not there
        #[arg(long)]
        ignore_missing: bool,
    },
}

impl Namespace {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        match self.command {
            Command::Create { name } => {
                let wanted = tidegate_document::Namespace {
                    api_version: tidegate_document::API_VERSION.to_owned(),
                    kind: tidegate_document::NAMESPACE.to_owned(),
                    metadata: Metadata {
                        name: name.as_str().to_owned(),
                        ..Metadata::default()
                    },
                    spec: None,
                };
                let _: tidegate_document::Namespace =
                    client.put(&format!("/namespaces/{name}"), &wanted).await?;
                context.note(format!("created namespace {name}"));
            }
            Command::Egress { name, hosts, any } => {
                egress(context, &client, &name, hosts, any).await?;
            }
            Command::List { json } => {
                let list: NamespaceList = client.get("/namespaces", &[], ANSWER).await?;
                if json {
                    return context.json(&list.items);
                }
                let mut table = Table::new(&["NAME", "AGE"]);
                let now = Timestamp::now();
                for namespace in list.items {
                    let meta = namespace.metadata;
                    let age = age(&meta.creation_timestamp, now);
                    table.row(vec![meta.name, age]);
                }
                context.line(table.render())?;
            }
            Command::Delete {
                name,
                ignore_missing,
            } => match client.delete(&format!("/namespaces/{name}"), &[]).await {
                Ok(()) => context.note(format!("deleted namespace {name}")),
                Err(e) if e.status() == Some(404) && ignore_missing => {
                    context.note(format!("namespace {name} was not there"));
                }
                Err(e) if e.status() == Some(404) => {
                    return Err(Error::failed(format!("no namespace {name}"))
                        .hint("'tidegate namespace list' shows those that are there"));
                }
                Err(e) if e.status() == Some(409) => {
                    return Err(Error::from(e).hint(format!(
                        "'tidegate list --namespace {name}' shows what it holds"
                    )));
                }
                Err(e) => return Err(e.into()),
            },
        }
        Ok(())
    }
}

/// The annotation that holds the list, with commas.
const EGRESS: &str = "tidegate.dev/egress";

async fn egress(
    context: &mut Context,
    client: &Client,
    name: &Name,
    hosts: Vec<String>,
    any: bool,
) -> Result {
    let list: NamespaceList = client.get("/namespaces", &[], ANSWER).await?;
    let found = list
        .items
        .into_iter()
        .find(|found| found.metadata.name == name.as_str());
    let Some(found) = found else {
        return Err(Error::failed(format!("no namespace {name}"))
            .hint("'tidegate namespace list' shows those that are there"));
    };
    let mut annotations = found.metadata.annotations;
    if hosts.is_empty() && !any {
        match annotations.get(EGRESS) {
            Some(list) => context.line(list)?,
            None => context.note(format!("namespace {name} has no list of its own")),
        }
        return Ok(());
    }
    if any {
        annotations.remove(EGRESS);
    } else {
        annotations.insert(EGRESS.to_owned(), hosts.join(","));
    }
    // Written out, since no annotations at all would leave those that are there.
    let wanted =
        serde_json::json!({ "metadata": { "name": name.as_str(), "annotations": annotations } });
    let _: tidegate_document::Namespace =
        client.put(&format!("/namespaces/{name}"), &wanted).await?;
    context.note(if any {
        format!("new instances in {name} reach what their own lists allow")
    } else {
        let hosts = hosts.join(", ");
        format!("new instances in {name} reach {hosts} and other functions, and nothing else")
    });
    Ok(())
}
