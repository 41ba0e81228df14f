//! `login` and `logout`.

use std::io::Read;

use clap::Args;
use tidegate_document::NamespaceList;

use crate::client::{self, ANSWER, Client};
use crate::context::Context;
use crate::credentials::{self, File, FileError};
use crate::error::{Error, Result};
use crate::openfaas::{self, ConfigError};
use crate::paths;
use crate::run::DEFAULT_URL;

/// Longest key in bytes; keys are some dozens of characters.
const MAX_KEY: u64 = 16 << 10;

/// What stands for the key of a server that has none.
const NO_KEY: &str = "none";

/// Keep a key for a server, after trying it
#[derive(Args)]
pub(crate) struct Login {
    /// The server, instead of --url
    #[arg(value_name = "SERVER")]
    server: Option<String>,
    /// Read the key from standard input; --token gives it on the command line
    #[arg(long, conflicts_with = "token")]
    token_stdin: bool,
    /// Log in faas-cli too, and print the variables that it needs: eval "$(tidegate login --write-clients)"
    #[arg(long)]
    write_clients: bool,
}

/// Forget the key for a server
#[derive(Args)]
pub(crate) struct Logout {
    /// The server, instead of --url
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

impl Login {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        if let Some(server) = self.server {
            context.url = server;
        }
        // Who is logged in already, or runs the server, need not give the key again for the clients.
        let mut known = None;
        if self.write_clients && context.token.is_none() && !self.token_stdin {
            let url = Client::parse_url(&context.url)?;
            known = credentials::find(context.env(), &url, None)?;
            if known.is_none() && needs_no_key(context).await? {
                let shown = context.client()?.shown();
                context.note(format!("{shown} needs no key"));
                return write_clients(context, &shown);
            }
        }
        let token = match (&context.token, known) {
            (_, Some((token, _))) => token,
            (Some(token), _) if !self.token_stdin => token.trim().to_owned(),
            _ => {
                if context.process.terminal.stdin {
                    if !self.token_stdin {
                        return Err(Error::usage("no key was given").hint(
                            "give it with --token, or on standard input with --token-stdin",
                        ));
                    }
                } else if !self.token_stdin {
                    context.note("reading the key from standard input");
                }
                read_key(context)?
            }
        };
        if token.is_empty() {
            return Err(Error::usage("the key is empty"));
        }
        context.token = Some(token.clone());
        let client = context.client()?;
        if let Err(error) = try_key(&client).await {
            return Err(match error.status() {
                Some(401) => Error::failed(format!("{} does not accept the key", client.shown())),
                _ => error.into(),
            });
        }
        let path = paths::credentials_file(context.env()).ok_or(FileError::NoHome)?;
        let mut file = File::read(&path)?;
        file.set(client.base(), token);
        file.write(&path)?;
        context.note(format!(
            "logged in to {}; the key is kept in {}",
            client.shown(),
            path.display()
        ));
        let set = context.process.var("TIDEGATE_URL");
        if client.shown() != DEFAULT_URL && set.is_none_or(|url| url != client.shown().as_str()) {
            context.note(format!(
                "to use it without --url: export TIDEGATE_URL={}",
                client.shown()
            ));
        }
        match self.write_clients {
            true => write_clients(context, &client.shown()),
            false => Ok(()),
        }
    }
}

/// Asks for something that needs a key: the server's own page does not.
async fn try_key(client: &Client) -> Result<(), client::Error> {
    let tried: Result<NamespaceList, _> = client.get("/namespaces", &[], ANSWER).await;
    tried.map(drop)
}

/// Whether the server is open to everybody.
async fn needs_no_key(context: &mut Context) -> Result<bool> {
    match try_key(&context.client()?).await {
        Ok(()) => Ok(true),
        Err(error) if error.status() == Some(401) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes what other systems' command lines find their logins in, if there is a key, and prints the variables that they
/// want besides.
fn write_clients(context: &mut Context, url: &str) -> Result {
    let folder = openfaas::folder(context.env()).ok_or(ConfigError::NoHome)?;
    // Variables outlive the folder that they were made in.
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    let secret = match context.token.clone() {
        Some(key) => {
            let file = openfaas::log_in(&folder, url, &key)?;
            context.note(format!("faas-cli is logged in too: {}", file.display()));
            let parsed = Client::parse_url(url)?;
            match credentials::key_file(context.env(), &parsed, &key) {
                Some(path) => path,
                None => openfaas::keep_key(&folder, url, &key)?,
            }
        }
        // The builder's clients sign with something, whoever looks at it.
        None => openfaas::keep_key(&folder, url, NO_KEY)?,
    };
    let url = openfaas::plain(url);
    context.line(format!("export OPENFAAS_URL={}", quoted(&url)))?;
    let builder = quoted(&format!("{url}/build"));
    context.line(format!("export OPENFAAS_REMOTE_BUILDER={builder}"))?;
    context.line(format!(
        "export OPENFAAS_PAYLOAD_SECRET={}",
        quoted(&secret.display().to_string())
    ))
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        let told = Self::failed(&error);
        match std::error::Error::source(&error) {
            Some(source) => told.because(source),
            None => told,
        }
    }
}

impl Logout {
    pub(crate) fn run(self, context: &mut Context) -> Result {
        let url = Client::parse_url(self.server.as_deref().unwrap_or(&context.url))?;
        let shown = url.as_str().trim_end_matches('/');
        let path = paths::credentials_file(context.env()).ok_or(FileError::NoHome)?;
        let mut file = File::read(&path)?;
        if file.remove(&url) {
            file.write(&path)?;
            context.note(format!("forgot the key for {shown}"));
        } else {
            context.note(format!("there was no key for {shown}"));
        }
        if openfaas::key(context.env(), shown).is_some() {
            context.note("faas-cli is still logged in; 'faas-cli logout' ends that");
        }
        Ok(())
    }
}

fn read_key(context: &mut Context) -> Result<String> {
    let mut key = String::new();
    context
        .stdin()
        .take(MAX_KEY)
        .read_to_string(&mut key)
        .map_err(|e| Error::usage("cannot read a key from standard input").because(&e))?;
    Ok(key.trim().to_owned())
}
