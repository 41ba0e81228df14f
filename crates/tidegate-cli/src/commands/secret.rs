//! `secret`.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use tidegate_core::{Name, format_bytes};
use tidegate_document::{SecretInfo, SecretList, SecretValue};

use crate::client::ANSWER;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::table::Table;
use crate::time::age;

/// Largest value that is read, in bytes. The server's own limit is lower; this one only keeps a wrong path from being sent.
const MAX_VALUE: u64 = 1 << 20;

/// Set, list and delete secrets
#[derive(Args)]
pub(crate) struct Secret {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set a secret to a value, kept as it is to the last byte
    ///
    /// Functions that use it are restarted one after the other.
    Set {
        /// Its name
        name: Name,
        /// Read the value from standard input: -
        #[arg(value_name = "-", value_parser = ["-"])]
        stdin: Option<String>,
        /// The value; others on this machine can see it in the list of processes, so prefer the other ways
        #[arg(long, conflicts_with_all = ["stdin", "from_file"])]
        value: Option<String>,
        /// Read the value from a file
        #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
        from_file: Option<PathBuf>,
    },
    /// List secrets, never their values
    #[command(visible_alias = "ls")]
    List {
        /// Print them as a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Delete a secret
    Delete {
        /// Its name
        name: Name,
        /// Even while functions use it
        #[arg(long)]
        force: bool,
        /// Do not fail if it is not there
        #[arg(long)]
        ignore_missing: bool,
    },
}

impl Secret {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let base = format!("/namespaces/{}/secrets", context.namespace);
        match self.command {
            Command::Set {
                name,
                stdin,
                value,
                from_file,
            } => {
                // A terminal that waits for a value looks like a command that hangs, so it has to be asked for.
                if stdin.is_none() && value.is_none() && from_file.is_none() {
                    return Err(Error::usage(format!("no value for secret {name}")).hint(
                        "'-' reads it from standard input; the other ways are --from-file and --value",
                    ));
                }
                let value = read(context, value, from_file)?;
                let client = context.client()?;
                let sent = SecretValue {
                    value: STANDARD.encode(&value),
                };
                let info: SecretInfo = client.put(&format!("{base}/{name}"), &sent).await?;
                context.note(format!("set secret {name} ({} bytes)", info.size));
            }
            Command::List { json } => {
                let client = context.client()?;
                let list: SecretList = client.get(&base, &[], ANSWER).await?;
                if json {
                    return context.json(&list.items);
                }
                if list.items.is_empty() {
                    context.note(format!("no secrets in namespace {}", context.namespace));
                    return Ok(());
                }
                let mut table = Table::new(&["NAME", "SIZE", "AGE"]);
                let now = Timestamp::now();
                for secret in list.items {
                    let age = age(&secret.created, now);
                    table.row(vec![secret.name, format_bytes(secret.size), age]);
                }
                context.line(table.render())?;
            }
            Command::Delete {
                name,
                force,
                ignore_missing,
            } => {
                let client = context.client()?;
                let query: &[_] = if force { &[("force", "true")] } else { &[] };
                match client.delete(&format!("{base}/{name}"), query).await {
                    Ok(()) => context.note(format!("deleted secret {name}")),
                    Err(e) if e.status() == Some(404) && ignore_missing => {
                        context.note(format!("secret {name} was not there"));
                    }
                    Err(e) if e.status() == Some(404) => {
                        return Err(Error::failed(format!(
                            "no secret {name} in namespace {}",
                            context.namespace
                        )));
                    }
                    Err(e) if e.status() == Some(409) => {
                        return Err(Error::from(e).hint("--force deletes it all the same"));
                    }
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(())
    }
}

fn read(context: &mut Context, value: Option<String>, file: Option<PathBuf>) -> Result<Vec<u8>> {
    if let Some(value) = value {
        return Ok(value.into_bytes());
    }
    let (reader, what): (Box<dyn Read + Send>, _) = match file {
        Some(path) => {
            let shown = path.display().to_string();
            let file = File::open(&path)
                .map_err(|e| Error::usage(format!("cannot read {shown}")).because(&e))?;
            (Box::new(file), shown)
        }
        None => {
            if context.process.terminal.stdin {
                context.note("type the value, then Ctrl-D");
            }
            (context.stdin(), "standard input".to_owned())
        }
    };
    let mut value = Vec::new();
    reader
        .take(MAX_VALUE + 1)
        .read_to_end(&mut value)
        .map_err(|e| Error::usage(format!("cannot read {what}")).because(&e))?;
    if value.len() as u64 > MAX_VALUE {
        return Err(Error::usage(format!(
            "{what} is larger than {} KiB, too much for a secret",
            MAX_VALUE >> 10
        )));
    }
    if value.ends_with(b"\n") && !value[..value.len() - 1].contains(&b'\n') {
        context.warn("the value ends with a line break, which is kept; 'printf %s' writes none");
    }
    Ok(value)
}
