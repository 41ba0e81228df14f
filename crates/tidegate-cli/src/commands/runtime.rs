//! `runtime`.

use clap::{Args, Subcommand};
use tidegate_document::{PullRequest, Runtime as Document, RuntimeList, RuntimeRequest};

use super::image::{encoded, is_here, pull, short};
use crate::client::ANSWER;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::table::Table;

/// Make languages' runtimes out of images, so that functions do not depend on what the machine has
#[derive(Args)]
pub(crate) struct Runtime {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a runtime of an image; functions that name it get new instances
    Add {
        /// What functions call it, such as python:3.13; 'python' alone takes the place of the machine's own
        name: String,
        /// The image that has the interpreter
        #[arg(long, value_name = "IMAGE")]
        image: String,
        /// A secret of the namespace with credentials for its registry; can be given many times
        #[arg(long = "pull-secret", value_name = "NAME")]
        pull_secrets: Vec<String>,
    },
    /// List the runtimes that are images
    #[command(visible_alias = "ls")]
    List {
        /// Print them as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Remove a runtime that is an image
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name
        name: String,
        /// Even while functions use it
        #[arg(long)]
        force: bool,
    },
}

impl Runtime {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        match self.command {
            Command::Add {
                name,
                image,
                pull_secrets,
            } => {
                if !is_here(&client, &image).await? {
                    let wanted = PullRequest {
                        image: image.clone(),
                        namespace: Some(context.namespace.clone()),
                        pull_secrets,
                    };
                    pull(context.draws(), &client, &wanted).await?;
                }
                let wanted = RuntimeRequest { image };
                let path = format!("/runtimes/{}", encoded(&name));
                let added: Document = client.put(&path, &wanted).await?;
                context.note(format!(
                    "runtime {} is image {} ({})",
                    added.name,
                    added.image,
                    short(&added.digest)
                ));
            }
            Command::List { json } => {
                let list: RuntimeList = client.get("/runtimes", &[], ANSWER).await?;
                if json {
                    return context.json(&list.items);
                }
                if list.items.is_empty() {
                    context.note(
                        "no runtimes that are images; 'tidegate doctor' shows the machine's own",
                    );
                    return Ok(());
                }
                let mut table = Table::new(&["NAME", "IMAGE", "DIGEST"]);
                for runtime in list.items {
                    let digest = short(&runtime.digest).to_owned();
                    table.row(vec![runtime.name, runtime.image, digest]);
                }
                context.line(table.render())?;
            }
            Command::Remove { name, force } => {
                let query: &[_] = if force { &[("force", "true")] } else { &[] };
                let path = format!("/runtimes/{}", encoded(&name));
                match client.delete(&path, query).await {
                    Ok(()) => context.note(format!("removed runtime {name}")),
                    Err(e) if e.status() == Some(404) => {
                        return Err(Error::failed(format!("no image is the runtime {name}"))
                            .hint("'tidegate runtime list' shows those that are there"));
                    }
                    Err(e) if e.status() == Some(409) => {
                        return Err(Error::from(e).hint("--force removes it all the same"));
                    }
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(())
    }
}
