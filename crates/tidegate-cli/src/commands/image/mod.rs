//! `image`.

mod pack;
mod pull;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use jiff::Timestamp;
use tidegate_document::{AliasRequest, Image as Document, ImageList, Pruned, PullRequest};

use crate::client::{self, ANSWER, Client};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::table::Table;
use crate::time::age;
pub(crate) use pull::{encoded, is_here, pull};

/// Digits of a digest that a list shows.
const DIGITS: usize = 12;

/// Get, list and remove container images
///
/// Images are kept by the server, which needs no other program to get or to run them. 'tidegate deploy --image' gets what is
/// not there by itself.
#[derive(Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Get an image from its registry, whatever is here under its name
    Pull {
        /// The image: alpine:3, or registry.example.org/team/name:tag
        image: String,
        /// A secret of the namespace with credentials, as 'docker login' writes them into config.json; can be given many times
        #[arg(long = "pull-secret", value_name = "NAME")]
        pull_secrets: Vec<String>,
        /// Print the image as JSON instead of its digest
        #[arg(long)]
        json: bool,
    },
    /// Send images to the server: an archive, a folder in the OCI image layout, or one that is a root file system
    Import {
        /// What 'docker save' or another tool has written, perhaps compressed, or a folder
        path: PathBuf,
        /// What the image is to be called, in place of the name in it
        #[arg(long, value_name = "IMAGE")]
        name: Option<String>,
        /// Print the images as a JSON array instead of their names
        #[arg(long)]
        json: bool,
    },
    /// List the images that the server has
    #[command(visible_alias = "ls")]
    List {
        /// Print them as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show everything about an image
    Inspect {
        /// Its name, its digest, or the first digits of that
        image: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Give an image a further name, such as the one that a function has for it
    Alias {
        /// Its name, its digest, or the first digits of that
        image: String,
        /// The name
        name: String,
    },
    /// Take a name from an image, or all its names where it is given by its digest
    ///
    /// What functions run stays on the disk. The rest goes with 'image prune'.
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name, its digest, or the first digits of that
        image: String,
        /// Do not fail if it is not there
        #[arg(long)]
        ignore_missing: bool,
    },
    /// Remove images that no function and no runtime uses
    Prune {
        /// Only those that have no name
        #[arg(long)]
        unnamed: bool,
        /// Print what was removed as JSON
        #[arg(long)]
        json: bool,
    },
}

impl Image {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        match self.command {
            Command::Pull {
                image,
                pull_secrets,
                json,
            } => {
                let client = context.client()?;
                let wanted = PullRequest {
                    image,
                    namespace: Some(context.namespace.clone()),
                    pull_secrets,
                };
                let pulled = pull(context.draws(), &client, &wanted).await?;
                if json {
                    return context.json(&pulled);
                }
                context.note(format!(
                    "pulled {} ({})",
                    wanted.image,
                    HumanBytes(pulled.size)
                ));
                context.line(&pulled.digest)
            }
            Command::Import { path, name, json } => import(context, path, name, json).await,
            Command::List { json } => list(context, json).await,
            Command::Inspect { image, json } => {
                let client = context.client()?;
                let found = get(&client, &image).await?;
                if json {
                    return context.json(&found);
                }
                let text = describe(&found, Timestamp::now());
                context.text(&text)
            }
            Command::Alias { image, name } => {
                let client = context.client()?;
                let wanted = AliasRequest { image, name };
                let sent = client.post::<Document>("/images/-/alias", &wanted).await;
                let named = sent.map_err(|e| missing(e, &wanted.image))?;
                context.note(format!("{} is also {}", short(&named.digest), wanted.name));
                Ok(())
            }
            Command::Remove {
                image,
                ignore_missing,
            } => {
                let client = context.client()?;
                match client
                    .delete(&format!("/images/{}", encoded(&image)), &[])
                    .await
                {
                    Ok(()) => context.note(format!("removed image {image}")),
                    Err(e) if e.status() == Some(404) && ignore_missing => {
                        context.note(format!("image {image} was not there"));
                    }
                    Err(e) => return Err(missing(e, &image)),
                }
                Ok(())
            }
            Command::Prune { unnamed, json } => {
                let client = context.client()?;
                let query: &[_] = if unnamed { &[("unnamed", "true")] } else { &[] };
                let pruned: Pruned = client.post_waiting("/images/-/prune", query, &()).await?;
                if json {
                    return context.json(&pruned);
                }
                context.note(match pruned.images {
                    0 => "nothing to remove".to_owned(),
                    1 => format!("removed 1 image, {}", HumanBytes(pruned.bytes)),
                    n => format!("removed {n} images, {}", HumanBytes(pruned.bytes)),
                });
                Ok(())
            }
        }
    }
}

async fn import(context: &mut Context, path: PathBuf, name: Option<String>, json: bool) -> Result {
    let client = context.client()?;
    // Walks a folder, which takes its time; nothing else has to go on meanwhile.
    let packed = pack::pack(&path)?;
    if packed.left_out > 0 {
        context.warn(format!(
            "left out {} devices, pipes and sockets of {}",
            packed.left_out,
            path.display()
        ));
    }
    let images = pull::import(context.draws(), &client, packed, name.as_deref()).await?;
    if json {
        return context.json(&images);
    }
    for image in &images {
        let size = HumanBytes(image.size);
        context.note(format!("imported {} ({size})", short(&image.digest)));
        match &name {
            Some(name) => context.line(name)?,
            None if image.names.is_empty() => context.line(&image.digest)?,
            None => {
                for name in &image.names {
                    context.line(name)?;
                }
            }
        }
    }
    Ok(())
}

async fn list(context: &mut Context, json: bool) -> Result {
    let client = context.client()?;
    let list: ImageList = client.get("/images", &[], ANSWER).await?;
    if json {
        return context.json(&list.items);
    }
    if list.items.is_empty() {
        context.note("no images; 'tidegate image pull' gets one");
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "DIGEST", "SIZE", "LAYERS", "MADE"]);
    let now = Timestamp::now();
    for image in list.items {
        let made = image
            .created
            .as_deref()
            .map_or_else(String::new, |created| match age(created, now).as_str() {
                "" => String::new(),
                age => format!("{age} ago"),
            });
        let rest = [
            short(&image.digest).to_owned(),
            HumanBytes(image.size).to_string(),
            image.layers.len().to_string(),
            made,
        ];
        let names = if image.names.is_empty() {
            vec!["-".to_owned()]
        } else {
            image.names
        };
        for name in names {
            let mut row = vec![name];
            row.extend(rest.iter().cloned());
            table.row(row);
        }
    }
    context.line(table.render())
}

async fn get(client: &Client, image: &str) -> Result<Document> {
    client
        .get(&format!("/images/{}", encoded(image)), &[], ANSWER)
        .await
        .map_err(|e| missing(e, image))
}

fn missing(error: client::Error, image: &str) -> Error {
    if error.status() == Some(404) {
        return Error::failed(format!("no image {image}"))
            .hint("'tidegate image list' shows those that are there");
    }
    error.into()
}

fn describe(image: &Document, now: Timestamp) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("{name:<13}{value}\n"));
        }
    };
    let mut heading = "Names:";
    for name in &image.names {
        row(heading, name);
        heading = "";
    }
    row("Digest:", &image.digest);
    if let Some(created) = &image.created {
        row("Made:", &format!("{created} ({} ago)", age(created, now)));
    }
    row("Platform:", &image.platform);
    row("Size:", &HumanBytes(image.size).to_string());
    row("Entry point:", &words(&image.entrypoint));
    row("Command:", &words(&image.cmd));
    let mut heading = "Environment:";
    for (name, value) in &image.env {
        row(heading, &format!("{name}={value}"));
        heading = "";
    }
    row("Folder:", &image.workdir);
    row("User:", &image.user);
    let ports: Vec<String> = image.ports.iter().map(ToString::to_string).collect();
    row("Ports:", &ports.join(", "));
    row("Stop signal:", image.stop_signal.as_deref().unwrap_or(""));
    let mut heading = "Labels:";
    for (name, value) in &image.labels {
        row(heading, &format!("{name}={value}"));
        heading = "";
    }
    let mut heading = "Layers:";
    for layer in &image.layers {
        row(
            heading,
            &format!("{} {}", short(&layer.digest), HumanBytes(layer.size)),
        );
        heading = "";
    }
    text
}

/// Words as a shell would take them.
fn words(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@+%".contains(c);
    let quoted = words.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The first digits of a digest.
pub(crate) fn short(digest: &str) -> &str {
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    digits.get(..DIGITS).unwrap_or(digits)
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_are_shown_as_a_shell_takes_them() {
        let words: Vec<String> = ["sh", "-c", "echo 'a'", ""].map(str::to_owned).into();
        assert_eq!(super::words(&words), r"sh -c 'echo '\''a'\''' ''");
    }
}
